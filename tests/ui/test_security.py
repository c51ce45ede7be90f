"""What an attacker would try against the page, over real HTTP and in a real browser.

`docs/security.md` names each promise and the test that holds it.
"""

import asyncio
import csv
import functools
import http.server
import io
import json
import os
import pickle
import re
import struct
import threading
import zipfile
import zlib

import httpx
import pytest
from PIL import Image, PngImagePlugin

from ehmfaces.provenance import KEY
from ehmfaces.ui.workfolder import work_folder

pytestmark = pytest.mark.filterwarnings("ignore")
HTTP = httpx.Client(verify=False, timeout=60)  # loopback without TLS: loading certificates takes longer
HEADER = "First Name,Second Name,Date Of Birth\n"


def ask(url, endpoint, **parameters):
    return HTTP.post(f"{url}/gradio_api/call/v2/{endpoint}", json=parameters, timeout=60)


def call(url, endpoint, **parameters):
    """Return the last event's name and data; a refusal at the door counts as an error."""
    answer = ask(url, endpoint, **parameters)
    if answer.status_code != 200:
        return "error", answer.json()["detail"]
    stream = HTTP.get(f"{url}/gradio_api/call/{endpoint}/{answer.json()['event_id']}", timeout=60).text
    name, data = re.findall(r"event: (\w+)\ndata: (.*)\n", stream)[-1]
    return name, json.loads(data)


def upload(url, name, content):
    return HTTP.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=60).json()[0]


def file_data(path, **more):
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def make_pack(url, roster, name="players.csv"):
    """Return the entries of the pack that is made of a roster."""
    status, data = call(url, "facepack", roster=file_data(upload(url, name, roster.encode())))
    assert status == "complete", data
    with zipfile.ZipFile(io.BytesIO(HTTP.get(data[2]["url"]).content)) as pack:
        return {entry: pack.read(entry) for entry in pack.namelist()}


def is_a_sentence(data):
    text = json.dumps(data)
    return (
        "inside the program" not in text and "Traceback" not in text and str(work_folder().root) not in text
    )


# --- files of other people and of the server -------------------------------------------------------------


def test_names_of_uploads_and_results_hold_128_random_bits_and_more(page_url):
    sent = upload(page_url, "players.csv", b"a,b")
    _, data = call(page_url, "generate", seeds="11", count=1)
    made = data[0][0]["image"]["path"]
    again = call(page_url, "generate", seeds="11", count=1)[1][0][0]["image"]["path"]
    assert re.fullmatch(r".*/ehmfaces-[0-9a-f]{32}/[0-9a-f]{64}/players\.csv", sent)
    assert re.fullmatch(r".*/ehmfaces-[0-9a-f]{32}/[0-9a-f]{32}/seed11\.png", made)
    assert made != again


def test_a_second_visitor_can_neither_list_nor_guess(page_url):
    sent = upload(page_url, "players.csv", b"private,to,me")
    root = work_folder().root
    folder = os.path.dirname(sent)
    with httpx.Client(base_url=page_url) as other:
        for path in (root, f"{root}/", folder, f"{folder}/", f"{root}/*", f"{root}/{'0' * 64}/players.csv"):
            assert other.get(f"/gradio_api/file={path}").status_code == 403, path
        for address in ("/config", "/gradio_api/info", "/gradio_api/startup-events", "/healthz", "/"):
            assert root.name not in other.get(address).text, address


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1:1/x",
        "/gradio_api/file=https://example.org/x",
        "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/proxy=https://x.hf.space/secret",
        "/gradio_api/deep_link?session_hash=a",
        "/gradio_api/component_server",
        "/gradio_api/vibe-code",
        "/gradio_api/run-history/records",
        "/gradio_api/profiling/summary",
        "/gradio_api/dev/reload",
        "/gradio_api/custom_component/a/client/component/../../x",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/token",
        "/monitoring",
        "/monitoring/summary",
        "/runs",
        "/docs",
        "/openapi.json",
        "/login",
        "/gradio_api/process_recording",
    ],
)
def test_addresses_that_the_page_does_not_need_are_closed(page_url, path):
    for method in ("GET", "POST"):
        assert HTTP.request(method, page_url + path).status_code == 404


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/../etc/passwd", "/app.py", "%00"])
def test_files_of_the_server_are_not_served(page_url, path):
    for prefix in ("", str(work_folder().root), f"{work_folder().root}/../.."):
        answer = HTTP.get(f"{page_url}/gradio_api/file={prefix}{path}")
        assert answer.status_code in {403, 404}
        assert "root:" not in answer.text


