"""Parts of the server that need no page: turns, the work folder, budgets, addresses."""

import os
import threading
import time

import pytest

from ehmfaces.ui.turns import TurnLock
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
