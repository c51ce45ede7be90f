"""Parts of the server that need no page: turns, the work folder, budgets, addresses."""

import os
import threading
import time
from dataclasses import replace

import pytest

from ehmfaces.errors import InputError
from ehmfaces.ui.budget import COMPUTE_PRICE, FACES, PACKS, REQUESTS, Accounts
from ehmfaces.ui.session import Limits
from ehmfaces.ui.settings import LOCAL, PUBLIC, SPACE, from_environment, settings_for
from ehmfaces.ui.turns import TurnLock
from ehmfaces.ui.visit import client_address, current_visit
from ehmfaces.ui.workfolder import WorkFolder, start_sweeping, work_folder

OLD_SEC = 1000.0


def test_turns_are_served_in_the_order_of_coming():
    lock, order, threads = TurnLock(), [], []

    def wait(number):
        with lock:
            order.append(number)

    with lock:
        for number in range(8):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            while len(lock._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(5)
    assert order == list(range(8))


def test_who_asks_again_at_once_does_not_overtake():
    lock, seen = TurnLock(), []
    lock.__enter__()
    other = threading.Thread(target=lambda: (lock.__enter__(), seen.append("other"), lock.__exit__()))
    other.start()
    while not lock._waiting:
        time.sleep(0.001)
    lock.__exit__()
    with lock:
        seen.append("first again")
    other.join(5)
    assert seen == ["other", "first again"]


def test_a_turn_may_be_taken_twice_by_the_same_thread_and_is_free_after_an_error():
    lock = TurnLock()
    with pytest.raises(ValueError, match="x"), lock, lock:
        raise ValueError("x")
    done = threading.Event()

    def take():
        with lock:
            done.set()

    threading.Thread(target=take).start()
    assert done.wait(5)


def make_old(path):
    for entry in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(entry, (time.time() - OLD_SEC,) * 2)


def test_sweeping_takes_old_files_and_leaves_a_pack_in_the_making(tmp_path):
    folder = WorkFolder(tmp_path / "work")
    done, running, upload = folder.new_folder(), folder.new_folder(), folder.root / "abandoned"
    for path in (done / "facepack.zip", running / "row1.png", upload):
        path.write_bytes(b"12345")
    for path in (done, running, upload):
        make_old(path)
    (running / "row2.png").write_bytes(b"123")
    make = os.stat(running)
    os.utime(running, (make.st_atime, time.time() - OLD_SEC))
    assert folder.sweep(OLD_SEC / 2) == 2
    assert list(folder.root.iterdir()) == [running]
    assert folder.used_bytes == 8


def test_sweeping_follows_no_links(tmp_path):
    folder, outside = WorkFolder(tmp_path / "work"), tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (folder.root / "link").symlink_to(outside)
    folder.sweep(-10.0)
    assert (outside / "kept").exists()
    assert not list(folder.root.iterdir())


def test_the_sweeper_works_until_it_is_stopped(tmp_path):
    folder, counts = WorkFolder(tmp_path / "work"), []
    (folder.root / "old").write_text("x")
    make_old(folder.root / "old")
    stop = start_sweeping(folder, OLD_SEC / 2, 0.01, counts.append)
    try:
        until = time.monotonic() + 10
        while not counts and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        stop.set()
    assert counts == [1]


def test_the_folder_of_the_process_is_private_and_holds_uploads():
    root = work_folder().root
    assert root.stat().st_mode & 0o777 == 0o700
    assert os.environ["GRADIO_TEMP_DIR"] == str(root)
    assert len(root.name.removeprefix("ehmfaces-")) == 32


def test_a_folder_goes_as_a_whole(tmp_path):
    folder = WorkFolder(tmp_path / "work")
    (folder.new_folder() / "x").write_text("x")
    folder.remove()
    assert not folder.root.exists()


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_bucket_fills_at_its_rate_and_debts_are_paid_back():
    clock = Clock()
    accounts = Accounts(replace(LOCAL, faces_per_minute=60.0), clock)  # one a second, twenty at once
    account = accounts.of("203.0.113.5")
    assert accounts.take(account, FACES) == ("", 0.0)
    accounts.charge(account, FACES, 63)
    sentence, wait = accounts.take(account, FACES)
    assert wait == pytest.approx(45.0)  # 20 - 1 - 63 = -44, and one more for the request
    assert "60 faces a minute" in sentence
    assert "45 s" in sentence
    clock.now += 45.1
    assert accounts.take(account, FACES) == ("", 0.0)
    assert accounts.take(accounts.of("203.0.113.6"), FACES) == ("", 0.0)


def test_requests_that_compute_count_more_and_a_refusal_costs_nothing():
    clock = Clock()
    accounts = Accounts(replace(LOCAL, requests_per_minute=100.0, packs_per_hour=3.0), clock)
    account = accounts.of("a")
    assert accounts.take(account, PACKS)[0] == ""
    assert accounts.take(account, PACKS)[0].startswith(
        "You have asked for a lot: at most 3 facepacks an hour"
    )
    left = int(10 - COMPUTE_PRICE)
    assert [accounts.take(account, REQUESTS)[0] == "" for _ in range(left + 1)] == [True] * left + [False]


def test_without_limits_nothing_is_refused():
    accounts = Accounts(LOCAL, Clock())
    account = accounts.of("a")
    accounts.charge(account, FACES, 1e9)
    assert not any(accounts.take(account, kind)[0] for kind in (FACES, PACKS, REQUESTS) for _ in range(500))


def test_accounts_are_named_anonymously_and_forgotten():
    one, other = Accounts(PUBLIC, Clock()), Accounts(PUBLIC, Clock())
    assert one.of("203.0.113.5") is one.of("203.0.113.5")
    assert one.of("203.0.113.5").name != other.of("203.0.113.5").name
    for number in range(10_001):
        one.of(str(number))
    assert len(one._accounts) == 10_000


def scope(peer, *forwarded):
    return {"client": (peer, 1), "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded]}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),  # not a proxy: what it says is ignored
        ("10.0.0.1", ["198.51.100.1, 203.0.113.5"], "203.0.113.5"),  # the first entry is made up
        ("10.0.0.1", ["198.51.100.1, 203.0.113.5, 10.0.0.7"], "203.0.113.5"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.9"], "10.0.0.9"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
    ],
)
def test_the_address_that_pays(peer, forwarded, address):
    assert client_address(scope(peer, *forwarded), SPACE.proxy_networks) == address


def test_defaults_by_host():
    assert settings_for("127.0.0.1", False, {}) == LOCAL
    assert settings_for("[::1]", False, {}) == LOCAL
    assert settings_for("0.0.0.0", False, {}) == PUBLIC
    assert settings_for("0.0.0.0", True, {}) == SPACE
    assert not LOCAL.faces_per_minute + LOCAL.packs_per_hour + LOCAL.requests_per_minute
    assert not PUBLIC.proxy_networks


def test_the_environment_changes_settings():
    names = {"EHMFACES_FACES_PER_MINUTE": "12.5", "EHMFACES_ALLOWED_HOSTS": "A.example, b.example"}
    settings = settings_for("127.0.0.1", False, names)
    assert settings.faces_per_minute == 12.5
    assert settings.host_names == {"a.example", "b.example"}
    limits = from_environment(Limits(), {"EHMFACES_MAX_ROWS": "50", "EHMFACES_MODEL": "x"})
    assert limits == replace(Limits(), max_rows=50)


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf", "2.5"])
def test_wrong_numbers_in_the_environment_are_a_sentence(text):
    with pytest.raises(InputError, match="EHMFACES_MAX_DISK_BYTES"):
        settings_for("127.0.0.1", False, {"EHMFACES_MAX_DISK_BYTES": text})


def test_a_wrong_proxy_is_a_sentence():
    with pytest.raises(InputError, match="TRUSTED_PROXIES"):
        settings_for("0.0.0.0", False, {"EHMFACES_TRUSTED_PROXIES": "proxy.local"})


def test_outside_of_a_server_nobody_visits():
    assert current_visit() is None
