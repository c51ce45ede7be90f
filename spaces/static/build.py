"""Assemble the page that needs no server: python spaces/static/build.py OUT [--model DIR_OR_HUB_ID].

Owns which files make it up: the page beside this script, the exported graphs, and three files of
onnxruntime-web (MIT licence), fetched from npm at one version and compared with its known hash. They are not
kept in the repository: the WebAssembly alone is 14 MB. Any file server can serve OUT.
"""

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ehmfaces import __version__
from ehmfaces.hub import load_pipeline
from ehmfaces.latents.mixing import style_groups
from ehmfaces.provenance import DESCRIPTION
from ehmfaces.synthesis.onnx_graph import build_graph, check_graph

PAGE = Path(__file__).resolve().parent / "page"
RUNTIME = "onnxruntime-web@1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME_FILES = (
    "package/dist/ort.wasm.min.mjs",
    "package/dist/ort-wasm-simd-threaded.mjs",
    "package/dist/ort-wasm-simd-threaded.wasm",
)


def fetch_runtime(out: Path) -> None:
    """Put the runtime's files into a folder.

    Raises:
        RuntimeError: npm is missing or fails, or the package is not the known one.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm was not found. Install Node.js; it fetches onnxruntime-web.")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", RUNTIME, "--silent", "--pack-destination", folder]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        packages = list(Path(folder).glob("*.tgz"))
        if result.returncode or len(packages) != 1:
            raise RuntimeError(f"npm could not fetch {RUNTIME}: {result.stderr.strip()[-300:]}")
        digest = hashlib.sha512(packages[0].read_bytes()).digest()
        if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
            raise RuntimeError(f"{RUNTIME} is not the package that this script knows. Nothing was written.")
        with tarfile.open(packages[0]) as package:
            for name in RUNTIME_FILES:
                content = package.extractfile(name)
                assert content is not None
                (out / Path(name).name).write_bytes(content.read())


def export_model(out: Path, model: str | None) -> None:
    """Write mapping.onnx, w.onnx (weights as float16) and model.json."""
    pipeline = load_pipeline(model, "cpu", "torch", "float32")
    for graph in ("mapping", "w"):
        data = build_graph(pipeline.generator, graph, precision="float16")
        check_graph(data, pipeline.generator, graph, "const", "float16")
        (out / f"{graph}.onnx").write_bytes(data)
    names = ("z_dim", "w_dim", "num_ws", "img_resolution")
    facts = {name: getattr(pipeline.generator, name) for name in names} | {
        "ehmfaces_version": __version__,
        "description": DESCRIPTION,
        "model_id": pipeline.model_id,
        "model_hash": pipeline.model_hash,
        "style_groups": {name: list(layers) for name, layers in style_groups(pipeline.num_ws).items()},
    }
    (out / "model.json").write_text(json.dumps(facts, indent=1), "utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Assemble the page that makes faces without a server.")
    parser.add_argument("out", type=Path, help="folder; made when it is missing")
    parser.add_argument("--model", help="a folder or a Hub id; default: the embedded one")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        fetch_runtime(options.out)
    except RuntimeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    shutil.copytree(PAGE, options.out, dirs_exist_ok=True)
    export_model(options.out, options.model)
    total = 0
    for path in sorted(options.out.iterdir()):
        total += path.stat().st_size
        print(f"{path.stat().st_size:>12,}  {path.name}")
    print(f"{total:>12,}  bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
