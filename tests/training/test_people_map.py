"""The memory of people: what random z give is near what is remembered, and varies."""

import numpy as np
import pytest
import torch

from ehmfaces.metrics.face_checks import FaceChecker
from ehmfaces.model_folder import EMBEDDED_DIR
from ehmfaces.models.stylegan2 import PeopleMapping, StyleGAN2Generator
from ehmfaces.training.people_map import LOOKS, look_at_people, measure_light, remember_people

ASPECTS = ("coarse", "middle", "fine")


def clustered_ws(count: int = 200, w_dim: int = 32) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(20, w_dim, generator=source)
    which = torch.randint(0, 20, (count,), generator=source)
    return centres[which] + 0.3 * torch.randn(count, w_dim, generator=source) + 1.0


def mapped(ws: torch.Tensor, rest: float, count: int = 500) -> tuple[PeopleMapping, torch.Tensor]:
    mapping = PeopleMapping(64, 0, ws.shape[1], 5, people=len(ws), places=8, aspects=ASPECTS, balanced=True)
    remember_people(mapping, ws, rest)
    z = torch.randn(count, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return mapping, mapping(z)


def test_people_are_nearer_than_those_of_a_gaussian() -> None:
    ws = clustered_ws()
    _, found = mapped(ws, rest=0.0)
    gaussian = torch.randn(500, 32, generator=torch.Generator().manual_seed(2)) * ws.std(dim=0) + ws.mean(
        dim=0
    )
    near = torch.cdist(found[:, 0], ws).min(dim=1).values.mean()
    far = torch.cdist(gaussian, ws).min(dim=1).values.mean()
    assert near < 0.7 * far


def test_one_z_gives_one_w_for_all_layers_whatever_the_batch() -> None:
    mapping, found = mapped(clustered_ws(), rest=0.4)
    z = torch.randn(500, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found[:, 0], found[:, -1])
    with torch.no_grad():
        assert torch.allclose(mapping(z[3:4]), found[3:4], atol=1e-5)


def test_truncation_leads_to_the_average() -> None:
    mapping, found = mapped(clustered_ws(), rest=0.4, count=4000)
    z = torch.randn(7, 64)
    with torch.no_grad():
        assert torch.allclose(mapping(z, None, 0.0)[:, 0], mapping.w_avg.expand(7, -1), atol=1e-5)
    assert torch.allclose(mapping.w_avg, found[:, 0].mean(dim=0), atol=0.25)


def test_rest_varies_people_who_share_a_place() -> None:
    ws = clustered_ws()
    z = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    z[1, :24] = z[0, :24]
    z *= (64 / z.square().sum(dim=1, keepdim=True)).sqrt()
    apart = []
    for rest in (0.0, 0.4):
        mapping = PeopleMapping(64, 0, 32, 5, people=len(ws), places=8, aspects=ASPECTS, balanced=True)
        remember_people(mapping, ws, rest)
        with torch.no_grad():
            first, second = mapping(z)[:, 0]
        apart.append(float((first - second).norm()))
    assert apart[1] > apart[0] + 0.1


def test_few_people_fit_too() -> None:
    _, found = mapped(clustered_ws(5), rest=0.4)
    assert torch.isfinite(found).all()


def test_each_aspect_comes_from_somebody_else() -> None:
    ws = clustered_ws()
    mapping = PeopleMapping(
        64, 0, 32, 5, people=len(ws), places=8, aspects=ASPECTS, balanced=True, reach=0.05
    )
    remember_people(mapping, ws, rest=0.0, own=1.0, edges=(6, 24))
    z = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        place = (z / z.square().mean(dim=1, keepdim=True).sqrt())[:, :24].split(8, dim=1)
        counts = [mapping.nearness(aspect, at) for aspect, at in zip(ASPECTS, place, strict=True)]
        clear = torch.stack([count.max(dim=1).values for count in counts]).min(dim=0).values > 0.999
        who = torch.stack([count.argmax(dim=1) for count in counts])[:, clear]
        expected = mapping.centre + sum(
            getattr(mapping, aspect)[at] for aspect, at in zip(ASPECTS, who, strict=True)
        )
        assert len(who[0]) > 10
        assert (who[0] != who[1]).any()
        assert (who[1] != who[2]).any()
        assert torch.allclose(mapping(z)[clear, 0], expected, atol=0.05)


def test_everybody_is_chosen_equally_often() -> None:
    ws = clustered_ws()
    mapping = PeopleMapping(64, 0, 32, 5, people=len(ws), places=8, aspects=ASPECTS, balanced=True)
    remember_people(mapping, ws)
    place = torch.randn(20000, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        often = mapping.nearness("coarse", place).mean(dim=0) * len(ws)
        mapping.balanced = False
        plain = mapping.nearness("coarse", place).mean(dim=0) * len(ws)
    assert float(often.max()) < 1.7 < 3 < float(plain.max())
    assert float(often.min()) > 0.6


def test_parts_of_a_person_are_that_person() -> None:
    ws = clustered_ws()
    mapping = PeopleMapping(64, 0, 32, 5, people=len(ws), places=8, aspects=ASPECTS, balanced=True)
    remember_people(mapping, ws, own=0.7)
    assert torch.allclose(mapping.centre + mapping.coarse + mapping.middle + mapping.fine, ws, atol=1e-4)


def test_well_formed_people_are_told_from_noise() -> None:
    pytest.importorskip("onnxruntime")
    generator = StyleGAN2Generator.from_pretrained(EMBEDDED_DIR / "generator", low_cpu_mem_usage=False)
    z = torch.randn(8, generator.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        drawn = generator.mapping(z, truncation_psi=0.7)[:, 0]
    far = generator.mapping.centre.detach() + 30 * (drawn[:1] - generator.mapping.centre.detach())
    found, looks = look_at_people(generator, torch.cat([drawn, far]), FaceChecker())
    assert found[:8].sum() >= 7  # somebody may be too dark, or lit from one side
    assert not found[8]
    assert looks[8, 0] == 0.5  # nobody
    assert int(((looks[:8, 0] < 0.4) | (looks[:8, 0] > 0.6)).sum()) >= 6


def kin_mapping(ws: torch.Tensor, looks: torch.Tensor | None) -> PeopleMapping:
    mapping = PeopleMapping(
        64, 0, 32, 5, people=len(ws), places=8, aspects=ASPECTS, balanced=True, kin_dim=12
    )
    remember_people(mapping, ws, looks=looks)
    return mapping


def chosen(mapping: PeopleMapping, count: int = 1000) -> list[torch.Tensor]:
    z = torch.randn(count, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first = mapping.nearness("coarse", z[:, :8])
        later = [
            mapping.nearness(name, z[:, 8 * k : 8 * k + 8], first) for k, name in ((1, "middle"), (2, "fine"))
        ]
    return [first, *later]


def test_later_aspects_come_from_kin_but_from_somebody_else() -> None:
    ws = clustered_ws()
    male = (ws[:, 0] > ws[:, 0].median()).float()
    looks = torch.stack([male, ws[:, 1], ws[:, 2]], dim=1)
    mapping = kin_mapping(ws, looks)
    first, *later = (share.argmax(dim=1) for share in chosen(mapping))
    anybody = torch.randint(0, len(ws), (1000,), generator=torch.Generator().manual_seed(4))
    for picked in later:
        assert float((male[picked] == male[first]).float().mean()) > 0.95
        apart = (ws[picked] - ws[first])[:, 1].abs().mean()  # "side light"
        assert float(apart) < 0.6 * float((ws[anybody] - ws[first])[:, 1].abs().mean())
    someone, place = torch.eye(len(ws)), torch.randn(len(ws), 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        itself = mapping.nearness("fine", place, someone).diagonal()
    assert float(itself.max()) < 0.01


def test_weaker_kinship_lets_others_in() -> None:
    ws = clustered_ws()
    looks = torch.rand(len(ws), LOOKS, generator=torch.Generator().manual_seed(4))
    unlike = []
    for kinship in (1.0, 0.02):
        mapping = kin_mapping(ws, looks)
        strong = mapping.kin.clone()
        remember_people(mapping, ws, looks=looks, kinship=kinship)
        assert torch.allclose(mapping.kin, strong * kinship**0.5, atol=1e-5)
        first, second, _ = (who.argmax(dim=1) for who in chosen(mapping))
        unlike.append(float((looks[first] - looks[second])[:, 0].abs().mean()))
    assert unlike[1] > 1.2 * unlike[0]


def test_people_of_unknown_looks_may_go_with_anybody() -> None:
    ws = clustered_ws()
    assert not kin_mapping(ws, None).kin[:, :LOOKS].any()
    assert torch.isfinite(kin_mapping(ws[:5], torch.rand(5, LOOKS))(torch.randn(3, 64))).all()


def test_side_light_is_measured_where_the_face_is() -> None:
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, :64], pixels[:, 64:] = 150, 50
    side, lightness = measure_light(pixels)
    assert side == pytest.approx(1, abs=0.05)
    assert lightness == pytest.approx(100 / 255, abs=0.01)
    assert measure_light(pixels[:, ::-1])[0] == pytest.approx(-side, abs=0.05)
    pixels[:40] = pixels[100:] = 255  # hair and clothes do not count
    assert measure_light(pixels) == (side, lightness)
