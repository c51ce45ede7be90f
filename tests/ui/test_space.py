"""The Space: its card, its files, and the entry point."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def deploy():
    spec = importlib.util.spec_from_file_location("deploy", ROOT / "spaces" / "deploy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def card():
    text = (ROOT / "spaces" / "README.md").read_text("utf-8")
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1]
    return dict(line.split(": ", 1) for line in front.splitlines() if ": " in line)


def test_the_card_names_what_the_hub_needs():
    values = card()
    assert values["sdk"] == "gradio"
    assert values["python_version"] == '"3.12"'
    assert values["license"] == "apache-2.0"
    assert (ROOT / values["app_file"]).is_file()
    assert len(values["short_description"]) <= 60


def test_the_card_pins_the_gradio_of_the_requirements():
    requirements = ROOT / "requirements.txt"
    if not requirements.is_file():
        pytest.skip("there is no requirements.txt")
    pinned = re.search(r"^gradio(?:\[\w+\])?==(\S+)", requirements.read_text("utf-8"), re.MULTILINE)
    assert pinned[1] == card()["sdk_version"]


def test_the_folder_never_becomes_a_package():
    assert not (ROOT / "spaces" / "__init__.py").exists()


def test_the_space_holds_the_app_and_no_tests(deploy):
    files = deploy.list_files()
    assert {"README.md", "app.py", "packages.txt", "ehmfaces/ui/example_roster.csv"} <= set(files)
    assert files["README.md"] == ROOT / "spaces" / "README.md"
    assert not [name for name in files if name.startswith(("tests/", "spaces/")) or "__pycache__" in name]


def test_assembling_copies_every_file(deploy, tmp_path):
    deploy.assemble(tmp_path)
    copied = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert copied == set(deploy.list_files())


def test_a_dry_run_lists_and_uploads_nothing(deploy, capsys):
    assert deploy.main(["--dry-run"]) == 0
    assert "app.py" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        deploy.main([])


def test_the_entry_point_builds_the_page_without_serving():
    code = "import os, app; print(type(app.demo).__name__, os.environ['GRADIO_ANALYTICS_ENABLED'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["Blocks", "False"]
