"""Believable faces: what verdicts come to, what is learned from them, and what a memory then chooses."""

from pathlib import Path

import pytest
import torch

from ehmfaces.errors import InputError, ModelError
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator, build_realism
from ehmfaces.training.checkpoint import load_checkpoint
from ehmfaces.training.flaws import FLAWS, save_flaws
from ehmfaces.training.people_map import remember_people
from ehmfaces.training.realism import LIFT, fit_realism, let_choose, likely_changes, run_realism
from ehmfaces.training.warm_start import load_warm_start, write_warm_start

PEOPLE, W_DIM = 60, 16
LIKELY = torch.eye(W_DIM)
VALUES = 2 * 64 * (40 + 112)  # means and deviations of two levels in 64 places


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
    save_flaws(0.01 * torch.randn(VALUES), torch.zeros(1), folder / FLAWS)
    return folder


def test_what_is_seen_of_pictures_is_learned_for_ws() -> None:
    source = torch.Generator().manual_seed(0)
    ws = 3 + 0.5 * torch.randn(4000, W_DIM, generator=source)
    flaws = 0.1 * torch.randn(4000, generator=source) - ((ws[:, 0] - 3) / 0.5).square()  # less far out
    realism, agreement = fit_realism(ws, flaws)
    assert agreement > 0.8
    middle, far = torch.full((1, W_DIM), 3.0), torch.full((1, W_DIM), 3.0)
    far[0, 0] = 4.2
    with torch.no_grad():
        assert float(realism(far)) > float(realism(middle)) + 0.5
        assert realism(torch.randn(2, 5, W_DIM)).shape == (2, 5, 1)


def test_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match=r"20 judged pictures are too few\. Judge 128 or more"):
        fit_realism(torch.randn(20, W_DIM), torch.randn(20))


def test_likely_changes_leave_scores_alone() -> None:
    source = torch.Generator().manual_seed(0)
    ws = torch.randn(200, W_DIM, generator=source) @ torch.randn(W_DIM, W_DIM, generator=source)
    held = torch.randn(2, W_DIM, generator=source)
    changes = likely_changes(ws, held.numpy())
    assert float((held @ changes).abs().max()) < 1e-4
    assert float(torch.linalg.eigvalsh(changes).min()) > -1e-4
    assert torch.allclose(likely_changes(ws), torch.cov(ws.t()), atol=1e-4)


def of_random_opinion() -> torch.nn.Sequential:
    torch.manual_seed(5)
    network = build_realism(W_DIM).requires_grad_(False)
    network[-1].weight *= 20
    network[-1].bias.fill_(-1.5)
    return network


def test_a_memory_with_tries_draws_who_is_believable(generator: StyleGAN2Generator) -> None:
    realism = of_random_opinion()
    z = torch.randn(300, 40, generator=torch.Generator().manual_seed(3))
    choosing = let_choose(generator, realism, 24, LIKELY)
    assert choosing.config.mapping_kwargs["tries"] == 24
    centre = generator.mapping.centre

    def opinion(w: torch.Tensor) -> torch.Tensor:
        return realism(centre.lerp(w, 0.8))[:, 0]

    plain, chosen = generator.mapping(z)[:, 0], choosing.mapping(z)[:, 0]
    assert float((opinion(plain) < -1.2).float().mean()) > 0.3
    assert float((opinion(chosen) < -1.2).float().mean()) < 0.06  # halves of two may be less
    enough = opinion(plain) > -0.6
    assert int(enough.sum()) > 8
    assert torch.allclose(chosen[enough], plain[enough], atol=0.01)  # the first that will do is taken
    assert torch.allclose(choosing.mapping(z[5:6])[:, 0], chosen[5:6], atol=1e-5)
    average = choosing.mapping(torch.randn(3000, 40))[:, 0].mean(dim=0)
    assert torch.allclose(choosing.mapping.w_avg, average, atol=0.15)


def test_the_first_tries_keep_the_first_person(generator: StyleGAN2Generator) -> None:
    z = torch.randn(300, 40, generator=torch.Generator().manual_seed(3))
    plain = generator.mapping(z)[:, 0]
    chosen = let_choose(generator, of_random_opinion(), 3, LIKELY).mapping(z)[:, 0]
    change = chosen - plain
    fine = torch.linalg.svd(generator.mapping.fine).Vh[: W_DIM - 4]
    assert float(change.abs().max()) > 0.5
    # a fifth of the fine aspect came with the first person, which is the same
    assert torch.allclose(change, change @ fine.t() @ fine, atol=1e-3)


def test_where_nobody_is_believable_the_best_is_taken(generator: StyleGAN2Generator) -> None:
    realism = of_random_opinion()
    realism[-1].bias.fill_(-50.0)
    z = torch.randn(100, 40, generator=torch.Generator().manual_seed(3))
    choosing = let_choose(generator, realism, 24, LIKELY)
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


@pytest.fixture
def lifting(generator: StyleGAN2Generator) -> PeopleMapping:
    source = torch.Generator().manual_seed(4)
    ways = torch.randn(W_DIM, W_DIM, generator=source) / 4
    mapping = let_choose(generator, of_random_opinion(), 2, ways @ ways.t(), lift=0.5).mapping
    assert isinstance(mapping, PeopleMapping)
    return mapping


