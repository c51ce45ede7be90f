"""Models on a Hub that speaks the real protocol on loopback: down, up, broken off, private, wrong, full."""

import errno
import hashlib
import io
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ehmfaces import repository
from ehmfaces.errors import InputError, ModelError, UnsupportedModelError
from ehmfaces.hub import load_pipeline
from ehmfaces.model_card import CardWords
from ehmfaces.pipeline import FacePipeline
from ehmfaces.repository import MAX_GB_VARIABLE, fetch, split_name
from tests.hub_server import OWNER_TOKEN, STRANGER_TOKEN

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # inside the Hub's client
NAME = "tests/tiny"
WEIGHTS = "generator/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="session")
def saved(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def published(hub, saved):
    hub.add_folder(NAME, saved)
    return hub


def weights_sha(saved):
    return hashlib.sha256((saved / WEIGHTS).read_bytes()).hexdigest()


def partials(tmp_path):
    return list((tmp_path / "cache").rglob("*.partial"))


def test_a_pulled_model_makes_the_same_pictures(published, tiny_pipeline):
    pulled = FacePipeline.from_pretrained(NAME)
    assert pulled.model_hash == tiny_pipeline.model_hash
    assert pulled.background_color == (31, 44, 56)
    assert np.array_equal(np.asarray(pulled([5]).images[0]), np.asarray(tiny_pipeline([5]).images[0]))


def test_the_second_pull_downloads_nothing(published):
    first = fetch(NAME).folder
    assert published.downloads()
    published.log.clear()
    assert fetch(NAME).folder == first
    assert not published.downloads()
    assert len(published.log) == 1  # one question: which commit is the newest?


def test_a_commit_in_the_cache_needs_no_hub_at_all(published):
    commit = published.repos[NAME].branches["main"]
    fetch(NAME, commit)
    published.log.clear()
    fetch(NAME, commit)
    assert not published.log


def test_only_json_and_safetensors_of_the_generator_are_fetched(hub, saved, tmp_path):
    hub.add_folder(NAME, saved)
    others = {"G.pkl": b"p", "discriminator/x.safetensors": b"d", "handler.py": b"import os"}
    others["directions.safetensors"] = b"belongs to the generator"
    card = {"README.md": b"---\nlicense: mit\n---\n"}
    hub.add(NAME, others | card | {"optimizer.bin": b"b", "notes.json": b"{}"})
    snapshot = fetch(NAME)
    here = {path.relative_to(snapshot.folder).as_posix() for path in snapshot.folder.rglob("*.*")}
    assert here == {"model_index.json", "directions.safetensors", "generator/config.json", WEIGHTS}
    assert snapshot.license == "mit"


def test_a_new_commit_fetches_only_what_changed(published):
    fetch(NAME)
    published.add(NAME, {"model_index.json": b'{"model_id": "tests/renamed"}'})
    published.log.clear()
    assert FacePipeline.from_pretrained(NAME).model_id == "tests/renamed"
    assert not [r for r in published.log if "/cdn/" in r.path]


def test_branches_and_the_at_sign_choose_a_revision(published, tiny_pipeline):
    published.add(NAME, {"model_index.json": b'{"model_id": "tests/old"}'}, branch="old")
    published.repos[NAME].commits[published.repos[NAME].branches["old"]] |= published.repos[NAME].files(
        "main"
    )
    published.add(NAME, {"model_index.json": b'{"model_id": "tests/old"}'}, branch="old")
    assert FacePipeline.from_pretrained(f"{NAME}@old").model_id == "tests/old"
    assert FacePipeline.from_pretrained(NAME, revision="old").model_id == "tests/old"
    assert FacePipeline.from_pretrained(NAME).model_id == tiny_pipeline.model_id


def test_the_environment_chooses_id_and_revision(published, monkeypatch):
    commit = published.repos[NAME].branches["main"]
    published.add(NAME, {"model_index.json": b'{"model_id": "tests/newer"}'})
    monkeypatch.setenv("EHMFACES_MODEL", f"{NAME}@{commit}")
    assert load_pipeline(device="cpu").model_id == NAME


def test_a_download_that_breaks_off_goes_on_where_it_stopped(published, saved):
    published.breaks = [1500]
    fetch(NAME)
    first, second = [r for r in published.log if "/cdn/" in r.path]
    assert (first.sent_bytes, second.range) == (1500, "bytes=1500-")
    assert second.sent_bytes == (saved / WEIGHTS).stat().st_size - 1500


def test_a_later_run_goes_on_too(published, saved, tmp_path, monkeypatch):
    partial = tmp_path / "cache" / f"models--{NAME.replace('/', '--')}" / "blobs" / weights_sha(saved)
    partial.parent.mkdir(parents=True)
    content = (saved / WEIGHTS).read_bytes()
    partial.with_name(partial.name + ".ehmfaces.partial").write_bytes(content[:1000])
    snapshot = fetch(NAME)
    (request,) = [r for r in published.log if "/cdn/" in r.path]
    assert request.range == "bytes=1000-"
    assert (snapshot.folder / WEIGHTS).read_bytes() == content
    assert not partials(tmp_path)


def test_what_a_killed_run_left_is_kept(published, saved, tmp_path, monkeypatch):
    published.breaks = [700, *[0] * 9]
    with pytest.raises(ModelError, match="goes on where it stopped"):
        fetch(NAME)
    (partial,) = partials(tmp_path)
    assert partial.stat().st_size == 700
    published.breaks, published.log[:] = [], []
    fetch(NAME)
    assert [r.range for r in published.log if "/cdn/" in r.path] == ["bytes=700-"]


def test_a_server_without_ranges_starts_anew(published, saved):
    published.breaks, published.ignores_ranges = [1500], True
    folder = fetch(NAME).folder
    assert (folder / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * 10**6])
