import io
import random
import zipfile

from ehmfaces.facepack import archive
from ehmfaces.facepack.archive import ArchiveWriter


def zip_of(entries):
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    for name, data in entries:
        writer.add(name, data)
    writer.finish()
    return file


def test_zip_is_read_back_by_the_standard_library():
    entries = [
        ("players/Jiří_Ek_1_2_2003.png", b"abc"),
        ("empty", b""),
        ("big", random.Random(0).randbytes(100_000)),
    ]
    with zipfile.ZipFile(zip_of(entries)) as pack:
        assert pack.testzip() is None
        assert [(info.filename, pack.read(info)) for info in pack.infolist()] == entries
        assert {info.date_time for info in pack.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 & 0o777 for info in pack.infolist()} == {0o644}


def test_same_entries_give_the_same_bytes():
    assert zip_of([("a", b"x")]).getvalue() == zip_of([("a", b"x")]).getvalue()


def test_empty_zip_is_valid():
    with zipfile.ZipFile(zip_of([])) as pack:
        assert pack.namelist() == []


def test_more_entries_than_a_plain_zip_can_count():
    with zipfile.ZipFile(zip_of((f"{number}.png", b"") for number in range(65_600))) as pack:
        assert len(pack.namelist()) == 65_600


def test_offsets_beyond_four_gigabytes(tmp_path):
    gap = 2**32 + 1000
    with (tmp_path / "far.zip").open("wb+", buffering=0) as file:
        writer = ArchiveWriter(file)
        writer.add("near", b"n")
        writer._end = gap
        file.seek(gap)  # a sparse file: the gap takes no space
        writer.add("far", b"f")
        writer.finish()
    with zipfile.ZipFile(tmp_path / "far.zip") as pack:
        assert pack.read("far") == b"f"
        assert pack.read("near") == b"n"


def test_zip64_records_are_written_only_where_needed():
    assert archive._end_records(1, 50, 100)[:4] == b"PK\x05\x06"
    assert archive._end_records(70_000, 50, 100)[:4] == b"PK\x06\x06"
