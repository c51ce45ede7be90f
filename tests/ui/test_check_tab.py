import gc
import warnings
import zipfile

import pytest
from PIL import Image

from ehmfaces.client import Client
from ehmfaces.errors import EHMFacesError
from ehmfaces.images import encode_png
from ehmfaces.ui.check_tab import make_check

pytestmark = pytest.mark.filterwarnings("ignore")
NAME = "players/<img src=x onerror=alert(1)>_Berg_07_03_2006.png"


@pytest.fixture(scope="module", autouse=True)
def _let_go_of_sockets():
    """Collect what the page's start left unclosed while warnings are ignored."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def pack(tmp_path):
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(NAME, encode_png(Image.new("RGB", (160, 200))))
        archive.writestr("players/=cmd_Berg_1_1_1990.png", b"no picture")
    return path


def test_the_endpoint_finds_and_stores(page_url, pack, tmp_path):
    roster = tmp_path / "roster.csv"
    roster.write_text("First name,Last name,Born\nAnn,Berg,7.3.2006\n")
    with Client(page_url) as client:
        summary, findings = client.check(pack, roster, out=tmp_path / "findings.csv")
        assert summary.startswith("2 pictures: ")
        assert ["padded-date", NAME] in [row[1:3] for row in findings]
        assert "no-portrait" in {row[1] for row in findings}
        assert "no-portrait" in (tmp_path / "findings.csv").read_text("utf-8-sig")
        roster.write_text("nonsense")
        with pytest.raises(EHMFacesError):
            client.check(pack, roster)


def test_what_is_no_pack_is_a_sentence(make_session, tmp_path):
    check = make_check(make_session())
    (tmp_path / "x.zip").write_bytes(b"nothing")
    for wrong, words in (
        (None, "No facepack was given"),
        (str(tmp_path / "x.zip"), "Give a folder or a ZIP"),
    ):
        with pytest.raises(Exception, match=words):
            check(wrong)


def test_a_check_that_takes_too_long_ends(make_session, pack):
    with pytest.raises(Exception, match="too large to check here"):
        make_check(make_session(request_time_sec=-1.0))(str(pack))


def test_a_clean_pack_says_so(make_session, tmp_path):
    with zipfile.ZipFile(tmp_path / "clean.zip", "w") as archive:
        archive.writestr("players/readme.txt", b"hello")
    assert make_check(make_session())(str(tmp_path / "clean.zip"))[:2] == (
        "0 pictures, nothing to report.",
        [],
    )
