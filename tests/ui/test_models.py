"""Several models on one page: which are offered, which are in memory, and whose choice is whose."""

import gc
import threading
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ehmfaces.client import Client
from ehmfaces.convert.checkpoint import save_checkpoint
from ehmfaces.cutout.base import load_cutout_backend
from ehmfaces.errors import EHMFacesError, InputError, ModelError
from ehmfaces.model_folder import EMBEDDED_ID, ModelFacts
from ehmfaces.pipeline import FacePipeline
from ehmfaces.provenance import Provenance
from ehmfaces.ui.app import build_app, launch
from ehmfaces.ui.generate_tab import make_generate, make_restore
from ehmfaces.ui.mix_tab import make_blend, make_mix
from ehmfaces.ui.model_picker import describe_model, make_show, model_choices
from ehmfaces.ui.model_shelf import DEFAULT, MODELS_VARIABLE, ModelShelf
from ehmfaces.ui.session import Limits, Session
from tests.hub_server import OWNER_TOKEN

pytestmark = pytest.mark.filterwarnings("ignore")
OTHER = "tests/other"


@pytest.fixture
def two_models(hub, model_dir, cutout_dir, tiny_pipeline):
    """A page's session with the default and one more, whose weights are the default's times a half."""
    other = FacePipeline.from_pretrained(model_dir)
    for value in other.generator.parameters():
        value.mul_(0.5)
    other.push_to_hub(OTHER, token=OWNER_TOKEN)
    hub.log.clear()

    return Session(str(model_dir), Limits(), load_tiny_cutout(cutout_dir), models=[OTHER])


def load_tiny_cutout(cutout_dir):
    return lambda name: load_cutout_backend(name, directory=cutout_dir)


def pixels(face):
    with Image.open(face[0]) as image:
        return np.asarray(image)


def test_each_request_has_the_model_it_asked_for(two_models):
    generate = make_generate(two_models)
    first, other, again = (generate("3", 1, model=name)[0] for name in (DEFAULT, OTHER, ""))
    assert Provenance.read(Path(other[0])).model_id == OTHER
    assert np.array_equal(pixels(first), pixels(again))
    assert not np.array_equal(pixels(first), pixels(other))
    assert Provenance.read(Path(make_mix(two_models)("1", "2", model=OTHER))).model_id == OTHER
    blended = make_blend(two_models)("1", "2", 0.5, 0.7, "ehm", "none", OTHER)
    assert {Provenance.read(Path(path)).model_id for path, _ in blended} == {OTHER}


@pytest.mark.parametrize(
    "name",
    ["tests/elsewhere", "../../etc", "/etc/passwd", "http://127.0.0.1:1/x", f"{OTHER}@main", "x" * 500],
)
def test_nothing_outside_the_list_is_asked_for(two_models, hub, name):
    with pytest.raises(gr.Error) as caught:
        make_generate(two_models)("3", 1, model=name)
    assert "is not offered here" in caught.value.message
    assert len(caught.value.message) < 250
    assert not hub.log


def test_few_models_stay_in_memory(hub, model_dir):
    names = ["tests/a", "tests/b"]
    for name in names:
        hub.add_folder(name, model_dir)
    shelf = ModelShelf(str(model_dir), names, capacity=2)
    first = shelf.pipeline()
    shelf.pipeline("tests/a")
    assert shelf.pipeline() is first
    shelf.pipeline("tests/b")
    assert shelf.loaded == [DEFAULT, "tests/b"]
    assert shelf.pipeline() is first


def test_a_slow_download_holds_up_nobody_else(hub, model_dir):
    hub.add_folder(OTHER, model_dir)
    shelf = ModelShelf(str(model_dir), [OTHER])
    first = shelf.pipeline()
    hub.delay_sec = 0.3
    thread = threading.Thread(target=shelf.pipeline, args=(OTHER,))
    thread.start()
    while not hub.log:
        time.sleep(0.005)
    assert shelf.pipeline() is first
    assert thread.is_alive()
    thread.join(30)
    assert shelf.loaded == [DEFAULT, OTHER]


