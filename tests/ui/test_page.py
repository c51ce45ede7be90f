"""One path through the page in a real browser: example roster, reading, start, ZIP."""

import shutil
import zipfile
from importlib.util import find_spec

import pytest

from ehmfaces.provenance import Provenance

BROWSER = shutil.which("chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not BROWSER, reason="chromium is not installed"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield opened
        opened.close()


def open_tab(browser, page_url, name, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(20_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_url)
    page.get_by_role("tab", name=name, exact=True).first.click()
    return page, asked


def test_from_the_example_roster_to_a_sound_zip(browser, page_url, tmp_path):
    page, asked = open_tab(browser, page_url, "Facepack", 1280)
    page.get_by_role("button", name="Take the example roster").click()
    page.get_by_text("24 portraits").wait_for()
    page.locator(".ehm-table").get_by_text("players/Nils_Ekvarnsson_14_3_2004.png").last.wait_for()
    page.get_by_label("At most").fill("4")
    page.get_by_role("button", name="Make the facepack").click()
    page.get_by_text("Done: 4 portraits made").wait_for()
    with page.expect_download() as download:
        page.locator("a[href$='facepack.zip']").first.click()
    download.value.save_as(tmp_path / "pack.zip")
    with zipfile.ZipFile(tmp_path / "pack.zip") as pack:
        assert pack.testzip() is None
        pictures = [name for name in pack.namelist() if name.endswith(".png")]
        assert len(pictures) == 4
        assert Provenance.read(pack.read(pictures[0])).model_id == "tests/tiny"
    outside = [url for url in asked if not url.startswith((page_url, "data:", "blob:"))]
    assert outside == []
    page.close()


def test_a_phone_needs_no_sideways_scrolling(browser, page_url):
    page, _ = open_tab(browser, page_url, "Generate", 390)
    page.get_by_role("button", name="Generate", exact=True).last.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_wrong_seed_shows_its_sentence(browser, page_url):
    page, _ = open_tab(browser, page_url, "Generate", 1000)
    page.get_by_role("textbox").first.fill("seven")
    page.get_by_role("button", name="Generate", exact=True).last.click()
    page.get_by_text("is not a whole number").wait_for()
    page.close()
