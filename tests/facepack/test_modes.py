"""What a run changes in a pack that is there: modes, names, other packs, look-alikes."""

import csv
import io
import json
import time
import zipfile

import numpy as np
import pytest

from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.errors import FacepackError
from ehmfaces.facepack.changes import PackOptions
from ehmfaces.facepack.contents import open_contents
from ehmfaces.facepack.existing import find_existing
from ehmfaces.facepack.journal import read_papers
from ehmfaces.facepack.shards import merge_packs, take_shard
from ehmfaces.facepack.uniqueness import DEFAULT_THRESHOLD, find_alike, measure_face
from ehmfaces.facepack.writer import preview_facepack, write_facepack
from ehmfaces.seeds import redraw_seed
from tests.facepack.drawn_packs import ROWS, make_colliding_worker, make_worker, picture, plan_of


def write(out, rows=ROWS, worker=make_worker, settings=None, **options):
    return write_facepack(plan_of(rows, **(settings or {})), worker, out, options=PackOptions(**options))


def pictures(pack):
    with open_contents(pack) as contents:
        return {path: contents.read(path) for path in contents.pictures.values()}


def manifest(pack):
    with open_contents(pack) as contents:
        return {draw.path: draw for draw in contents.papers.draws}


@pytest.fixture(params=["pack.zip", "pack"])
def out(request, tmp_path):
    return tmp_path / request.param


def test_keep_adds_newcomers_and_changes_nothing_else(out):
    write(out, ROWS[:20])
    before = pictures(out)
    result = write(out, ROWS[4:], settings={"background": "game"})
    after = pictures(out)
    assert (result.made, result.kept) == (4, 16)
    assert before.items() <= after.items()
    assert len(after) == 24
    assert [row.status for row in result.report] == ["kept"] * 16 + ["made"] * 4
    assert "16 kept pictures were made with other settings" in result.notices[0]
    assert len(preview_facepack(plan_of(ROWS[4:]), out).orphans) == 4


def test_refill_draws_lost_pictures_only(tmp_path):
    out = tmp_path / "pack"
    write(out, ROWS[:20], make_colliding_worker)
    before = pictures(out)
    lost = sorted(before)[3:6]
    for path in lost:
        (out / path).unlink()
    result = write(out, ROWS, make_colliding_worker, mode="refill")
    assert pictures(out) == before
    assert (result.made, result.kept, result.skipped) == (3, 17, 4)
    assert result.report[-1].reason == "New in the roster; only lost pictures were asked for."


def test_overwrite_draws_all_anew_with_a_backup_and_remembers_rerolls(out):
    write(out)
    write(out, reroll=("Ann3 Berg",))
    before = pictures(out)
    draws = []
    count = iter(range(10**6))
    plan = plan_of(ROWS, pack_key="")
    options = PackOptions(mode="overwrite", threshold=None)
    stopped = write_facepack(
        plan, make_worker, out, options=options, progress=draws.append, should_stop=lambda: next(count) > 12
    )
    assert stopped.cancelled
    result = write_facepack(plan, make_worker, out, options=options, progress=draws.append)
    assert (result.made, result.kept, len(draws)) == (24, 0, 24)
    assert pictures(out) == before
    (backup,) = (path for path in out.parent.iterdir() if ".backup-2" in path.name)
    assert pictures(backup) == before
    assert sorted(path.name for path in out.parent.iterdir()) == sorted([backup.name, out.name])


def test_a_reroll_is_remembered_counts_up_and_can_be_taken_back(out):
    path = "players/Ann3_Berg_4_3_1990.png"
    write(out)
    faces = [pictures(out)]
    for name in ("ANN3 berg", "Ann3_Berg_4_3_1990.png"):
        result = write(out, reroll=(name,))
        assert (result.made, result.kept) == (1, 23)
        faces.append(pictures(out))
    assert write(out).kept == 24
    assert len({found[path] for found in faces}) == 3
    assert {**faces[0], path: b""} == {**faces[2], path: b""}
    seed = next(job.seed for job in plan_of().jobs if job.path == path)
    assert faces[2][path] == picture(redraw_seed(seed, reroll=2))
    for number in (1, 0):
        write(out, undo_reroll=("Ann3 Berg",))
        assert pictures(out) == faces[number]
    with pytest.raises(FacepackError, match="never rerolled"):
        write(out, undo_reroll=("Ann3 Berg",))


