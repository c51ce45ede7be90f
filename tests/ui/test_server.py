"""The server as a whole, over HTTP: health, budgets, a full queue, its log, its files, its end."""

import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ehmfaces.client import Client
from ehmfaces.errors import EHMFacesError
from ehmfaces.ui.door import ServerState
from ehmfaces.ui.facepack_tab import EXAMPLE
from ehmfaces.ui.generate_tab import make_generate
from ehmfaces.ui.log import JsonLines, log_event
from ehmfaces.ui.settings import LOCAL
from ehmfaces.ui.shutdown import close_in_order
from ehmfaces.ui.workfolder import work_folder

pytestmark = pytest.mark.filterwarnings("ignore")
HTTP = httpx.Client(verify=False, timeout=60)  # loopback without TLS: loading certificates takes longer
ROOT = Path(__file__).resolve().parents[2]


def ask(url, endpoint, **parameters):
    return HTTP.post(f"{url}/gradio_api/call/v2/{endpoint}", json=parameters, timeout=60)


def result(url, endpoint, answer):
    """Return the last event's name and data."""
    stream = HTTP.get(f"{url}/gradio_api/call/{endpoint}/{answer.json()['event_id']}", timeout=60).text
    name, data = re.findall(r"event: (\w+)\ndata: (.*)\n", stream)[-1]
    return name, json.loads(data)


def upload(url, name, content):
    return HTTP.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=60)


def file_data(path):
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_health_needs_no_model_and_readiness_does(page_url, session, monkeypatch):
    monkeypatch.setattr(session, "is_ready", False)
    assert HTTP.get(f"{page_url}/healthz").json()["status"] == "ok"
    loading = HTTP.get(f"{page_url}/readyz")
    assert (loading.status_code, loading.json()) == (503, {"status": "loading"})
    session.preload()
    assert HTTP.get(f"{page_url}/readyz").json() == {"status": "ready"}


def test_only_the_last_sessions_are_kept(make_session, serve_page, monkeypatch):
    monkeypatch.setattr("ehmfaces.ui.app.SESSIONS_KEPT", 2)
    demo, url = serve_page(make_session())
    for seed in range(5):
        assert result(url, "generate", ask(url, "generate", seeds=str(seed), count=1))[0] == "complete"
    assert len(demo.state_holder.session_data) <= 2


def test_faces_and_packs_have_budgets_of_their_own(page_url, set_rules):
    url = page_url
    set_rules(faces_per_minute=6.0, packs_per_hour=3.0)
    first = ask(url, "generate", seeds="1", count=8)
    assert result(url, "generate", first)[0] == "complete"
    refused = ask(url, "mix", row_seeds="1", col_seeds="2")
    assert refused.status_code == 429
    assert "6 faces a minute" in refused.json()["detail"]
    assert 30 <= int(refused.headers["retry-after"]) <= 75  # eight faces from a bucket of two
    roster = upload(url, "players.csv", EXAMPLE.read_bytes()).json()[0]
    pack = ask(url, "facepack", roster=file_data(roster), limit=1)
    assert result(url, "facepack", pack)[0] == "complete"
    again = ask(url, "facepack", roster=file_data(roster), limit=1)
    assert "3 facepacks an hour" in again.json()["detail"]


def test_the_python_client_gets_the_sentence_of_a_refusal(page_url, set_rules, tmp_path):
    set_rules(faces_per_minute=3.0)
    with Client(page_url) as client:
        client.generate("1", out=tmp_path)
        with pytest.raises(EHMFacesError, match="at most 3 faces a minute"):
            client.generate("1", out=tmp_path)


def test_too_many_requests_of_any_kind_are_refused(page_url, set_rules):
    set_rules(requests_per_minute=20.0)
    answers = [upload(page_url, "a.csv", b"x").status_code for _ in range(4)]
    assert answers == [200, 200, 429, 429]


@pytest.mark.parametrize(("proxies", "statuses"), [("", [200, 429]), ("127.0.0.1", [200, 200])])
def test_a_forwarded_address_counts_only_behind_a_trusted_proxy(page_url, set_rules, proxies, statuses):
    set_rules(requests_per_minute=10.0, trusted_proxies=proxies)
    seen = []
    for address in ("203.0.113.5", "203.0.113.6"):
        headers = {"X-Forwarded-For": f"198.51.100.1, {address}"}
        answer = HTTP.post(f"{page_url}/gradio_api/upload", files={"files": ("a", b"x")}, headers=headers)
        seen.append(answer.status_code)
    assert seen == statuses


def test_a_full_queue_is_a_sentence_and_works_again_later(make_session, serve_page, tmp_path):
    session = make_session(max_waiting=2)
    session.preload()
    _, url = serve_page(session)
    with session._turn:
        answers = []
        for _ in range(3):
            answers.append(ask(url, "generate", seeds="1", count=1))
            time.sleep(0.3)  # the first one leaves the queue and waits for the device
        full = ask(url, "generate", seeds="1", count=1)
        assert [answer.status_code for answer in answers] == [200] * 3
        assert (full.status_code, full.json()["detail"]) == (503, "The queue is full. Try again in a minute.")
        assert full.headers["retry-after"] == "60"
        with Client(url) as client, pytest.raises(EHMFacesError, match="queue of the server is full"):
            client.generate("1", out=tmp_path)
    assert [result(url, "generate", answer)[0] for answer in answers] == ["complete"] * 3


def test_nobody_goes_past_the_queue(page_url):
    answer = HTTP.post(f"{page_url}/gradio_api/run/generate", json={"data": ["1", 1]})
    assert answer.status_code == 404


