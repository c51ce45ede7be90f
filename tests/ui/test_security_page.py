"""Markup in names, in a real browser: shown as text, never run; and the page lives with its own policy."""

import io
import json
import shutil
from importlib.util import find_spec

import pytest
from PIL import Image, PngImagePlugin

from ehmfaces.provenance import KEY

BROWSER = shutil.which("chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
)
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not BROWSER, reason="chromium is not installed"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]
MARKUP = "<img src=x onerror=alert(1)>"
ROSTER = f"""First Name,Second Name,Date Of Birth
{MARKUP},<script>alert(2)</script>,1.2.2003
[a](javascript:alert(3)),![b](http://203.0.113.5/b.png),2.2.2003
"<svg onload=alert(4)>","<iframe srcdoc='<script>alert(5)</script>'>",3.2.2003
{MARKUP},NoDate,99.99.1999
"""


@pytest.fixture(scope="module")
def page(page_url):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(20_000)
        page.alerts, page.complaints, page.answered = [], [], []
        page.on("dialog", lambda dialog: (page.alerts.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
        page.on("response", lambda response: page.answered.append(response.url))
        page.goto(page_url)
        yield page
        browser.close()


def elements_of_names(page):
    """Count elements that only markup from the roster can have made."""
    return page.evaluate(
        "document.querySelectorAll(\"img[src='x'], svg[onload], iframe[srcdoc], a[href^='javascript:'], "
        "img[src*='203.0.113']\").length"
    )


def test_markup_in_a_roster_is_text(page, page_url):
    page.get_by_role("tab", name="Facepack", exact=True).first.click()
    roster = {"name": f"{MARKUP}.csv", "mimeType": "text/csv", "buffer": ROSTER.encode()}
    page.locator("input[type=file]:visible, .tabitem:visible input[type=file]").first.set_input_files(roster)
    page.get_by_text("portraits can be made").wait_for()
    page.locator(".ehm-table").get_by_text("<script>alert(2)</script>").last.wait_for()
    page.get_by_role("button", name="Make the facepack").click()
    page.get_by_text("Done:").wait_for()
    page.wait_for_timeout(500)
    assert elements_of_names(page) == 0
    assert page.alerts == []


def test_markup_in_a_record_is_text(page):
    info = PngImagePlugin.PngInfo()
    values = {
        "ehmfaces_version": "1", "model_id": f"{MARKUP} ![b](http://203.0.113.5/c.png)", "model_hash": "0",
        "seed": 77, "truncation_psi": 0.5, "truncation_cutoff": None, "noise_mode": "const", "mixing": None,
        "cutout": "deeplab", "portrait_format": "ehm", "background": "none",
    }  # fmt: skip
    info.add_text(KEY, json.dumps(values))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    page.get_by_role("tab", name="Generate", exact=True).first.click()
    page.get_by_role("button", name="More").first.click()
    page.get_by_text("Drop a PNG made here").first.wait_for()
    page.wait_for_timeout(500)
    picture = {"name": "face.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    page.locator("input[type=file]").first.set_input_files(picture)
    page.get_by_text("Settings of seed 77 are back").wait_for()
    page.wait_for_timeout(300)
    assert page.alerts == []
    assert page.evaluate("document.querySelectorAll('img[onerror]').length") == 0


def test_all_tabs_live_with_the_policy_and_ask_nobody_else(page, page_url):
    for name in ("Mix", "Cut out", "API", "About", "Generate"):
        page.get_by_role("tab", name=name, exact=True).first.click()
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Generate", exact=True).last.click()
    page.locator(".ehm-faces img:visible").first.wait_for()
    outside = [url for url in page.answered if not url.startswith((page_url, "data:", "blob:"))]
    assert outside == []
    complaints = [text for text in page.complaints if "203.0.113" not in text]
    assert complaints == []