def test_only_restricts_and_names_are_checked(out):
    result = write(out, ["Jiří,O'Novák,1.2.1990,", *ROWS[:3]], only=("JIRI ONOVAK",))
    assert (result.made, result.skipped) == (1, 3)
    assert result.report[1].reason == "Not among the people asked for."
    with pytest.raises(FacepackError, match=r'nobody is called "Ann3 Borg". Did you mean .*Ann3 Berg'):
        write(out, only=("Ann3 Borg",))
    with pytest.raises(FacepackError, match="Choose one"):
        write(out, reroll=("a b",), undo_reroll=("A B",))
    with pytest.raises(FacepackError, match="Unknown mode"):
        write(out, mode="replace")
    with pytest.raises(FacepackError, match="threshold"):
        write(out, threshold=-1.0)


def test_existing_pictures_elsewhere_are_found_in_any_spelling(tmp_path):
    place = tmp_path / "elsewhere" / "deep"
    place.mkdir(parents=True)
    (place / "JIRI_ONOVAK_01_02_1990.JPG").write_bytes(b"")
    (place / "no_date.png").write_bytes(b"")
    (place / "Ann_Berg_31_2_1990.png").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "elsewhere" / "other.zip", "w") as archive:
        archive.writestr("players/Ann2_Berg_3_3_1990.png", b"")
    assert len(find_existing([tmp_path / "elsewhere"])) == 2
    out = tmp_path / "elsewhere" / "pack"
    rows = ["Jiří,O'Novák,1.2.1990,", *ROWS[:4]]
    result = write(out, rows, existing=(str(tmp_path / "elsewhere"),))
    assert (result.made, result.skipped) == (3, 2)
    assert "JIRI_ONOVAK_01_02_1990.JPG" in result.report[0].reason
    assert "other.zip/players/Ann2_Berg" in result.report[3].reason
    again = write(out, rows, mode="overwrite", existing=(str(tmp_path / "elsewhere"),))
    assert (again.made, again.skipped) == (3, 2)
    assert find_existing([tmp_path / "elsewhere" / "other.zip"])
    with pytest.raises(FacepackError, match="neither a folder nor a ZIP"):
        write(out, existing=(str(tmp_path / "nowhere"),))


def test_a_pack_of_somebody_else_is_extended(out):
    own, foreign = picture(5), picture(6)
    names = {"players/Ann1_Berg_2_3_1990.png": own, "players/Old_Man_1_1_1960.png": foreign}
    if out.suffix:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in names.items():
                archive.writestr(name, data)
            archive.writestr("../evil.png", b"x")
            archive.writestr("readme.txt", b"x")
    else:
        for name, data in names.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
    result = write(out)
    assert (result.made, result.kept) == (23, 1)
    assert names.items() <= pictures(out).items()
    assert len(pictures(out)) == 25
    assert result.uniqueness["compared"] == 24  # who is not in the roster and has no record is not compared


