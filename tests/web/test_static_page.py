"""The page that needs no server, in real Chromium, against the same faces made by PyTorch."""

import functools
import http.server
import importlib.util
import json
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ehmfaces.hub import load_pipeline
from ehmfaces.provenance import Provenance
from ehmfaces.seeds import latents_from_seeds

STATIC = Path(__file__).resolve().parents[2] / "spaces" / "static"


@pytest.mark.parametrize("seed", [0, 1, 85, 123456789, 2**32 - 1])
def test_javascript_draws_the_numbers_of_numpy(seed):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    code = (
        f'import {{ latentFromSeed }} from "{(STATIC / "page" / "random.js").as_uri()}";'
        f"console.log(JSON.stringify(Array.from(latentFromSeed({seed}, 701))))"
    )
    command = [node, "--no-warnings", "--input-type=module", "-e", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert np.allclose(json.loads(output), latents_from_seeds([seed], 701)[0], rtol=1e-14, atol=0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built page on loopback; yields its address."""
    spec = importlib.util.spec_from_file_location("static_build", STATIC / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder = tmp_path_factory.mktemp("web")
    try:
        build.fetch_runtime(folder)
    except RuntimeError as error:
        if "could not fetch" not in str(error) and "not found" not in str(error):
            raise
        pytest.skip(str(error))
    assert build.main([str(folder)]) == 0
    yield from serve(folder)


def serve(folder):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def download(page, tmp_path):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download PNG").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def pixels_of(picture):
    return np.asarray(picture.convert("RGB")).astype(int)


def wait_for_picture(page, change):
    page.evaluate("document.getElementById('status').textContent = ''")
    change()
    page.get_by_text("Made in").wait_for(timeout=60_000)


@pytest.mark.slow
def test_the_page_makes_the_faces_of_python(site, browser, tmp_path):
    page = browser.new_page(viewport={"width": 360, "height": 740})
    problems, sizes, hosts = [], [], set()
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", 0))))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(f"{site}/?seed=7")
    page.get_by_text("Made in").wait_for(timeout=120_000)
    pipeline = load_pipeline(None, "cpu", "torch", "float32")

    path = download(page, tmp_path)
    assert path.name == "seed0000000007.png"
    with Image.open(path) as picture:
        difference = np.abs(pixels_of(picture) - pixels_of(pipeline([7]).images[0]))
    assert difference.max() <= 1
    record = Provenance.read(path)
    assert (record.seed, record.truncation_psi, record.engine) == (7, 0.7, "onnxruntime-web")
    assert record.synthetic
    assert record.model_hash == pipeline.model_hash

    wait_for_picture(page, lambda: page.get_by_role("button", name="Next face").press("Enter"))
    assert page.get_by_label("Seed", exact=True).input_value() == "8"
    wait_for_picture(page, lambda: page.get_by_label("Mix with a second face").press("Space"))
    mixed = download(page, tmp_path)
    record = Provenance.read(mixed)
    expected = pipeline.mix([8], [1], record.mixing["col_styles"]).images[0]
    with Image.open(mixed) as picture:
        assert np.abs(pixels_of(picture) - pixels_of(expected)).max() <= 1

    page.get_by_label("Seed", exact=True).fill("1.5")
    page.get_by_text("not a whole number").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not problems
    assert hosts <= {site.removeprefix("http://"), ""}
    assert 15e6 < sum(sizes) < 22e6
    page.close()
