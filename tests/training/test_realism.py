"""Believable faces: what verdicts come to, what is learned from them, and what a memory then chooses."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ehmfaces.errors import InputError, ModelError
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator, build_realism
from ehmfaces.training.checkpoint import load_checkpoint
from ehmfaces.training.people_map import remember_people
from ehmfaces.training.realism import (
    believability,
    fit_realism,
    let_choose,
    measure_clarity,
    measure_spots,
    run_realism,
)
from ehmfaces.training.refine_loop import JUDGES, build_judges, load_judges
from ehmfaces.training.warm_start import load_warm_start, write_warm_start

PEOPLE, W_DIM = 60, 16


@pytest.fixture
def generator() -> StyleGAN2Generator:
    torch.manual_seed(0)
    made = StyleGAN2Generator(
        z_dim=40,
        w_dim=W_DIM,
        img_resolution=32,
        mapping_kwargs={"people": PEOPLE, "places": 12, "aspects": ("coarse", "fine"), "balanced": True},
        synthesis_kwargs={"channel_base": 128, "channel_max": 16},
    ).requires_grad_(False)
    assert isinstance(made.mapping, PeopleMapping)
    remember_people(made.mapping, torch.randn(PEOPLE, W_DIM), edges=(4,))
    return made.eval()


@pytest.fixture
def refined(tmp_path: Path, generator: StyleGAN2Generator) -> Path:
    torch.manual_seed(1)
    folder = tmp_path / "owned"
    write_warm_start(generator, torch.randn(PEOPLE, W_DIM), folder)
    save_file(build_judges(8, 8, 32).state_dict(), folder / JUDGES)
    return folder


def portrait(lightness: float, stain: float = 0.0) -> torch.Tensor:
    img = torch.full((1, 3, 256, 256), 2 * lightness - 1)
    img[:, :, 145:153, 95:105] = 2 * lightness * (1 - stain) - 1  # on a cheek
    return img


def test_stains_count_relative_to_the_skins_lightness() -> None:
    light, dark = (
        [float(measure_spots(portrait(at, stain))) for stain in (0.0, 0.2, 0.6)] for at in (0.7, 0.2)
    )
    assert light[0] < light[1] - 1 < light[2] - 1
    assert dark[1:] == pytest.approx(light[1:], abs=0.02)


def test_spots_beside_the_skin_do_not_count() -> None:
    img = portrait(0.5)
    img[:, :, :60] = torch.rand(60, 256, generator=torch.Generator().manual_seed(0))
    assert float(measure_spots(img)) == float(measure_spots(portrait(0.5)))


def test_clear_features_are_told_from_grainy_and_from_faint_ones() -> None:
    shapes = F.interpolate(torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)), 256)
    shapes = F.avg_pool2d(shapes, 9, 1, 4).expand(-1, 3, -1, -1) - 0.5
    grain = 0.02 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    clear, faint, grainy = (
        float(measure_clarity(one)) for one in (shapes + grain, shapes / 4 + grain, shapes + 4 * grain)
    )
    assert clear > faint + 1
    assert clear > grainy + 1
    assert float(measure_clarity(0.4 * (shapes + grain) - 0.5)) == pytest.approx(clear, abs=0.1)


def test_heads_and_clarity_speak_for_a_picture_towers_and_spots_against_it() -> None:
    verdicts = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    better = verdicts.clone()
    better[0, 3:7] += 1  # heads, in the mean
    better[1, 7:10] += 1  # towers, where they say least
    better[2, 14] += 4  # only what is more than usual counts
    better[3, 15] += 1
    change = believability(better) - believability(verdicts)
    assert change[0] > 0.3
    assert change[1] < -0.1
    assert change[2] < -0.5
    assert change[3] > 0.3
    assert float(believability(verdicts).mean()) == pytest.approx(0, abs=1e-5)
    assert float(believability(verdicts).std()) == pytest.approx(1, abs=1e-5)


def test_what_judges_say_of_ws_is_learned() -> None:
    source = torch.Generator().manual_seed(0)
    ws = 3 + 0.5 * torch.randn(4000, W_DIM, generator=source)
    verdicts = 0.3 * torch.randn(4000, 16, generator=source)
    agree = torch.tensor(2 * [*3 * [-1.0], *4 * [1.0]] + [-1.0, 1.0])
    verdicts += agree * ((ws[:, :1] - 3) / 0.5).square()  # far from the middle is more believable here
    realism, agreement = fit_realism(ws, verdicts)
    assert agreement > 0.8
    middle, far = torch.full((1, W_DIM), 3.0), torch.full((1, W_DIM), 3.0)
    far[0, 0] = 4.2
    with torch.no_grad():
        assert float(realism(far)) > float(realism(middle)) + 0.5
        assert realism(torch.randn(2, 5, W_DIM)).shape == (2, 5, 1)


def test_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match=r"20 judged pictures are too few\. Judge 128 or more"):
        fit_realism(torch.randn(20, W_DIM), torch.randn(20, 16))


def of_random_opinion() -> torch.nn.Sequential:
    torch.manual_seed(5)
    network = build_realism(W_DIM).requires_grad_(False)
    network[-1].weight *= 20
    network[-1].bias.fill_(-0.5)
    return network


def test_a_memory_with_tries_draws_who_is_believable(generator: StyleGAN2Generator) -> None:
    realism = of_random_opinion()
    z = torch.randn(300, 40, generator=torch.Generator().manual_seed(3))
    choosing = let_choose(generator, realism, 24)
    assert choosing.config.mapping_kwargs["tries"] == 24
    centre = generator.mapping.centre

    def opinion(w: torch.Tensor) -> torch.Tensor:
        return realism(centre.lerp(w, 0.8))[:, 0]

    plain, chosen = generator.mapping(z)[:, 0], choosing.mapping(z)[:, 0]
    assert float((opinion(plain) < -0.2).float().mean()) > 0.3
    assert float((opinion(chosen) < -0.2).float().mean()) < 0.06  # halves of two may be less
    enough = opinion(plain) > 0.4
    assert int(enough.sum()) > 8
    assert torch.allclose(chosen[enough], plain[enough], atol=0.01)  # the first that will do is taken
    assert torch.allclose(choosing.mapping(z[5:6])[:, 0], chosen[5:6], atol=1e-5)
    average = choosing.mapping(torch.randn(3000, 40))[:, 0].mean(dim=0)
    assert torch.allclose(choosing.mapping.w_avg, average, atol=0.15)


def test_the_first_tries_keep_the_first_person(generator: StyleGAN2Generator) -> None:
    z = torch.randn(300, 40, generator=torch.Generator().manual_seed(3))
    plain, chosen = generator.mapping(z)[:, 0], let_choose(generator, of_random_opinion(), 3).mapping(z)[:, 0]
    change = chosen - plain
    fine = torch.linalg.svd(generator.mapping.fine).Vh[: W_DIM - 4]
    assert float(change.abs().max()) > 0.5
    # a fifth of the fine aspect came with the first person, which is the same
    assert torch.allclose(change, change @ fine.t() @ fine, atol=1e-3)


def test_where_nobody_is_believable_the_best_is_taken(generator: StyleGAN2Generator) -> None:
    realism = of_random_opinion()
    realism[-1].bias.fill_(-50.0)
    z = torch.randn(100, 40, generator=torch.Generator().manual_seed(3))
    choosing = let_choose(generator, realism, 24)
    better = realism(choosing.mapping(z)[:, 0]) - realism(generator.mapping(z)[:, 0])
    assert float(better.mean()) > 1


def test_places_are_turned_and_the_first_is_the_place_itself() -> None:
    mapping = PeopleMapping(24, 0, 8, 4, people=5, places=4, tries=8)
    place = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    turned = mapping._turn(place)[0].tolist()
    assert turned[0] == [1, 2, 3, 4]
    assert turned[1] == [4, 1, 2, 3]
    assert turned[4] == [-1, -2, -3, -4]
    assert len({tuple(one) for one in turned}) == 8
    with pytest.raises(ValueError, match=r"4 places give 1 to 8 tries, not 9\."):
        PeopleMapping(24, 0, 8, 4, people=5, places=4, tries=9)


def test_a_run_judges_learns_and_goes_on(tmp_path: Path, refined: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    out, lines = tmp_path / "out", []
    run_realism(refined, out, 128, 6, report=lines.append)
    assert "correlation_on_unseen" in lines[-1]
    first, _ = load_checkpoint(out / "verdicts.safetensors", {}, {})
    assert first["verdicts"].shape == (128, 16)
    made = StyleGAN2Generator.from_pretrained(out / "generator", low_cpu_mem_usage=False)
    assert made.mapping.tries == 6
    assert made.config.mapping_kwargs["people"] == PEOPLE  # noise is no face: then all stay
    looked = (out / "people.safetensors").stat().st_mtime_ns
    run_realism(refined, out, 132, 6)
    second, _ = load_checkpoint(out / "verdicts.safetensors", {}, {})
    assert len(second["ws"]) == 132
    assert torch.equal(second["verdicts"][:128], first["verdicts"])
    assert float(second["verdicts"].std(dim=0).min()) > 0
    assert (out / "people.safetensors").stat().st_mtime_ns == looked
    (out / "verdicts.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"verdicts.safetensors cannot be resumed"):
        run_realism(refined, out, 132, 6)
    write_warm_start(load_warm_start(refined)[0], torch.randn(PEOPLE, W_DIM), refined)
    with pytest.raises(InputError, match=r'"out" holds verdicts on the people of another run'):
        run_realism(refined, out, 132, 6)


def test_judges_that_are_not_there_or_damaged_are_named(tmp_path: Path, refined: Path) -> None:
    with pytest.raises(InputError, match=r'"empty" holds no refining-judges\.safetensors\. Give'):
        load_judges(tmp_path / "empty", 32)
    (refined / JUDGES).write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"holds no such discriminators"):
        load_judges(refined, 32)
    save_file({"other": torch.zeros(1)}, refined / JUDGES)
    with pytest.raises(ModelError, match=r"holds no such discriminators"):
        load_judges(refined, 32)


def test_a_generator_without_a_memory_is_refused(tmp_path: Path) -> None:
    plain = StyleGAN2Generator(z_dim=8, w_dim=8, img_resolution=32, synthesis_kwargs={"channel_base": 64})
    write_warm_start(plain, torch.randn(4, 8), tmp_path / "plain")
    with pytest.raises(InputError, match=r'The generator of "plain" has no memory of people'):
        run_realism(tmp_path / "plain", tmp_path / "out", 128, 6)
