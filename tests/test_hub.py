import json
import shutil

import numpy as np
import pytest
import torch

from ehmfaces.errors import InputError, ModelError, UnsupportedModelError
from ehmfaces.hub import EMBEDDED_DIR, EMBEDDED_ID, load_pipeline, save_pipeline
from ehmfaces.model_folder import read_facts


@pytest.fixture
def saved(tiny_pipeline, tmp_path):
    save_pipeline(tiny_pipeline, tmp_path / "model", torch.float32)
    return tmp_path / "model"


def test_a_saved_pipeline_makes_the_same_pictures(tiny_pipeline, saved):
    loaded = load_pipeline(str(saved), "cpu")
    assert loaded.model_hash == tiny_pipeline.model_hash
    assert loaded.model_id == tiny_pipeline.model_id
    assert loaded.background_color == (31, 44, 56)
    assert np.array_equal(np.asarray(loaded([1]).images[0]), np.asarray(tiny_pipeline([1]).images[0]))


def test_the_index_names_the_module_for_ever(saved):
    index = json.loads((saved / "model_index.json").read_text())
    assert index["generator"] == ["ehmfaces.models.stylegan2", "StyleGAN2Generator"]
    assert "_name_or_path" not in json.loads((saved / "generator" / "config.json").read_text())


def test_the_environment_chooses_the_model(saved, monkeypatch):
    monkeypatch.setenv("EHMFACES_MODEL", str(saved))
    assert load_pipeline().model_id == "tests/tiny"


def test_the_embedded_default_is_there_and_small():
    pipeline = load_pipeline(EMBEDDED_ID)
    assert pipeline.model_id == EMBEDDED_ID
    assert pipeline.background_color == (31, 44, 56)
    weights = list(EMBEDDED_DIR.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) < 16_000_000
    faces = [np.asarray(image, float) for image in pipeline([1, 2]).images]
    assert np.abs(faces[0][:4, :4] - [31, 44, 56]).mean() < 12  # the corner shows the game's colour
    assert np.abs(faces[0] - faces[1]).mean() > 2


def test_facts_count_the_embedded_parameters():
    facts = read_facts(EMBEDDED_DIR, "ehmfaces/embedded")
    generator = load_pipeline(EMBEDDED_ID).generator
    assert facts.parameters == sum(p.numel() for p in generator.parameters())
    assert facts.resolution == 256


def test_missing_damaged_and_foreign_models_get_a_sentence(saved, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model"):
        load_pipeline(str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="no folder here and no Hub id"):
        load_pipeline("no such folder/at/all")
    weights = saved / "generator" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(str(saved))
    config = saved / "generator" / "config.json"
    config.write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(UnsupportedModelError, match="UNet2DModel"):
        load_pipeline(str(saved))
    config.write_text("not json")
    with pytest.raises(ModelError, match="cannot be read"):
        load_pipeline(str(saved))
    shutil.rmtree(saved)


def test_an_unknown_device_gets_a_sentence(saved):
    with pytest.raises(InputError, match="tpu9000"):
        load_pipeline(str(saved), "tpu9000")
