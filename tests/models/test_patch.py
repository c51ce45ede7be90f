"""Judges of places: they know where they look, and see detail, not light."""

import torch

from ehmfaces.models.patch import BAND_COUNT, SMALL_PX, BandDiscriminator, FeatureHeads, add_place


def test_places_run_over_the_frame() -> None:
    placed = add_place(torch.zeros(2, 1, 4, 4))
    assert placed.shape == (2, 3, 4, 4)
    assert placed[0, 1, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert placed[1, 2, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_part_knows_where_it_lies() -> None:
    whole = add_place(torch.zeros(1, 1, 8, 8))
    part = add_place(torch.zeros(1, 1, 4, 4), top=0.25, left=0.5, side=0.5)
    assert torch.allclose(part, whole[:, :, 2:6, 4:8])


def test_towers_see_detail_and_one_sees_light() -> None:
    judge = BandDiscriminator(view_px=16)
    img = torch.randn(2, 3, 32, 32)
    bands = judge.see(img, (0.5, 1.0))
    assert [tuple(band.shape[2:]) for band in bands] == [(16, 16), (16, 16), (8, 8), (SMALL_PX, SMALL_PX)]
    brighter = judge.see(img + 0.5, (0.5, 1.0))
    for band, other in zip(bands[:-1], brighter[:-1], strict=True):
        assert torch.allclose(band, other, atol=1e-5)
    assert torch.allclose(bands[-1][:, :3] + 0.5, brighter[-1][:, :3], atol=1e-5)
    assert bands[0][:, 3].min() < 0 < bands[0][:, 3].max()  # half way down
    assert bands[0][:, 4].min() > 0  # at the right
    assert [tuple(logits.shape) for logits in judge(bands)] == [
        (2, 1, 2, 2),
        (2, 1, 2, 2),
        (2, 1, 1, 1),
        (2, 1, 4, 4),
    ]


def test_window_is_the_part_of_the_picture() -> None:
    judge = BandDiscriminator(view_px=16)
    img = torch.randn(1, 3, 32, 32)
    moved = torch.cat([torch.zeros(1, 3, 8, 32), img[:, :, :-8]], dim=2)
    here, there = judge.see(img, (0.0, 0.0))[0], judge.see(moved, (0.5, 0.0))[0]
    assert torch.allclose(here[:, :3], there[:, :3], atol=1e-5)


def test_larger_pictures_take_over_the_finer_tower() -> None:
    judge = BandDiscriminator()
    fine = [p.clone() for p in judge.towers[0].parameters()]
    judge.look_closer()
    for mine, other in zip(judge.towers[1].parameters(), fine, strict=True):
        assert torch.equal(mine, other)
    assert len(judge.towers) == BAND_COUNT


def test_heads_give_a_map_for_each_level() -> None:
    heads = FeatureHeads((4, 6), (2, 1))
    maps = heads([torch.randn(2, 6, 8, 8), torch.randn(2, 8, 4, 4)])
    assert [tuple(logits.shape) for logits in maps] == [(2, 1, 4, 4), (2, 1, 4, 4)]