def test_a_wrong_beginning_is_thrown_away(published, saved, tmp_path, left):
    blobs = tmp_path / "cache" / f"models--{NAME.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{weights_sha(saved)}.ehmfaces.partial").write_bytes(left)
    assert (fetch(NAME).folder / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


def test_wrong_content_is_never_kept(published, saved, tmp_path):
    published.corrupted = {weights_sha(saved)}
    with pytest.raises(ModelError, match="arrived damaged"):
        fetch(NAME)
    assert not partials(tmp_path)
    assert not list((tmp_path / "cache").rglob(weights_sha(saved)))
    published.corrupted = set()
    assert FacePipeline.from_pretrained(NAME).resolution == 16


def test_a_cached_file_of_wrong_size_is_fetched_again(published, saved):
    folder = fetch(NAME).folder
    (folder / WEIGHTS).resolve().write_bytes(b"cut")
    assert (fetch(NAME).folder / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()


def test_force_fetches_again(published, saved):
    folder = fetch(NAME).folder
    blob = (folder / WEIGHTS).resolve()
    blob.write_bytes(bytes(blob.stat().st_size))
    with pytest.raises(ModelError, match="--force"):
        FacePipeline.from_pretrained(NAME)
    assert FacePipeline.from_pretrained(NAME, force_download=True).resolution == 16


def test_the_cache_serves_when_the_hub_is_away(published, tiny_pipeline):
    commit = published.repos[NAME].branches["main"]
    fetch(NAME)
    published.stop()
    assert FacePipeline.from_pretrained(NAME).model_hash == tiny_pipeline.model_hash
    assert FacePipeline.from_pretrained(f"{NAME}@{commit}").model_hash == tiny_pipeline.model_hash
    assert FacePipeline.from_pretrained(NAME, local_files_only=True).model_hash == tiny_pipeline.model_hash
    for name in ("tests/never-seen", f"{NAME}@other"):
        with pytest.raises(ModelError, match="the Hub is away"):
            fetch(*split_name(name))


def test_the_cache_serves_when_the_hub_has_trouble(published):
    fetch(NAME)
    published.status = 503
    fetch(NAME)
    with pytest.raises(ModelError, match=r"Hub is away|has trouble"):
        fetch("tests/never-seen")


def test_half_a_model_in_the_cache_is_not_a_model(published, tmp_path):
    folder = fetch(NAME).folder
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="the Hub is away"):
        fetch(NAME, local_files_only=True)
    assert (fetch(NAME).folder / WEIGHTS).exists()


def test_private_models_open_with_their_token_only(hub, saved, monkeypatch):
    hub.add_folder(NAME, saved, private=True)
    for token in (None, STRANGER_TOKEN):
        with pytest.raises(ModelError, match=r"shows no model .* HF_TOKEN"):
            fetch(NAME, token=token)
    with pytest.raises(ModelError, match="does not know this token"):
        fetch(NAME, token="hf_wrong")
    assert fetch(NAME, token=OWNER_TOKEN).folder.is_dir()
    assert not [r for r in hub.log if "/cdn/" in r.path and r.has_token]  # a token stays with the Hub
    hub.log.clear()
    with pytest.raises(ModelError):
        fetch(NAME)  # nor does the cache open it to others while the Hub says no


def test_gated_models_ask_for_consent(hub, saved):
    hub.add_folder(NAME, saved, gated=True)
    with pytest.raises(ModelError, match="asks for consent"):
        fetch(NAME)
    assert fetch(NAME, token=OWNER_TOKEN).folder.is_dir()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"network-snapshot.pkl": b"p"}, r"pickles \(network-snapshot.pkl\).*ehmfaces model import"),
        ({"config.json": b"{}", "diffusion_pytorch_model.bin": b"p"}, "never loaded"),
        ({"model_index.json": b"{}", "unet/config.json": b"{}", "vae/config.json": b"{}",
          "unet/diffusion_pytorch_model.safetensors": b"u"}, r"another kind \(unet, vae\)"),
        ({"README.md": b"hello"}, "holds no generator"),
        ({"config.json": b'{"_class_name": "UNet2DModel"}',
          "diffusion_pytorch_model.safetensors": b"w"}, '"UNet2DModel", no generator'),
        ({"config.json": b'{"model_type": "bert"}', "model.safetensors": b"w"}, "holds no generator"),
    ],
)  # fmt: skip
def test_models_of_another_kind_are_named_and_not_fetched(hub, files, sentence):
    hub.add("tests/other", files)
    with pytest.raises(UnsupportedModelError, match=sentence):
        fetch_checked("tests/other")
    assert not [r for r in hub.log if "/cdn/" in r.path]