def test_truncated_ws_are_lifted_the_likeliest_way(lifting: PeopleMapping) -> None:
    ws = torch.randn(200, 3, W_DIM, generator=torch.Generator().manual_seed(6))
    lifted = lifting.lift_ws(ws, 0.7)
    gained = lifting.realism(lifted) - lifting.realism(ws)
    lacking = lifting.realism(ws) < 0.8
    assert float(gained[lacking].min()) > -0.01
    assert float(gained[lacking].mean()) > 0.1
    assert torch.equal(lifted[~lacking[..., 0]], ws[~lacking[..., 0]])  # those are believable already
    change = (lifted - ws).flatten(0, 1).double()
    steps = (change @ torch.linalg.inv(lifting.likely.double()) * change).sum(dim=1).sqrt()
    assert float(steps.max()) <= 0.501
    assert torch.equal(lifting.lift_ws(ws, 1.0), ws)
    assert torch.equal(lifting.lift_ws(ws, 0.2), lifted)
    less = lifting.lift_ws(ws, 0.85)
    assert 0.01 < float((less - ws).norm()) < 0.9 * float((lifted - ws).norm())


def test_the_slope_is_that_of_autograd(lifting: PeopleMapping) -> None:
    w = torch.randn(5, W_DIM, generator=torch.Generator().manual_seed(7), requires_grad=True)
    (expected,) = torch.autograd.grad(lifting.realism(w).sum(), w)
    slope, realism = lifting._slope(w)
    assert torch.allclose(slope, expected, atol=1e-5)
    assert torch.equal(realism, lifting.realism(w))


def test_truncation_lifts_only_the_layers_that_it_truncates(lifting: PeopleMapping) -> None:
    z = torch.randn(4, 40, generator=torch.Generator().manual_seed(3))
    plain, near, leading = lifting(z), lifting(z, truncation_psi=0.6), lifting(z, None, 0.6, 2)
    assert torch.equal(leading[:, :2], near[:, :2])
    assert torch.equal(leading[:, 2:], plain[:, 2:])
    straight = lifting.w_avg.lerp(plain, 0.6)
    assert torch.equal(near, lifting.lift_ws(straight, 0.6))
    assert float((near - straight).abs().max()) > 0.01
    assert torch.allclose(lifting(z[1:2], truncation_psi=0.6), near[1:2], atol=1e-5)


def test_a_lift_needs_tries() -> None:
    with pytest.raises(ValueError, match=r"A lift of 1 needs 2 tries or more, not 1\."):
        PeopleMapping(24, 0, 8, 4, people=5, places=4, lift=1.0)


def test_a_run_judges_learns_and_goes_on(tmp_path: Path, refined: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    out, lines = tmp_path / "out", []
    flaws, held = refined / FLAWS, torch.randn(2, W_DIM).numpy()
    run_realism(refined, out, flaws, held, 128, 6, report=lines.append)
    assert "correlation_on_unseen" in lines[-1]
    first, _ = load_checkpoint(out / "verdicts.safetensors", {}, {})
    assert first["flaws"].shape == (128,)
    made = StyleGAN2Generator.from_pretrained(out / "generator", low_cpu_mem_usage=False)
    assert (made.mapping.tries, made.mapping.lift) == (6, LIFT)
    assert float((torch.from_numpy(held) @ made.mapping.likely.detach()).abs().max()) < 1e-4
    assert made.config.mapping_kwargs["people"] == PEOPLE  # noise is no face: then all stay
    looked = (out / "people.safetensors").stat().st_mtime_ns
    run_realism(refined, out, flaws, None, 132, 6)
    second, _ = load_checkpoint(out / "verdicts.safetensors", {}, {})
    assert len(second["ws"]) == 132
    assert torch.equal(second["flaws"][:128], first["flaws"])
    assert float(second["flaws"].std()) > 0
    assert (out / "people.safetensors").stat().st_mtime_ns == looked
    save_flaws(0.01 * torch.randn(VALUES), torch.zeros(1), refined / "others.safetensors")
    with pytest.raises(InputError, match=r'"out" holds what another file of flaws said\. Give another'):
        run_realism(refined, out, refined / "others.safetensors", None, 132, 6)
    (out / "verdicts.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"verdicts.safetensors cannot be resumed"):
        run_realism(refined, out, flaws, None, 132, 6)
    write_warm_start(load_warm_start(refined)[0], torch.randn(PEOPLE, W_DIM), refined)
    with pytest.raises(InputError, match=r'"out" holds verdicts on the people of another run'):
        run_realism(refined, out, flaws, None, 132, 6)


def test_a_generator_without_a_memory_is_refused(tmp_path: Path) -> None:
    plain = StyleGAN2Generator(z_dim=8, w_dim=8, img_resolution=32, synthesis_kwargs={"channel_base": 64})
    write_warm_start(plain, torch.randn(4, 8), tmp_path / "plain")
    with pytest.raises(InputError, match=r'The generator of "plain" has no memory of people'):
        run_realism(tmp_path / "plain", tmp_path / "out", tmp_path / FLAWS, None, 128, 6)
