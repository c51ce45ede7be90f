import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ehmfaces.client import Client
from ehmfaces.errors import EHMFacesError, InputError
from ehmfaces.provenance import Provenance

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLE = Path(__file__).parents[2] / "ehmfaces" / "ui" / "example_roster.csv"


@pytest.fixture(scope="module")
def client(page_url):
    with Client(page_url) as opened:
        yield opened


def test_generate_stores_named_pictures_with_their_record(client, tmp_path):
    paths = client.generate("4,9", out=tmp_path / "faces", truncation_psi=0.4)
    assert [path.name for path in paths] == ["seed4.png", "seed9.png"]
    record = Provenance.read(paths[1])
    assert (record.seed, record.truncation_psi) == (9, 0.4)


def test_mix_and_cutout_store_pictures(client, tmp_path, head):
    grid = client.mix("1,2", "3", "coarse", out=tmp_path / "grid.png")
    assert Provenance.read(grid).mixing["row_seeds"] == [1, 2]
    head[0].save(tmp_path / "head.png")
    with Image.open(client.cutout(tmp_path / "head.png", out=tmp_path / "cut.png")) as person:
        assert person.mode == "RGBA"


def test_facepack_reports_progress_and_stores_a_sound_zip(client, tmp_path):
    seen = []
    path = client.facepack(EXAMPLE, out=tmp_path / "pack.zip", progress=seen.append, limit=3, pack_key="k")
    with zipfile.ZipFile(path) as pack:
        assert pack.testzip() is None
        pictures = [name for name in pack.namelist() if name.endswith(".png")]
        assert len(pictures) == 3
        assert Provenance.read(io.BytesIO(pack.read(pictures[0])).getvalue()).synthetic
    assert "3 portraits made" in seen[-1]
    assert not any("<" in sentence for sentence in seen)


def test_sentences_of_the_server_arrive(client, tmp_path):
    with pytest.raises(EHMFacesError, match="not a whole number"):
        client.generate("seven", out=tmp_path)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(EHMFacesError, match="empty"):
        client.facepack(tmp_path / "empty.csv", out=tmp_path / "pack.zip")
    assert not (tmp_path / "pack.zip").exists()


def test_a_missing_file_is_noticed_here(client, tmp_path):
    with pytest.raises(InputError, match="is no file"):
        client.cutout(tmp_path / "none.png", out=tmp_path / "cut.png")


def test_an_address_without_a_page_is_a_sentence():
    with pytest.raises(EHMFacesError, match="cannot be reached"):
        Client("http://127.0.0.1:9")


def test_importing_the_client_is_light():
    heavy = "'torch', 'gradio', 'gradio_client'"
    code = f"import sys, ehmfaces.client; print([m for m in ({heavy}) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_python_example_of_the_page_runs(page_url, tmp_path, head, monkeypatch):
    from ehmfaces.ui.api_tab import api_snippets

    monkeypatch.chdir(tmp_path)
    head[0].save("photo.jpg")
    lines = EXAMPLE.read_text("utf-8").splitlines()[:4]
    Path("players.csv").write_text("\n".join(lines), "utf-8")
    for snippet in api_snippets(page_url)[:2]:
        exec(compile(re.sub(r"^print", "_ = ", snippet, flags=re.MULTILINE), "example", "exec"), {})
    assert {"faces", "grid.png", "photo_cut.png", "pack.zip"} <= {path.name for path in tmp_path.iterdir()}