def fetch_checked(name):
    return FacePipeline.from_pretrained(name)


def test_data_sets_missing_models_and_revisions_get_a_sentence(published):
    published.add("tests/faces", {"a.json": b"{}"}, kind="dataset")
    with pytest.raises(ModelError, match="is a data set on the Hub"):
        fetch("tests/faces")
    with pytest.raises(ModelError, match="shows no model"):
        fetch("tests/nothing")
    with pytest.raises(ModelError, match='no revision "v9"'):
        fetch(NAME, "v9")


@pytest.mark.parametrize(
    "name",
    ["a/b/c", "http://x/a/b", "../x", "a/..", "a", "", "a b/c", "a/b@", "a/b@../../x", "a/b@/etc", "a/b@x y"],
)
def test_what_is_no_id_is_never_asked_for(hub, name):
    with pytest.raises(ModelError, match=r"no Hub id|is no revision"):
        fetch(*split_name(name))
    assert not hub.log


def test_two_revisions_are_refused():
    with pytest.raises(ModelError, match="already names"):
        split_name("a/b@one", "two")
    assert split_name("a/b@one", "one") == ("a/b", "one")


def test_files_are_pointed_to_the_import(tmp_path):
    (tmp_path / "net.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsupportedModelError, match="ehmfaces model import"):
        load_pipeline(str(tmp_path / "net.pkl"))


def test_large_models_are_refused_before_they_are_fetched(published, monkeypatch):
    monkeypatch.setenv(MAX_GB_VARIABLE, "0.000001")
    with pytest.raises(ModelError, match=f"at most 1e-06 GB .* {MAX_GB_VARIABLE}"):
        fetch(NAME)
    assert not published.downloads()
    for text in ("much", "-1", "nan"):
        monkeypatch.setenv(MAX_GB_VARIABLE, text)
        with pytest.raises(InputError, match="no size"):
            fetch(NAME)
    monkeypatch.setenv(MAX_GB_VARIABLE, "0.1")
    assert fetch(NAME)


def test_a_full_disk_is_told_before_and_during(published, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ModelError, match="Make room"):
        fetch(NAME)
    monkeypatch.undo()
    with pytest.raises(ModelError, match="no space left"), repository.hub_sentences(NAME):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_told(published, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(ModelError, match="HF_HOME"):
        fetch(NAME)


@pytest.mark.parametrize(("status", "sentence"), [(500, "trouble|away"), (429, "too many"), (403, "refuses")])
def test_answers_of_a_hub_in_trouble_get_a_sentence(hub, status, sentence):
    hub.status = status
    with pytest.raises(ModelError, match=sentence):
        fetch(NAME)


def test_a_slow_hub_is_waited_for(published):
    published.delay_sec = 0.1
    assert fetch(NAME)


def test_push_and_pull_keep_every_weight(hub, tiny_pipeline, tmp_path):
    words = CardWords("apache-2.0", "Nobody's pictures.", {"fid5k": 12.5})
    address = tiny_pipeline.push_to_hub("tests/pushed", token=OWNER_TOKEN, private=True, words=words)
    repo = hub.repos["tests/pushed"]
    assert repo.private
    assert address.endswith(repo.branches["main"])
    assert repo.messages == ["initial commit", "Upload model"]
    assert set(repo.files("main")) == {".gitattributes", "README.md", "metrics.json", "model_index.json",
                                       "samples.png", "generator/config.json", WEIGHTS}  # fmt: skip
    pulled = FacePipeline.from_pretrained("tests/pushed", token=OWNER_TOKEN)
    assert (pulled.model_id, pulled.license) == ("tests/pushed", "apache-2.0")
    assert pulled.model_hash == tiny_pipeline.model_hash
    for name, value in tiny_pipeline.generator.state_dict().items():
        assert torch.equal(pulled.generator.state_dict()[name], value), name


def test_a_push_to_a_branch_leaves_main_alone(hub, tiny_pipeline):
    tiny_pipeline.push_to_hub("tests/pushed", token=OWNER_TOKEN)
    main = hub.repos["tests/pushed"].branches["main"]
    tiny_pipeline.push_to_hub("tests/pushed", token=OWNER_TOKEN, revision="v2", commit_message="Second")
    assert hub.repos["tests/pushed"].branches["main"] == main
    assert hub.repos["tests/pushed"].messages[-1] in ("Second", "Upload model")
    assert "v2" in hub.repos["tests/pushed"].branches


@pytest.mark.parametrize("token", [None, STRANGER_TOKEN, "hf_wrong"])
def test_a_push_without_the_right_to_it_gets_a_sentence(hub, tiny_pipeline, token):
    with pytest.raises(ModelError, match=r"HF_TOKEN|token"):
        tiny_pipeline.push_to_hub("tests/pushed", token=token)
    assert "tests/pushed" not in hub.repos


def test_the_card_says_what_it_is_and_shows_it(hub, tiny_pipeline):
    words = CardWords("mit", "Tiles of *our own* sheets.", {"fid5k": 12.5, "kid": 0.01})
    tiny_pipeline.push_to_hub("tests/pushed", token=OWNER_TOKEN, words=words)
    files = hub.repos["tests/pushed"].files("main")
    head, body = files["README.md"].decode().removeprefix("---\n").split("\n---\n", 1)
    front = yaml.safe_load(head)
    assert (front["license"], front["library_name"]) == ("mit", "ehmfaces")
    assert front["pipeline_tag"] == "unconditional-image-generation"
    metrics = front["model-index"][0]["results"]
    values = [metric["value"] for result in metrics for metric in result["metrics"]]
    assert sorted(values) == [0.01, 12.5]
    for text in ("Seeds 0 to 15, truncation 0.7", "16 x 16 pixels", "*our own* sheets.", "| fid5k | 12.5 |",
                 'FacePipeline.from_pretrained("tests/pushed")', "model export --model tests/pushed --onnx",
                 tiny_pipeline.model_hash, "rgb(31, 44, 56)"):  # fmt: skip
        assert text in body, text
    sheet = np.asarray(Image.open(io.BytesIO(files["samples.png"])))
    assert sheet.shape == (64, 64, 3)
    last = np.asarray(tiny_pipeline([15], 0.7).images[0])
    assert np.array_equal(sheet[48:, 48:], last)


def test_a_card_without_words_says_so(tiny_pipeline, tmp_path):
    tiny_pipeline.save_with_card(tmp_path, "tests/bare")
    card = (tmp_path / "README.md").read_text()
    assert "license: unknown" in card
    assert card.count("Not stated by whoever uploaded it") == 2
    assert "None were given" in card
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument")  # inside diffusers
def test_the_diffusers_way_of_the_card_works(hub, tiny_pipeline, tmp_path):
    from ehmfaces import StyleGAN2Generator

    tiny_pipeline.push_to_hub("tests/pushed", token=OWNER_TOKEN)
    generator = StyleGAN2Generator.from_pretrained(
        "tests/pushed", subfolder="generator", use_safetensors=True, low_cpu_mem_usage=False,
        cache_dir=tmp_path / "other"
    )  # fmt: skip
    assert torch.equal(generator.mapping.w_avg, tiny_pipeline.generator.mapping.w_avg)


def test_weights_that_fit_are_written_in_half_the_size(tiny_pipeline, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "whole")
    halved = FacePipeline.from_pretrained(tmp_path / "whole")
    halved.generator.half().float()
    halved.save_pretrained(tmp_path / "half")
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.8 * sizes[0]
    again = FacePipeline.from_pretrained(tmp_path / "half")
    for name, value in halved.generator.state_dict().items():
        assert torch.equal(again.generator.state_dict()[name], value)


def test_metrics_are_read_or_refused(tmp_path):
    from ehmfaces.model_card import read_metrics

    path = tmp_path / "metrics.json"
    path.write_text('{"fid50k_full": 8.25, "kid": 1}')
    assert read_metrics(path) == {"fid50k_full": 8.25, "kid": 1.0}
    for text in ('{"fid": "good"}', "[1]", "{", '{"a": true}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"metrics\.json"):
            read_metrics(path)
