"""One page with tiny real models, served once on loopback for all tests here."""

import asyncio
import gc
import json
import os
import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture(scope="session")
def model_dir(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline.generator.save_pretrained(folder / "generator")
    index = {"model_id": "tests/tiny", "background_color": [31, 44, 56]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="session")
def cutout_dir(tmp_path_factory):
    import torch

    from ehmfaces.cutout.deeplab_backend import CutoutConfig, CutoutNetwork, save_cutout_network

    torch.manual_seed(1)
    network = CutoutNetwork(CutoutConfig(input_size_px=32, coarse_channels=4, decoder_channels=(4, 4, 4)))
    folder = tmp_path_factory.mktemp("cutout")
    save_cutout_network(network, folder)
    return folder


@pytest.fixture(scope="session")
def make_session(model_dir, cutout_dir):
    from ehmfaces.cutout.base import load_cutout_backend
    from ehmfaces.ui.session import Limits, Session

    def load_cutout(name):
        options = {"directory": cutout_dir} if name == "deeplab" else {}
        return load_cutout_backend(name, **options)

    def make(**limits):
        return Session(str(model_dir), Limits(**limits), load_cutout)

    return make


@pytest.fixture(scope="session")
def session(make_session):
    return make_session(refresh_sec=0.0)


@pytest.fixture(scope="session")
def page_demo(session):
    from ehmfaces.ui.app import build_app, launch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        demo = build_app(session)
        launch(demo, prevent_thread_lock=True, quiet=True)
    yield demo
    demo.close(verbose=False)


@pytest.fixture(scope="session")
def page_url(page_demo):
    return page_demo.local_url.rstrip("/")


@pytest.fixture
def set_rules(page_demo):
    """Change the rules of the page during one test."""
    from ehmfaces.ui.settings import LOCAL

    door = next(item for item in page_demo.app.user_middleware if "state" in item.kwargs)
    state = door.kwargs["state"]
    yield lambda **changes: state.apply(replace(LOCAL, **changes))
    state.apply(LOCAL)


@pytest.fixture(scope="module")
def serve_page():
    """Serve further pages on loopback, with rules of their own; gives the page and its address."""
    from ehmfaces.ui.app import build_app, launch
    from ehmfaces.ui.settings import LOCAL

    opened = []

    def serve(session, rules=LOCAL):
        with _quiet():
            demo = build_app(session)
            _, url, _ = launch(demo, rules=rules, prevent_thread_lock=True, quiet=True)
        opened.append(demo)
        return demo, url.rstrip("/")

    yield serve
    with _quiet():
        for demo in opened:
            demo.close(verbose=False)


@contextmanager
def _quiet():
    """Let go of the event loops that gradio leaves unclosed at every start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        asyncio.set_event_loop(None)
        gc.collect()