@pytest.fixture
def trap():
    """A server on loopback that counts who comes."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("endpoint", ["facepack", "cutout"])
def test_no_address_is_fetched_and_no_path_is_read(page_url, trap, endpoint):
    address, seen = trap
    parameter = "roster" if endpoint == "facepack" else "image"
    inside = work_folder().root
    for path in (
        f"{address}/roster.csv",
        address.replace("http", "HTTP"),
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:text/csv;base64,YQ==",
        "/etc/passwd",
        "../../etc/passwd",
        f"{inside}/../../etc/passwd",
        f"{inside}",
        "\0",
        "x" * 5000,
    ):
        status, data = call(page_url, endpoint, **{parameter: file_data(path)})
        assert status == "error", path
        assert is_a_sentence(data), data
    own = upload(page_url, "a.csv", b"no roster")
    assert call(page_url, endpoint, **{parameter: file_data(own, url=f"{address}/x")})[0] == "error"
    assert seen == []


def test_addresses_hidden_in_lists_are_found_too(page_url, trap):
    address, seen = trap
    events = HTTP.get(f"{page_url}/config").json()["dependencies"]
    for event in events:
        body = {"fn_index": event["id"], "session_hash": "s", "data": [[[file_data(f"{address}/x")]]]}
        assert HTTP.post(f"{page_url}/gradio_api/queue/join", json=body).status_code == 400
    assert seen == []


# --- uploads that are no rosters and no pictures ---------------------------------------------------------


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "players.csv", "face.png", "roster.xlsx"])
def test_pickles_are_refused_everywhere_and_never_run(page_url, tmp_path, name):
    path = upload(page_url, name, pickle.dumps(Touch(str(tmp_path / "owned"))))
    for endpoint, parameter in (("facepack", "roster"), ("cutout", "image"), ("check", "pack")):
        status, data = call(page_url, endpoint, **{parameter: file_data(path)})
        assert status == "error"
        assert is_a_sentence(data), data
    assert not (tmp_path / "owned").exists()


def png(width, height, *chunks):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*pair) for pair in chunks) + chunk(b"IEND", b"")


def zipped(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@functools.cache
def bombs():
    flat = io.BytesIO()
    Image.new("1", (8_000, 6_000)).save(flat, "PNG")
    return {
        "claims.png": png(60_000, 60_000, (b"IDAT", zlib.compress(b""))),
        "flat.png": flat.getvalue(),
        "text.png": png(
            4, 4, (b"zTXt", b"ehmfaces\0\0" + zlib.compress(bytes(70_000_000), 9)), (b"IDAT", b"")
        ),
        "archive.png": zipped("a.png", bytes(5_000_000)),
        "xml.png": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb">]><svg>&b;</svg>',
        "script.png": b"%!PS\n(run) system",
    }


@pytest.mark.parametrize(
    "name", ["claims.png", "flat.png", "text.png", "archive.png", "xml.png", "script.png"]
)
def test_image_bombs_are_sentences(page_url, name):
    path = upload(page_url, name, bombs()[name])
    status, data = call(page_url, "cutout", image=file_data(path))
    assert status == "error"
    assert is_a_sentence(data), data


@pytest.mark.parametrize("name", ["text.png", "flat.png", "archive.png"])
def test_bombs_in_a_picture_with_settings_are_sentences(tmp_path, name):
    import gradio as gr

    from ehmfaces.ui.generate_tab import restore_settings

    (tmp_path / name).write_bytes(bombs()[name])
    with pytest.raises(gr.Error) as caught:
        restore_settings(str(tmp_path / name))
    assert "inside the program" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.xlsx", zipped("xl/worksheets/sheet1.xml", bytes(60_000_000))),
        ("bomb.zip", zipped("players.csv", b"a" * 60_000_000)),
        ("slip.zip", zipped("../../../../tmp/evil.csv", HEADER)),
        ("cell.csv", (HEADER + "A" * 3_000_000 + ",B,1.2.2003\n").encode()),
        ("wide.csv", ("," * 50_000 + "\n").encode() * 3),
        ("null.csv", b"\0" * 1_000_000),
    ],
)
def test_roster_bombs_are_sentences(page_url, name, content):
    status, data = call(page_url, "facepack", roster=file_data(upload(page_url, name, content)))
    assert "0 portraits" in data[0] if status == "complete" else is_a_sentence(data), data


@pytest.mark.parametrize(
    ("entry", "content"),
    [
        ("players/Ann_Bo_1.2.2003.png", bytes(60_000_000)),
        ("players/Ann_Bo_1_2_2003.png", "claims.png"),
        ("players/Ann_Bo_1_2_2003.png", "text.png"),
        ("../../../../tmp/evil_x_1_2_2003.png", b"x"),
        ("/etc/cron.d/evil", b"x"),
        ("players/" + "a" * 60_000, b"x"),
        ("inner.zip", "archive.png"),
    ],
)
def test_packs_to_check_may_be_hostile(page_url, entry, content):
    data = zipped(entry, bombs()[content] if isinstance(content, str) else content)
    status, answer = call(page_url, "check", pack=file_data(upload(page_url, "pack.zip", data)))
    assert "inside the program" not in json.dumps(answer)
    assert status == "error" or "nothing to report" not in answer[0]
    assert not os.path.exists("/tmp/evil_x_1_2_2003.png")


def test_findings_about_a_pack_hold_no_formulas(page_url):
    data = zipped("players/=HYPERLINK(1)_x_1_2_2003.txt", b"x")
    status, answer = call(page_url, "check", pack=file_data(upload(page_url, "pack.zip", data)))
    assert status == "complete"
    findings = HTTP.get(answer[2]["url"]).content.decode("utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(findings)) for cell in row]
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "@", "-"))]


def test_sizes_are_bounded_at_the_door(make_session, serve_page):
    _, url = serve_page(make_session(max_upload_bytes=100_000))
    large = {"seeds": "1" * 1_100_000}
    assert HTTP.post(f"{url}/gradio_api/call/v2/generate", json=large).status_code == 413
    files = [("files", (f"{i}.csv", bytes(90_000))) for i in range(6)]
    answer = HTTP.post(f"{url}/gradio_api/upload", files=files)
    assert (answer.status_code, "too large" in answer.json()["detail"]) == (413, True)

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(20):
            yield bytes(50_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        status = HTTP.post(f"{url}/gradio_api/upload", content=endless(), headers=headers).status_code
    except httpx.HTTPError:
        status = 413  # the server hung up while the client was still sending
    assert status == 413
    single = HTTP.post(f"{url}/gradio_api/upload", files={"files": ("a.csv", bytes(150_000))})
    assert single.status_code == 413


def test_a_full_disk_budget_refuses_uploads_only(page_url, set_rules):
    set_rules(max_disk_bytes=1)
    work_folder().used_bytes = 2
    answer = HTTP.post(f"{page_url}/gradio_api/upload", files={"files": ("a.csv", b"x")})
    work_folder().used_bytes = 0
    assert (answer.status_code, "full" in answer.json()["detail"]) == (507, True)
    assert call(page_url, "generate", seeds="1", count=1)[0] == "complete"


# --- names of people -------------------------------------------------------------------------------------

EVIL_NAMES = [
    ("../../../etc/cron.d/x", "y"),
    ("..\\..\\windows\\x", "y"),
    ("C:\\x", "/abs"),
    ("a\0b", "c\nd"),
    ("CON", "NUL"),
    (".", ".."),
    ("%2e%2e%2f", "x"),
    ("\u202egnp.exe", "x"),
]


def test_names_never_leave_the_folders_of_the_pack(page_url):
    text = io.StringIO()
    csv.writer(text).writerows([*((*names, f"{day + 1}.2.2003") for day, names in enumerate(EVIL_NAMES))])
    for entry in make_pack(page_url, HEADER + text.getvalue()):
        assert re.fullmatch(
            r'(players|nonplayers)/[^/\\:*?"<>|\x00-\x1f]+\.png|report\.csv|settings\.json|manifest\.jsonl',
            entry,
        )
        assert ".." not in entry.split("/")


def test_formulas_stay_text_in_the_report(page_url):
    cells = ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(1)", " =1", "\t=1"]
    roster = HEADER + "".join(f'"{cell}","{cell}",{day + 1}.2.2003\n' for day, cell in enumerate(cells))
    report = make_pack(page_url, roster)["report.csv"].decode("utf-8-sig")
    for row in csv.reader(io.StringIO(report)):
        assert not [cell for cell in row if cell.lstrip().startswith(("=", "+", "@", "-"))], row


# --- hosts, origins, headers, secrets --------------------------------------------------------------------


def test_a_page_of_this_machine_answers_to_its_own_names_only(page_url):
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7860", ""):
        assert HTTP.get(page_url, headers={"Host": host}).status_code == 421, host
    port = page_url.rsplit(":", 1)[1]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "LOCALHOST.", f"[::1]:{port}"):
        assert HTTP.get(f"{page_url}/healthz", headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example", "file://"]
)
def test_another_site_cannot_use_a_page_of_this_machine(page_url, origin):
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    for path in ("/gradio_api/call/v2/generate", "/gradio_api/upload", "/config"):
        answer = HTTP.post(page_url + path, content=b"{}", headers=headers)
        assert answer.status_code == 403
        assert answer.headers.get("access-control-allow-origin") is None


def test_a_public_server_answers_to_the_hosts_it_was_told(page_url, set_rules):
    set_rules(allowed_hosts="faces.example")
    assert HTTP.get(f"{page_url}/healthz", headers={"Host": "faces.example"}).status_code == 200
    assert HTTP.get(f"{page_url}/healthz", headers={"Host": "evil.example"}).status_code == 421
    origin = {"Host": "faces.example", "Origin": "https://other.example"}
    assert HTTP.get(f"{page_url}/healthz", headers=origin).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/gradio_api/info", "/nothing/here", "/gradio_api/file=/etc"]
)
def test_every_answer_has_the_headers(page_url, path):
    headers = HTTP.get(page_url + path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "object-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert re.fullmatch(r"[0-9a-f]{16}", headers["x-request-id"])


def test_files_are_kept_out_of_shared_caches(page_url):
    _, data = call(page_url, "generate", seeds="1", count=1)
    answer = HTTP.get(data[0][0]["image"]["url"])
    assert answer.headers["cache-control"] == "private, no-store"


def test_tokens_stay_out_of_the_page_the_errors_and_the_log(page_url, monkeypatch, caplog, capfd):
    import gradio as gr

    from ehmfaces.ui.generate_tab import make_generate
    from ehmfaces.ui.session import Session

    monkeypatch.setenv("HF_TOKEN", "hf_SECRETSECRETSECRET")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with caplog.at_level("INFO"):
        texts = [
            HTTP.get(page_url + path).text for path in ("/", "/config", "/gradio_api/info", "/theme.css")
        ]
        with pytest.raises(gr.Error) as caught:
            make_generate(Session("nobody/no-such-model"))("1", 1)
    assert "no-such-model" in caught.value.message
    logged = [str(vars(record)) for record in caplog.records]
    assert "hf_SECRET" not in "".join([*texts, caught.value.message, *logged, *capfd.readouterr()])


# --- MCP -------------------------------------------------------------------------------------------------


def use_tool(url, name, arguments):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def run():
        async with (
            streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            answer = await session.call_tool(name, arguments)
            return tools, answer.isError, str(answer.content)

    return asyncio.run(run())


def test_tools_are_the_public_endpoints_and_pay_from_the_same_account(page_url, set_rules, trap):
    (address, seen), url = trap, page_url
    set_rules(faces_per_minute=3.0)
    tools, failed, _ = use_tool(url, "cutout", {"image": f"{address}/face.png"})
    assert failed
    assert seen == []
    assert {"generate", "mix", "facepack", "cutout"} <= set(tools)
    assert not [tool for tool in tools if "restore" in tool or "read" in tool or "cancel" in tool]
    first = use_tool(url, "generate", {"seeds": "1", "count": 1})
    assert not first[1], first[2]
    assert use_tool(url, "generate", {"seeds": "1", "count": 1})[1]
    assert ask(url, "generate", seeds="1", count=1).status_code == 429


def test_a_made_up_relay_mark_is_ignored(page_url, set_rules):
    set_rules(requests_per_minute=10.0)
    seen = []
    for number in range(3):
        headers = {"X-Ehmfaces-Visit": f"{number:032x}"}
        seen.append(
            HTTP.post(
                f"{page_url}/gradio_api/upload", files={"files": ("a", b"x")}, headers=headers
            ).status_code
        )
    assert seen == [200, 429, 429]


def test_a_record_with_markup_is_only_text(tmp_path):
    from ehmfaces.ui.generate_tab import restore_settings

    info = PngImagePlugin.PngInfo()
    values = {
        "ehmfaces_version": "1", "model_id": "<img src=x onerror=alert(1)>", "model_hash": "0", "seed": 1,
        "truncation_psi": 0.5, "truncation_cutoff": None, "noise_mode": "const", "mixing": None,
        "cutout": "deeplab", "portrait_format": "ehm", "background": "none",
    }  # fmt: skip
    info.add_text(KEY, json.dumps(values))
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=info)
    *_, sentence = restore_settings(str(tmp_path / "x.png"))
    assert not set("<>[]()!`*") & set(sentence)