def test_two_who_ask_at_once_get_one_model(hub, model_dir):
    hub.add_folder(OTHER, model_dir)
    shelf, got = ModelShelf(str(model_dir), [OTHER]), []
    threads = [threading.Thread(target=lambda: got.append(shelf.pipeline(OTHER))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 3
    assert len(set(map(id, got))) == 1


def test_the_environment_lists_models(monkeypatch, model_dir):
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    assert ModelShelf(None).names == [DEFAULT]
    monkeypatch.setenv(MODELS_VARIABLE, "org/a@v1, org/b ,org/a@v1,")
    assert ModelShelf(None).names == [DEFAULT, "org/a@v1", "org/b"]
    assert ModelShelf(str(model_dir)).names == [DEFAULT, "org/a@v1", "org/b", EMBEDDED_ID]
    monkeypatch.setenv("EHMFACES_MODEL", "org/b")
    assert ModelShelf(None).names == [DEFAULT, "org/a@v1", EMBEDDED_ID]
    assert ModelShelf(None).source(DEFAULT) == "org/b"
    monkeypatch.setenv(MODELS_VARIABLE, "org/a, /srv/models/mine")
    with pytest.raises(InputError, match=f"{MODELS_VARIABLE}: .*no Hub id"):
        ModelShelf(None)


def test_what_is_shown_of_a_model(two_models, hub):
    assert model_choices(two_models) == [("tests/tiny (default)", DEFAULT), (OTHER, OTHER)]
    assert two_models.models.facts(OTHER, fetch=False) is None
    assert not hub.log  # building the page asks nobody
    facts = two_models.models.facts(OTHER)
    assert (facts.model_id, facts.resolution, facts.license) == (OTHER, 16, None)
    assert facts.parameters == sum(p.numel() for p in two_models.pipeline.generator.parameters())
    line, choice = make_show(two_models)(OTHER)
    assert line == describe_model(facts)
    assert "licence not stated" in line
    assert choice == gr.skip()


def test_words_of_a_model_are_not_markdown():
    facts = ModelFacts("<img src=x onerror=alert(1)>*[a](b)", "StyleGAN2Generator", 64, 10**6, "`mit`", None)
    line = describe_model(facts)
    assert not set(line.replace("**", "")) & set("<>*[]()`=")
    assert "64 × 64 px · 1.0 M parameters · licence mit" in line


def test_a_picture_brings_its_model_back(two_models):
    restore = make_restore(two_models)
    face = make_generate(two_models)("5", 1, model=OTHER)[0]
    assert restore(face[0])[7] == OTHER
    elsewhere = Session(str(two_models.models.source(DEFAULT)), models=[])
    *fields, sentence = make_restore(elsewhere)(face[0])
    assert fields[7] == gr.skip()
    assert fields[8:] == ["any", 0, 0, 0, 0]
    assert sentence.endswith("That model is not offered here.")


def test_a_model_that_is_gone_is_a_sentence(two_models, hub):
    hub.repos.clear()
    with pytest.raises(ModelError, match="shows no model"):
        two_models.models.facts(OTHER)
    line, choice = make_show(two_models)(OTHER)
    assert line.startswith("**tests/tiny**")
    assert choice == DEFAULT
    with pytest.raises(gr.Error, match="shows no model"):
        make_generate(two_models)("3", 1, model=OTHER)


def ask_page(session, tmp_path):
    """Open the page, ask for a grid and a face as a program would, and close it."""
    demo = build_app(session)
    _, url, _ = launch(demo, prevent_thread_lock=True, quiet=True)
    try:
        with Client(url) as client:
            grid = client.mix("7", "8", out=tmp_path / "grid.png")
            faces = client.generate("7", out=tmp_path / "faces", portrait_format="full")
            with pytest.raises(EHMFacesError, match="not in the list"):
                client.generate("7", out=tmp_path / "no", model="tests/imported")
    finally:
        demo.close(verbose=False)
    return grid, faces


@pytest.mark.parametrize(
    "file",
    [
        "fake_ada_repo_layout_sg2_16_proto3.pkl",
        pytest.param("fake_sg3_repo_layout_sg3t_16.pkl", marks=pytest.mark.slow),
    ],
)
def test_import_push_pull_open_generate(hub, shared, cutout_dir, tmp_path, file):
    """The whole way of a foreign checkpoint: the page shows the pixels that it had before it was pushed."""
    save_checkpoint(shared / "parity" / file, tmp_path / "imported", "G_ema")
    before = FacePipeline.from_pretrained(tmp_path / "imported")
    pictures = [np.asarray(image) for image in before([7, 8], 0.7).images]
    before.push_to_hub("tests/imported", token=OWNER_TOKEN)
    commit = hub.repos["tests/imported"].branches["main"]

    session = Session(f"tests/imported@{commit}", Limits(), load_tiny_cutout(cutout_dir), models=[])
    grid, faces = ask_page(session, tmp_path)
    gc.collect()  # gradio leaves event loops behind; they complain here and not in somebody else's test
    shown = np.asarray(Image.open(grid))
    side = before.resolution
    assert np.array_equal(shown[side + 2 : 2 * side + 2, :side], pictures[0])
    assert np.array_equal(shown[:side, side + 2 : 2 * side + 2], pictures[1])
    renderer = session.renderer("full", "none", 0.7, "const", "deeplab")
    renderer.pipeline = before
    assert np.array_equal(
        np.asarray(Image.open(faces[0])), np.asarray(renderer.compose(before([7], 0.7).images[0]))
    )
    record = Provenance.read(faces[0])
    assert (record.model_id, record.model_hash) == ("tests/imported", before.model_hash)
