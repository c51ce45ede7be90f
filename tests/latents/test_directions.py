import numpy as np
import pytest
import torch

from ehmfaces.data.labels import read_face_labels
from ehmfaces.errors import InputError, LatentError, ModelError
from ehmfaces.hub import load_pipeline
from ehmfaces.latents.directions import SEX_MARGIN, Wishes, fit_directions
from ehmfaces.model_folder import load_directions, save_directions
from ehmfaces.seeds import latents_from_seeds


@pytest.fixture
def world():
    """ws whose first entry is sex and whose second, mixed with the first, is age."""
    rng = np.random.default_rng(0)
    sex = rng.choice([-1.0, 1.0], 400)
    age = 30 + 5 * rng.standard_normal(400) + 2 * sex
    ws = rng.standard_normal((400, 8)).astype(np.float32)
    ws[:, 0] += 2 * sex
    ws[:, 1] += age - 30
    return ws, {"sex": sex, "age": age}


def test_scores_follow_the_labels_and_steps_change_one_thing(world):
    ws, labels = world
    directions = fit_directions(ws, labels)
    measured = directions.measure(ws[:, None], ws.mean(axis=0))
    assert (np.sign(measured[:, 0]) == labels["sex"]).mean() > 0.9
    assert np.corrcoef(measured[:, 1], labels["age"])[0, 1] > 0.9
    assert directions.scores @ directions.steps.T == pytest.approx(np.eye(2), abs=1e-5)
    assert measured[:, 1].std() == pytest.approx(1, abs=1e-3)


def test_wishes_move_only_who_needs_it_and_each_face_alone(world):
    ws, labels = world
    directions, average = fit_directions(ws, labels), ws.mean(axis=0)
    faces = np.repeat(ws[:50, None], 6, axis=1)
    before = directions.measure(faces, average)
    moved = directions.apply(faces, average, Wishes("men", age=1.5))
    after = directions.measure(moved, average)
    assert after[:, 0] == pytest.approx(np.maximum(np.abs(before[:, 0]), SEX_MARGIN), abs=1e-4)
    assert after[:, 1] - before[:, 1] == pytest.approx(1.5, abs=1e-4)
    clearly = before[:, 0] > SEX_MARGIN
    assert 5 < clearly.sum() < 45
    same = directions.apply(faces, average, Wishes("men"))
    assert np.array_equal(same[clearly], faces[clearly])
    alone = directions.apply(faces[7:8], average, Wishes("women", age=-1))
    assert np.array_equal(alone[0], directions.apply(faces, average, Wishes("women", age=-1))[7])


def test_wishes_are_checked():
    assert Wishes().to_dict() == {}
    assert Wishes.from_dict({"sex": "men", "age": 2, "later": 1}).to_dict() == {"sex": "men", "age": 2}
    for wrong in ({"sex": "man"}, {"age": 3.1}, {"smile": float("nan")}, {"hair": "dark"}):
        with pytest.raises(LatentError, match=r"Known: any|from -3 to 3"):
            Wishes(**wrong)


def test_directions_are_kept_with_the_model(world, tmp_path, tiny_pipeline):
    ws, labels = world
    directions = fit_directions(ws, labels)
    save_directions(directions, tmp_path)
    again = load_directions(tmp_path)
    assert again.names == ("sex", "age")
    assert np.array_equal(again.steps, directions.steps)
    assert np.array_equal(again.scores, directions.scores)
    with pytest.raises(LatentError, match='no direction "smile"'):
        again.apply(ws[:, None], ws.mean(axis=0), Wishes(smile=1))
    (tmp_path / "directions.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"directions.safetensors cannot be read"):
        load_directions(tmp_path)
    assert load_directions(tmp_path / "elsewhere") is None
    with pytest.raises(LatentError, match="no directions for sex"):
        tiny_pipeline([1], wishes=Wishes("men"))


def test_the_embedded_model_can_make_men_and_women():
    pipeline = load_pipeline()
    average = pipeline.generator.mapping.w_avg.numpy()
    column = pipeline.directions.names.index("sex")
    for sex, sign in (("men", 1), ("women", -1)):
        ws = pipeline.prepare_latents(range(20), 0.7, wishes=Wishes(sex))
        scores = pipeline.directions.measure(ws, average)[:, column]
        assert (scores * sign >= SEX_MARGIN - 1e-3).all()
    older = pipeline([3], wishes=Wishes(age=2)).images[0]
    assert np.abs(np.asarray(older, int) - np.asarray(pipeline([3]).images[0], int)).mean() > 1


def test_embedded_faces_are_lifted_after_wishes_and_keep_what_was_wished():
    pipeline = load_pipeline()
    mapping = pipeline.generator.mapping
    average = mapping.w_avg.numpy()
    z = torch.from_numpy(latents_from_seeds(range(12), pipeline.generator.z_dim))
    plain, lifted = pipeline.prepare_latents(range(12), 1.0), pipeline.prepare_latents(range(12), 0.7)
    with torch.inference_mode():
        assert np.allclose(lifted, mapping(z, truncation_psi=0.7).numpy(), atol=1e-4)
        straight = average + np.float32(0.7) * (plain - average)
        believable = [mapping.realism(torch.from_numpy(ws[:, 0])).mean() for ws in (straight, lifted)]
    assert believable[1] > believable[0] + 0.2
    wishes = Wishes("women", age=1.5, hair=-1)
    granted = pipeline.directions.apply(straight, average, wishes)
    wished = pipeline.prepare_latents(range(12), 0.7, wishes=wishes)
    assert np.abs(wished - granted).max() > 0.1
    measured = [pipeline.directions.measure(ws, average) for ws in (granted, wished)]
    assert np.allclose(*measured, atol=0.02)


def test_labels_file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "id,sex,age,expression,skin_ita_deg,hair_L\nb,female,40,happy,10.5,20\na,male,20,sad,50,60\n"
    )
    assert read_face_labels(path) == {
        "sex": [1, -1], "age": [20, 40], "smile": [0, 1], "skin": [50, 10.5], "hair": [60, 20]
    }  # fmt: skip
    path.write_text("id,sex\na,other\n")
    with pytest.raises(InputError, match=r'"labels.csv" cannot be read.*sex is male or female'):
        read_face_labels(path)
