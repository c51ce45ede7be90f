import hashlib

import numpy as np
import pytest

from ehmfaces.errors import LatentError
from ehmfaces.seeds import latents_from_seeds


def same(a, b):
    return np.array_equal(np.asarray(a), np.asarray(b))


def test_a_face_does_not_depend_on_batch_or_order(tiny_pipeline):
    together = tiny_pipeline([5, 1, 9]).images
    backwards = tiny_pipeline([9, 1, 5]).images
    assert same(together[0], tiny_pipeline([5]).images[0])
    assert same(together[0], backwards[2])
    assert not same(together[0], together[1])


def test_z_is_that_of_the_public_tools():
    z = latents_from_seeds([0, 7], 4)
    assert z[0] == pytest.approx([1.76405235, 0.40015721, 0.97873798, 2.2408932])
    assert (
        hashlib.sha256(z.tobytes()).hexdigest()[:12]
        == hashlib.sha256(
            np.stack([np.random.RandomState(s).randn(4) for s in (0, 7)]).tobytes()
        ).hexdigest()[:12]
    )


def test_psi_one_is_off_and_psi_zero_is_the_average(tiny_pipeline):
    off = tiny_pipeline.prepare_latents([3])
    assert not same(off, tiny_pipeline.prepare_latents([3], 0.5))
    zero = tiny_pipeline([3, 4], truncation_psi=0.0)
    assert same(zero.images[0], zero.images[1])
    assert zero.ws[0, 0] == pytest.approx(tiny_pipeline.generator.mapping.w_avg.numpy())


def test_cutoff_leaves_later_layers_alone(tiny_pipeline):
    off = tiny_pipeline.prepare_latents([3])
    cut = tiny_pipeline.prepare_latents([3], 0.5, 2)
    assert same(cut[:, 2:], off[:, 2:])
    assert not same(cut[:, :2], off[:, :2])


def test_mix_takes_all_or_nothing_at_the_ends(tiny_pipeline):
    layers = range(tiny_pipeline.num_ws)
    faces = tiny_pipeline([1, 2, 3]).images
    grid = tiny_pipeline.mix([1, 2], [3], list(layers))
    assert same(grid.images[0], faces[2])
    assert same(grid.images[1], faces[2])
    assert same(tiny_pipeline.mix([1], [3], []).images[0], faces[0])


def test_blend_ends_are_the_faces(tiny_pipeline):
    faces = tiny_pipeline([1, 2]).images
    assert same(tiny_pipeline.blend(1, 2, 0.0).images[0], faces[0])
    assert same(tiny_pipeline.blend(1, 2, 1.0).images[0], faces[1])


def test_random_noise_comes_from_the_seed(tiny_pipeline):
    for layer in tiny_pipeline.generator.synthesis.modules():
        if "noise_strength" in getattr(layer, "_parameters", {}):
            layer.noise_strength.fill_(0.5)
    try:
        once = tiny_pipeline([4], noise_mode="random").images[0]
        assert same(once, tiny_pipeline([4], noise_mode="random").images[0])
        assert not same(once, tiny_pipeline([4], noise_mode="none").images[0])
    finally:
        for layer in tiny_pipeline.generator.synthesis.modules():
            if "noise_strength" in getattr(layer, "_parameters", {}):
                layer.noise_strength.zero_()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"truncation_psi": 9}, "Truncation 9"),
        ({"truncation_cutoff": 99}, "cutoff 99"),
        ({"noise_mode": "loud"}, '"loud"'),
    ],
)
def test_wrong_settings_get_a_sentence(tiny_pipeline, settings, word):
    with pytest.raises(LatentError, match=word):
        tiny_pipeline([1], **settings)


def test_wrong_seeds_styles_and_weights_get_a_sentence(tiny_pipeline):
    with pytest.raises(LatentError, match="whole number"):
        tiny_pipeline([-1])
    with pytest.raises(LatentError, match="layers of this model"):
        tiny_pipeline.mix([1], [2], [99])
    with pytest.raises(LatentError, match="Weight"):
        tiny_pipeline.blend(1, 2, 2.0)
