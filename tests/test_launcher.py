import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPORT = "import os; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('THP_MEM_ALLOC_ENABLE'))"


def output_of(code, **variables):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE")
    }
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=kept | variables,
    )
    return result.stdout.split()


def test_an_import_sets_nothing():
    assert output_of(f"import ehmfaces, ehmfaces.launcher; {REPORT}") == ["None", "None"]


def test_a_program_sets_its_own_process_and_can_be_told_not_to():
    code = f"from ehmfaces.launcher import tune_process; print(tune_process()); {REPORT}"
    answer = output_of(code)
    assert answer[1:] == ["PASSIVE", "1"]
    assert answer[0] == str(
        sys.platform.startswith("linux") and os.confstr("CS_GNU_LIBC_VERSION") is not None
    )
    assert output_of(code, EHMFACES_TUNING="0") == ["False", "None", "None"]
    assert output_of(code, OMP_WAIT_POLICY="ACTIVE")[1:] == ["ACTIVE", "1"]
