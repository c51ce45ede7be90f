"""The live page over HTTP, as curl and gradio_client see it."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from ehmfaces import endpoints
from ehmfaces.provenance import Provenance
from ehmfaces.ui.api_tab import api_snippets
from ehmfaces.ui.facepack_tab import EXAMPLE

pytestmark = pytest.mark.filterwarnings("ignore")
FILE_PARAMETERS = {"facepack": {"roster"}, "cutout": {"image"}, "check": {"pack"}}


def ask(url, payload=None, timeout=60):
    data = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


def call(page_url, endpoint, **parameters):
    """Return the last event's name and data, as curl would print them."""
    event = json.loads(ask(f"{page_url}/gradio_api/call/v2/{endpoint}", parameters))["event_id"]
    stream = ask(f"{page_url}/gradio_api/call/{endpoint}/{event}").decode()
    name, data = re.findall(r"event: (\w+)\ndata: (.*)\n", stream)[-1]
    return name, json.loads(data)


@pytest.fixture(scope="module")
def schema(page_url):
    return json.loads(ask(f"{page_url}/gradio_api/info"))


def test_exactly_these_endpoints_are_public(schema):
    assert set(schema["named_endpoints"]) == {f"/{name}" for name in endpoints.ALL}
    assert not schema["unnamed_endpoints"]


def test_every_parameter_is_named_and_only_files_are_required(schema):
    for path, endpoint in schema["named_endpoints"].items():
        required = FILE_PARAMETERS.get(path.strip("/"), set())
        for parameter in endpoint["parameters"]:
            name = parameter["parameter_name"]
            assert not name.startswith("param_")
            assert parameter["parameter_has_default"] == (name not in required), name


def test_defaults_of_the_page_and_of_the_functions_agree(schema, session):
    import inspect

    from ehmfaces.ui.facepack_tab import make_facepack
    from ehmfaces.ui.generate_tab import make_generate
    from ehmfaces.ui.mix_tab import make_mix

    for name, make in (("generate", make_generate), ("mix", make_mix), ("facepack", make_facepack)):
        signature = inspect.signature(make(session)).parameters
        for parameter in schema["named_endpoints"][f"/{name}"]["parameters"]:
            if parameter["parameter_has_default"]:
                key = parameter["parameter_name"]
                assert parameter["parameter_default"] == signature[key].default, key


def test_curl_makes_faces_and_gets_png_files(page_url):
    name, data = call(page_url, "generate", seeds="7", count=2)
    assert name == "complete"
    faces = data[0]
    assert [face["caption"] for face in faces] == ["Seed 7", "Seed 8"]
    assert Provenance.read(ask(faces[0]["image"]["url"])).seed == 7


def test_a_number_is_good_as_a_seed(page_url):
    assert call(page_url, "generate", seeds=3, count=1)[0] == "complete"


@pytest.mark.parametrize(
    ("endpoint", "parameters", "sentence"),
    [
        ("generate", {"seeds": "seven"}, "not a whole number"),
        ("generate", {"truncation_psi": 9}, "9"),
        ("generate", {"portrait_format": "poster"}, "poster"),
        ("mix", {"col_styles": "99"}, "no style layers"),
        ("facepack", {"roster": None}, "No roster"),
        ("cutout", {"image": None}, "No picture"),
    ],
)
def test_curl_gets_sentences(page_url, endpoint, parameters, sentence):
    name, data = call(page_url, endpoint, **parameters)
    assert name == "error"
    assert sentence in json.dumps(data)


def test_files_of_the_server_cannot_be_asked_for(page_url):
    path = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        call(page_url, "facepack", roster=path)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(f"{page_url}/gradio_api/file=/etc/passwd")


def test_the_monitor_is_off(page_url):
    with pytest.raises(urllib.error.HTTPError):
        ask(f"{page_url}/monitoring/summary")


def test_the_page_fetches_nothing_from_elsewhere(page_url):
    theme = ask(f"{page_url}/theme.css").decode()
    assert not re.findall(r"""(?:url\(|@import)\s*["']?\s*(?:https?:)?//""", theme)


def test_the_javascript_example_names_real_parameters(schema):
    javascript = api_snippets("http://x")[3]
    calls = re.findall(r'"/(\w+)", \{ (.*?) \}\)', javascript)
    assert [name for name, _ in calls] == ["generate", "facepack"]
    for name, body in calls:
        known = {p["parameter_name"] for p in schema["named_endpoints"][f"/{name}"]["parameters"]}
        assert {part.split(":")[0].strip() for part in body.split(", ")} <= known


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="curl or bash is absent")
def test_the_curl_example_runs(page_url, tmp_path):
    lines = EXAMPLE.read_text("utf-8-sig").splitlines()[:4]
    (tmp_path / "players.csv").write_text("\n".join(lines), "utf-8")
    script = api_snippets(page_url)[2]
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("event: complete") == 2
    assert "facepack.zip" in done.stdout