def test_faces_made_in_time_are_handed_over(make_session):
    late = make_session(request_time_sec=-1.0)
    assert len(make_generate(late)("1", 5)) == 1


def test_a_failure_names_the_number_of_its_request(page_url, session, monkeypatch):
    def broken(*_, **__):
        raise ValueError("Jane Doe")

    monkeypatch.setattr(session, "renderer", broken)
    answer = ask(page_url, "generate", seeds="1", count=1)
    _, data = result(page_url, "generate", answer)
    assert answer.headers["x-request-id"] in json.dumps(data)
    assert "Jane" not in json.dumps(data)


def test_the_log_tells_calls_and_no_secrets(page_url, caplog):
    roster = "First Name,Second Name,Date Of Birth\nZebedee,Quixote,14.3.2004\n"
    with caplog.at_level(logging.INFO, "ehmfaces.server"):
        path = upload(page_url, "secret squad.csv", roster.encode()).json()[0]
        ask_pack = ask(page_url, "facepack", roster=file_data(path))
        assert result(page_url, "facepack", ask_pack)[0] == "complete"
        result(page_url, "generate", ask(page_url, "generate", seeds="Zebedee"))
        ask(page_url, "cutout", image=file_data("/home/zebedee/x.png"))
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    calls = [line for line in lines if line["event"] == "call"]
    assert [(line["endpoint"], line["status"]) for line in calls] == [
        ("facepack", "ok"),
        ("generate", "refused"),
    ]
    assert calls[0]["request"] == ask_pack.headers["x-request-id"]
    assert all(line["ms"] >= 0 and re.fullmatch(r"[0-9a-f]{12}", line["client"]) for line in calls)
    assert [line["status"] for line in lines if line["event"] == "refusal"] == [400]
    text = json.dumps(lines).lower()
    assert not [word for word in ("zebedee", "quixote", "squad", "127.0.0.1", "ehmfaces-") if word in text]


def test_only_listed_facts_can_be_logged():
    with pytest.raises(ValueError, match="may not be logged"):
        log_event("call", name="Jane Doe")


def test_uploads_and_results_vanish(page_url):
    sent = upload(page_url, "players.csv", EXAMPLE.read_bytes()).json()[0]
    abandoned = upload(page_url, "abandoned.csv", b"a,b,c").json()[0]
    name, data = result(page_url, "generate", ask(page_url, "generate", seeds="5", count=1))
    assert name == "complete"
    face = data[0][0]["image"]
    assert HTTP.get(face["url"]).status_code == 200
    assert work_folder().sweep(-1.0) >= 3
    assert not any(os.path.exists(path) for path in (sent, abandoned, face["path"]))
    assert HTTP.get(face["url"]).status_code == 403
    gone = ask(page_url, "facepack", roster=file_data(sent))
    assert (gone.status_code, "no longer here" in gone.json()["detail"]) == (400, True)


def long_roster(rows=5000):
    lines = [f"Vorname{i},Nachname{i},{i % 28 + 1}.{i % 12 + 1}.{1985 + i % 20}" for i in range(rows)]
    return ("First Name,Second Name,Date Of Birth\n" + "\n".join(lines)).encode()


def test_a_pack_at_the_end_of_the_server_keeps_its_part(make_session, serve_page):
    session = make_session()
    session.preload()
    rules = replace(LOCAL, grace_sec=9.0)
    demo, url = serve_page(session, rules)
    door = next(item for item in demo.app.user_middleware if "state" in item.kwargs)
    state: ServerState = door.kwargs["state"]
    roster = upload(url, "players.csv", long_roster()).json()[0]
    answer = ask(url, "facepack", roster=file_data(roster))
    seen = {}

    def watch():
        name, data = result(url, "facepack", answer)
        with zipfile.ZipFile(io.BytesIO(HTTP.get(data[2]["url"]).content)) as pack:
            seen.update(name=name, sentence=data[0], broken=pack.testzip(), files=pack.namelist())

    watching = threading.Thread(target=watch)
    watching.start()
    until = time.monotonic() + 30
    while not (session.running_jobs and state.open_answers) and time.monotonic() < until:
        time.sleep(0.02)
    began = time.monotonic()
    close_in_order(demo, state)
    took = time.monotonic() - began
    watching.join(5)
    assert took < rules.grace_sec
    assert (seen["name"], seen["broken"]) == ("complete", None)
    assert "Cancelled" in seen["sentence"]
    assert 0 < sum(name.endswith(".png") for name in seen["files"]) < 5000
    with pytest.raises(httpx.HTTPError):
        HTTP.get(f"{url}/healthz")


def test_a_pack_whose_visitor_leaves_stops(page_url, session):
    roster = upload(page_url, "players.csv", long_roster()).json()[0]
    event = ask(page_url, "facepack", roster=file_data(roster)).json()["event_id"]
    with HTTP.stream("GET", f"{page_url}/gradio_api/call/facepack/{event}", timeout=60) as stream:
        next(stream.iter_lines())
        assert session.running_jobs == 1
    until = time.monotonic() + 20
    while session.running_jobs and time.monotonic() < until:
        time.sleep(0.05)
    assert session.running_jobs == 0


@pytest.mark.slow
def test_sigterm_ends_the_real_process_and_its_files(model_dir, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ehmfaces", "serve", "--port", str(port), "--model", str(model_dir)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while time.monotonic() < until:
            try:
                if HTTP.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        assert list(tmp_path.glob("ehmfaces-*"))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, time.monotonic() - began < 30) == (0, True)
    assert [json.loads(line)["event"] for line in errors.splitlines()] == ["started", "closing", "closed"]
    assert not list(tmp_path.glob("ehmfaces-*"))
