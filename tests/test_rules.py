"""The project's rules, as tests."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ehmfaces
from ehmfaces import endpoints
from ehmfaces.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


def loaded_after(statement):
    code = f"{statement}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize(
    "statement",
    ["import ehmfaces", "import ehmfaces.cli", "import ehmfaces.roster.reader, ehmfaces.facepack.plan"],
)
def test_light_parts_load_nothing_heavy(statement):
    assert not loaded_after(statement) & {
        "torch",
        "gradio",
        "diffusers",
        "transformers",
        "ray",
        "rembg",
        "cv2",
    }


def test_public_names_are_sorted_and_there():
    names = [name for name in ehmfaces.__all__ if name != "__version__"]
    assert names == sorted(names)
    assert all(getattr(ehmfaces, name) is not None for name in names)
    assert set(names) <= set(dir(ehmfaces))
    with pytest.raises(AttributeError, match="no attribute"):
        _ = ehmfaces.nothing


def test_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ehmfaces.__version__


def names_in(lines):
    return {
        re.split(r"[\[<>=;! ]", line.strip())[0].lower().replace("_", "-") for line in lines if line.strip()
    }


def test_requirements_agree_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert all("==" in line for line in lines)
    extra = project["optional-dependencies"]
    assert names_in(project["dependencies"]) | names_in(extra["rembg"]) <= names_in(lines)
    dev = names_in((ROOT / "requirements-dev.txt").read_text().splitlines())
    assert names_in(extra["train"]) <= dev | names_in(lines)  # -r requirements.txt


def test_no_pickle_and_no_module_without_a_noun():
    for path in (ROOT / "ehmfaces").rglob("*.py"):
        text = path.read_text("utf-8")
        assert not re.search(r"^\s*(import pickle|from pickle)|pickle\.loads?\(", text, re.M), path
        assert "weights_only=False" not in text, path
        assert path.stem not in {"utils", "helpers", "common", "misc", "manager"}
        assert text.startswith(('"""', 'r"""')), f"{path} does not say what it owns"


def test_the_space_folder_never_becomes_a_package():
    assert not (ROOT / "spaces" / "__init__.py").exists()


def test_endpoint_names_are_an_interface():
    assert endpoints.ALL == ("generate", "mix", "facepack", "cutout", "check")


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text() + (ROOT / "docs" / "training.md").read_text()
    for name in COMMANDS:
        assert f"ehmfaces {name}" in readme, name


def test_the_readme_python_block_runs():
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    scope = {}
    exec(block[1], scope)
    assert scope["png"][:4] == b"\x89PNG"
    assert scope["face"].size == (scope["pipeline"].resolution,) * 2
