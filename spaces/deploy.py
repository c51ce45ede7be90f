"""Put the app onto a Space: python spaces/deploy.py OWNER/NAME [--dry-run] [--hardware ...].

Owns which files of a checkout make up the Space. The card and packages.txt move to the top; tests, this
folder and everything that git ignores stay at home.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOP_FILES = ("app.py", "requirements.txt", "pyproject.toml", "LICENSE", "CHANGELOG.md")
RENAMED = {"spaces/README.md": "README.md", "spaces/packages.txt": "packages.txt"}


def list_files(root: Path = ROOT) -> dict[str, Path]:
    """Return path in the Space -> file of the checkout, sorted; weights count even when not committed yet."""
    files = {name: root / name for name in TOP_FILES if (root / name).is_file()}
    for path in sorted((root / "ehmfaces").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            files[path.relative_to(root).as_posix()] = path
    files |= {target: root / source for source, target in RENAMED.items()}
    return dict(sorted(files.items()))


def assemble(folder: Path, root: Path = ROOT) -> None:
    """Copy the files of the Space into a folder."""
    for target, source in list_files(root).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / target)


def upload(folder: Path, repo_id: str, hardware: str | None, *, private: bool) -> str:
    """Create the Space where it is missing and upload the folder; return its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(
        repo_id,
        repo_type="space",
        space_sdk="gradio",
        space_hardware=hardware,
        private=private,
        exist_ok=True,
    )
    message = f"Deploy {_revision()}"
    api.upload_folder(
        folder_path=folder, repo_id=repo_id, repo_type="space", commit_message=message, delete_patterns="*"
    )
    return f"https://huggingface.co/spaces/{repo_id}"


def _revision() -> str:
    """Return the short hash of the checkout, or "files" outside git."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "files"


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Put the app onto a Space of the Hugging Face Hub.")
    parser.add_argument("repo_id", nargs="?", help="owner/name of the Space")
    parser.add_argument("--dry-run", action="store_true", help="list the files and stop")
    parser.add_argument("--hardware", help="like cpu-basic, zero-a10g or t4-small")
    parser.add_argument("--private", action="store_true", help="create it as a private Space")
    options = parser.parse_args(arguments)
    if options.dry_run:
        sizes = {name: path.stat().st_size for name, path in list_files().items()}
        print("\n".join(f"{size:>10,}  {name}" for name, size in sizes.items()))
        print(f"{sum(sizes.values()):>10,}  bytes in {len(sizes)} files")
        return 0
    if not options.repo_id:
        parser.error("name the Space as OWNER/NAME, or use --dry-run")
    with tempfile.TemporaryDirectory() as folder:
        assemble(Path(folder))
        print(upload(Path(folder), options.repo_id, options.hardware, private=options.private))
    return 0


if __name__ == "__main__":
    sys.exit(main())