def test_zips_that_are_no_packs_are_refused(tmp_path):
    (tmp_path / "text.zip").write_text("no ZIP")
    with pytest.raises(FacepackError, match="no readable ZIP"):
        write(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("players/a.png", bytes(70 * 2**20))
    with pytest.raises(FacepackError, match="Is it a pack of portraits"):
        write(tmp_path / "bomb.zip")
    write(tmp_path / "good.zip")
    data = bytearray((tmp_path / "good.zip").read_bytes())
    data[100] ^= 255
    (tmp_path / "good.zip").write_bytes(data)
    with pytest.raises(FacepackError, match="is damaged"):
        write(tmp_path / "good.zip", [*ROWS, "New,Man,1.1.1999,"])


def test_a_game_that_is_added_later_gets_copies_of_the_kept_pictures(out):
    write(out)
    result = write(out, settings={"games": "ehm,fhm"})
    assert (result.made, result.kept) == (0, 24)
    found = pictures(out)
    assert found["fhm/ann1_berg.png"] == found["players/Ann1_Berg_2_3_1990.png"]
    assert len(found) == 48


@pytest.mark.parametrize("workers", [1, 3])
def test_look_alikes_are_drawn_again_by_a_rule_that_knows_no_order(tmp_path, workers):
    packs = []
    for name, rows in (("a", ROWS), ("b", ROWS[::-1])):
        result = write_facepack(plan_of(rows), make_colliding_worker, tmp_path / name, LocalEngine(workers))
        packs.append(pictures(tmp_path / name))
    assert packs[0] == packs[1]
    features = np.stack([measure_face(data) for data in packs[0].values()])
    pairs, nearest = find_alike(features, DEFAULT_THRESHOLD)
    assert pairs == []
    assert result.uniqueness["smallest_distance"] == round(nearest.distance, 2)
    assert result.uniqueness["redrawn"] == sum(draw.attempt > 0 for draw in manifest(tmp_path / "a").values())
    first = {job.path: picture(job.seed % 50) for job in plan_of().jobs}
    same = [path for path, data in packs[0].items() if data == first[path]]
    assert len(same) == len(set(first.values()))  # of each group of look-alikes one keeps the first face
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert settings["uniqueness"]["threshold"] == DEFAULT_THRESHOLD


def test_newcomers_give_way_to_those_who_are_there(tmp_path):
    out = tmp_path / "pack"
    write(out, ROWS[::2], make_colliding_worker)
    before = pictures(out)
    write(out, ROWS, make_colliding_worker)
    after = pictures(out)
    assert before.items() <= after.items()
    assert len(set(after.values())) == 24


def test_without_uniqueness_everybody_has_the_first_face(tmp_path):
    result = write(tmp_path / "p.zip", worker=make_colliding_worker, threshold=None)
    first = {job.path: picture(job.seed % 50) for job in plan_of().jobs}
    assert pictures(tmp_path / "p.zip") == first
    assert result.uniqueness == {"threshold": None}


def test_faces_that_cannot_differ_are_left_and_said(tmp_path):
    result = write(tmp_path / "p.zip", ROWS[:3], lambda: lambda seed: picture(1))
    assert "3 pairs of faces are still alike after 12 attempts" in result.notices[0]
    assert result.uniqueness["smallest_distance"] == 0


def test_merged_parts_know_the_most_alike_faces(tmp_path):
    plan = plan_of()
    for part in (1, 2):
        write_facepack(take_shard(plan, part, 2), make_worker, tmp_path / f"{part}.zip")
    whole = write_facepack(plan, make_worker, tmp_path / "whole.zip")
    merge_packs([tmp_path / "2.zip", tmp_path / "1.zip"], tmp_path / "merged.zip")
    assert whole.uniqueness["smallest_distance"] > 0
    assert (tmp_path / "merged.zip").read_bytes() == whole.path.read_bytes()


def test_every_row_is_in_the_report_whatever_happens(out):
    write(out, ROWS[:10])
    rows = [*ROWS, "No,Date,,", "Ann1,Berg,2.3.1990,Player"]

    def make_failing_worker():
        def worker(seed):
            if seed % 3 == 0:
                raise ValueError("no nose")
            return picture(seed)

        return worker

    result = write(out, rows, make_failing_worker, only=tuple(f"Ann{n} Berg" for n in range(5, 20)))
    assert len(result.report) == 26
    assert result.made + result.kept + result.skipped + result.not_made == 26
    with open_contents(out) as contents:
        text = contents.read("report.csv").decode("utf-8-sig")
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["status"] for line in lines] == [row.status for row in result.report]
    found = pictures(out)
    assert all((line["file"] in found) == (line["status"] in ("made", "kept")) for line in lines)
    assert any("no nose" in line["reason"] for line in lines)


def test_manifests_of_anybody_are_only_data():
    head = b'{"ehmfaces_pack":1,"run":1}\n'
    assert read_papers(b"").draws == ()
    assert read_papers(b"[1]\n").run == 0
    assert read_papers(head + b'{"path":"a"}\n[]\nnull\n' + b'{"a":' * 5000).draws == ()


@pytest.mark.slow
def test_17176_faces_are_compared_in_seconds():
    features = np.random.default_rng(0).normal(0, 30, (17_176, 320)).clip(-127, 127).astype(np.int8)
    began = time.monotonic()
    assert find_alike(features, DEFAULT_THRESHOLD)[0] == []
    assert time.monotonic() - began < 60
