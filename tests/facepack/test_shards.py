import zipfile

import pytest

from ehmfaces.errors import FacepackError, InputError, UnsupportedModelError
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
from ehmfaces.facepack.recipe import RendererRecipe
from ehmfaces.facepack.shards import OTHER_PART, merge_packs, parse_shard, take_shard
from ehmfaces.facepack.writer import write_facepack
from ehmfaces.roster.reader import read_roster

LINES = [f"Ann,Berg{n},{n % 28 + 1}.3.1990,Norway" for n in range(60)] + ["No,Date,,Norway"]


def plan_of(lines, **settings):
    text = "First name,Last name,Born,Nation\n" + "\n".join(lines) + "\n"
    return plan_facepack(read_roster(text.encode()), FacepackSettings(**settings))


def write(plan, path):
    write_facepack(plan, lambda: lambda seed: b"picture %d" % seed, path)
    return path


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_every_person_is_in_one_part_and_every_row_is_accounted_for(parts):
    plan = plan_of(LINES)
    shards = [take_shard(plan, part, parts) for part in range(1, parts + 1)]
    paths = [job.path for shard in shards for job in shard.jobs]
    assert sorted(paths) == sorted(job.path for job in plan.jobs)
    assert all(len(shard.jobs) + len(shard.skipped) == len(LINES) for shard in shards)
    if parts == 5:
        assert all(3 <= len(shard.jobs) <= 24 for shard in shards)  # 12 each on average


def test_a_shuffled_or_longer_roster_moves_nobody():
    longer = [*reversed(LINES), "New,Man,1.1.1999,Norway"]
    before = {job.filename for job in take_shard(plan_of(LINES), 2, 3).jobs}
    after = {job.filename for job in take_shard(plan_of(longer), 2, 3).jobs}
    assert before <= after
    assert after - before <= {"New_Man_1_1_1999.png"}


def test_merged_parts_are_the_unbroken_pack_byte_for_byte(tmp_path):
    plan = plan_of(LINES)
    parts = [write(take_shard(plan, part, 3), tmp_path / f"{part}.zip") for part in (1, 2, 3)]
    whole = write(plan, tmp_path / "whole.zip")
    assert merge_packs([parts[2], parts[0], parts[1]], tmp_path / "merged.zip") == (60, 0)
    assert (tmp_path / "merged.zip").read_bytes() == whole.read_bytes()
    pictures, missing = merge_packs(parts[:2], tmp_path / "two.zip")
    assert pictures + missing == 60
    with zipfile.ZipFile(tmp_path / "two.zip") as archive:
        assert archive.read("report.csv").decode().count(OTHER_PART) == missing


def test_what_cannot_be_merged_is_said(tmp_path):
    plan = plan_of(LINES)
    one, two = (write(take_shard(plan, part, 2), tmp_path / f"{part}.zip") for part in (1, 2))
    other = write(take_shard(plan_of(LINES, pack_key="x"), 2, 2), tmp_path / "other.zip")
    shuffled = write(take_shard(plan_of(LINES[::-1]), 2, 2), tmp_path / "shuffled.zip")
    fm = write(plan_of(LINES, games="ehm,fhm"), tmp_path / "fm.zip")
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        archive.writestr("players/a.png", b"")
    cases = [
        ([one], "two or more"),
        ([one, other], "other settings"),
        ([one, shuffled], "same roster file"),
        ([fm, fm], "lists of other games"),
        ([one, tmp_path / "foreign.zip"], "no pack of ours"),
    ]
    for packs, words in cases:
        with pytest.raises(FacepackError, match=words):
            merge_packs(packs, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
    with pytest.raises(FacepackError, match="nothing is overwritten"):
        merge_packs([one, two], one)


def test_different_pictures_of_one_path_are_refused(tmp_path):
    plan = plan_of(LINES)
    one = write(plan, tmp_path / "1.zip")
    write_facepack(plan, lambda: lambda seed: b"another", tmp_path / "2.zip")
    assert merge_packs([one, one], tmp_path / "same.zip") == (60, 0)
    with pytest.raises(FacepackError, match="different pictures"):
        merge_packs([one, tmp_path / "2.zip"], tmp_path / "out.zip")


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "1/0", "1/99999", "a/b", "-1/2"])
def test_no_part(text):
    with pytest.raises(InputError, match="is no part"):
        parse_shard(text)


def test_a_worker_with_another_model_refuses():
    recipe = RendererRecipe(FacepackSettings(model_hash="f" * 16), None, "cpu")
    with pytest.raises(UnsupportedModelError, match="same model on every machine"):
        recipe()
