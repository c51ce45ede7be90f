"""The Ray engine: what needs no Ray first, then (marker ray) real actors on this machine."""

import itertools
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.engine.ray_engine import RayEngine
from ehmfaces.errors import EngineError, InputError, UnsupportedModelError

ROOT = Path(__file__).resolve().parents[2]
needs_ray = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


def test_without_ray_the_extra_is_named():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import importlib.util as u; u.find_spec = lambda name: None\n"
        "import ehmfaces.engine.ray_engine as e\n"
        "e.find_spec = lambda name: None\n"
        "from ehmfaces.errors import MissingExtraError\n"
        "try:\n    e.RayEngine()\nexcept MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert 'pip install "ehmfaces[ray]"' in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"gpus_per_worker": -1},
        {"gpus_per_worker": 1.5},
        {"quiet_sec": 0},
        {"cpus_per_worker": -1},
    ],
)
def test_impossible_numbers_are_refused_before_anything_starts(options):
    with pytest.raises(InputError, match=r"not possible|cannot be|only whole"):
        RayEngine(**options)


def test_importing_the_engine_does_not_import_ray():
    code = "import sys, ehmfaces.engine.ray_engine; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests here; the engine finds it running and leaves it running."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             configure_logging=False, object_store_memory=100 * 2**20)  # fmt: skip
    yield ray
    ray.shutdown()


def make_doubler():
    return lambda number: 2 * number


class TestWithRay:
    pytestmark = needs_ray

    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_results_come_in_the_order_of_the_tasks(self, cluster, workers):
        def make_worker():
            def work(number):
                time.sleep(0.05 if number % 3 == 0 else 0)
                return 10 * number

            return work

        results = list(RayEngine(workers, quiet_sec=60).map(make_worker, range(12)))
        assert [result.index for result in results] == list(range(12))
        assert [result.value for result in results] == [10 * number for number in range(12)]

    def test_one_failing_task_stops_no_other(self, cluster):
        def make_worker():
            return lambda number: 12 // number

        results = list(RayEngine(2, quiet_sec=60).map(make_worker, [3, 0, 4]))
        assert [result.value for result in results] == [4, None, 3]
        assert isinstance(results[1].error, ZeroDivisionError)

    def test_a_worker_that_cannot_be_made_is_an_error_of_the_whole_run(self, cluster):
        def make_worker():
            raise UnsupportedModelError("another model")

        with pytest.raises(UnsupportedModelError, match="another model"):
            list(RayEngine(2, quiet_sec=60).map(make_worker, [1, 2]))

    def test_no_tasks_start_nothing(self):
        assert list(RayEngine(2, address="127.0.0.1:1").map(make_doubler, [])) == []

    def test_tasks_may_be_endless_and_are_taken_only_a_little_ahead(self, cluster):
        taken = []

        def tasks():
            for number in itertools.count():
                taken.append(number)
                yield number

        results = RayEngine(2, quiet_sec=60).map(make_doubler, tasks())
        assert [next(results).value for _ in range(4)] == [0, 2, 4, 6]
        results.close()
        assert len(taken) <= 4 + 4 * 2

    def test_a_killed_actor_is_replaced_and_its_task_runs_again(self, cluster, tmp_path):
        flag = tmp_path / "killed"

        def make_worker():
            def work(number):
                if number == 5 and not flag.exists():
                    flag.write_text("")
                    os.kill(os.getpid(), signal.SIGKILL)
                return 2 * number

            return work

        results = list(RayEngine(2, quiet_sec=60).map(make_worker, range(12)))
        assert flag.exists()
        assert [result.value for result in results] == [2 * number for number in range(12)]

    def test_a_task_that_kills_every_actor_is_an_error_of_that_task_only(self, cluster):
        def make_worker():
            def work(number):
                if number == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                return number

            return work

        results = list(RayEngine(2, quiet_sec=60).map(make_worker, range(4)))
        assert [result.value for result in results] == [0, None, 2, 3]
        assert "3 workers died of it" in str(results[1].error)

    def test_a_hang_becomes_a_sentence(self, cluster):
        def make_worker():
            return lambda number: time.sleep(600)

        started = time.monotonic()
        with pytest.raises(EngineError, match="No worker has answered for 3 seconds"):
            list(RayEngine(2, quiet_sec=3).map(make_worker, range(4)))
        assert time.monotonic() - started < 60

    def test_more_than_the_cluster_has_is_refused_instead_of_waited_for(self, cluster):
        with pytest.raises(EngineError, match="waiting would never end"):
            list(RayEngine(3, cpus_per_worker=1).map(make_doubler, [1]))
        with pytest.raises(EngineError, match="waiting would never end"):
            list(RayEngine(1, gpus_per_worker=0.5).map(make_doubler, [1]))

    def test_two_whole_cores_for_two_actors_do_not_hang(self, cluster):
        results = RayEngine(2, cpus_per_worker=1, quiet_sec=60).map(make_doubler, range(6))
        assert [result.value for result in results] == [0, 2, 4, 6, 8, 10]

    def test_a_pack_is_the_same_as_that_of_threads(self, cluster, tmp_path):
        from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
        from ehmfaces.facepack.recipe import RendererRecipe
        from ehmfaces.facepack.writer import write_facepack
        from ehmfaces.roster.reader import read_roster

        count = int(os.environ.get("EHMFACES_RAY_FACES", "24"))
        rows = "\n".join(
            f"Ann,Berg{n},{n % 28 + 1}.{n % 12 + 1}.{1980 + n % 25},Norway" for n in range(count)
        )
        settings = FacepackSettings()
        plan = plan_facepack(read_roster(f"First name,Last name,Born,Nation\n{rows}\n".encode()), settings)
        recipe = RendererRecipe(settings, None, "cpu")
        started = time.monotonic()
        write_facepack(plan, recipe, tmp_path / "local.zip", LocalEngine(1))
        middle = time.monotonic()
        write_facepack(plan, recipe, tmp_path / "ray.zip", RayEngine(2))
        print(f"{count} faces: local {middle - started:.1f} s, ray {time.monotonic() - middle:.1f} s")
        with zipfile.ZipFile(tmp_path / "ray.zip") as archive:
            assert sum(name.endswith(".png") for name in archive.namelist()) == len(plan.jobs) == count
        assert (tmp_path / "local.zip").read_bytes() == (tmp_path / "ray.zip").read_bytes()
