import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ehmfaces.engine.process_engine import ProcessEngine
from ehmfaces.errors import EngineError, InputError


class Maker:
    """Travels to the processes, as a recipe does."""

    def __init__(self, kind="square"):
        self.kind = kind

    def __call__(self):
        if self.kind == "none":
            raise RuntimeError("no model")
        return self.work

    def work(self, number):
        if self.kind == "divide":
            return 12 // number
        if self.kind == "die" and number == 5:
            os._exit(9)
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number


def test_results_come_in_the_order_of_the_tasks_and_tasks_are_taken_only_a_little_ahead():
    taken = []

    def tasks():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = ProcessEngine(2).map(Maker(), tasks())
    assert [next(results).value for _ in range(9)] == [number * number for number in range(9)]
    results.close()
    assert len(taken) <= 9 + 4 * 2


def test_one_failing_task_stops_no_other():
    results = list(ProcessEngine(2).map(Maker("divide"), [3, 0, 4]))
    assert [result.value for result in results] == [4, None, 3]
    assert isinstance(results[1].error, ZeroDivisionError)


def test_a_worker_that_cannot_be_made_is_an_error_of_the_whole_run():
    with pytest.raises(RuntimeError, match="no model"):
        list(ProcessEngine(1).map(Maker("none"), [1, 2]))


def test_a_process_that_is_ended_from_outside_is_an_error_that_says_how_to_go_on():
    with pytest.raises(EngineError, match="run the same command again"):
        list(ProcessEngine(1).map(Maker("die"), range(9)))


def test_no_process_stays_behind_when_its_starter_is_killed(tmp_path):
    script = tmp_path / "starter.py"
    script.write_text(
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from ehmfaces.engine.process_engine import ProcessEngine\n"
        "def make():\n"
        "    import os\n"
        "    return lambda task: os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    results = ProcessEngine(1).map(make, iter(range(10**9)))\n"
        "    print(next(results).value, flush=True)\n"
        "    import time; time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    worker = int(starter.stdout.readline())
    starter.kill()
    starter.communicate()
    for _ in range(200):
        if not is_running(worker):
            break
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_tasks_start_nothing():
    assert list(ProcessEngine(3).map(Maker("none"), [])) == []


def test_impossible_numbers_of_workers():
    with pytest.raises(InputError, match="0 workers"):
        ProcessEngine(0)
