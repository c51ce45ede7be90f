"""`ehmfaces model`: what a generator is, and its way in and out."""

import shutil
from pathlib import Path

import click

from ehmfaces.cli.options import FILE, FOLDER, SEEDS, model_options, synthesis_options
from ehmfaces.errors import InputError


@click.group()
def model() -> None:
    """Show, import, fetch and publish models."""


@model.command()
@model_options
def info(model: str | None, device: str | None) -> None:
    """Print size, resolution, layers and hash of a generator."""
    from ehmfaces.hub import load_pipeline
    from ehmfaces.latents.mixing import style_groups

    pipeline = load_pipeline(model, device)
    generator = pipeline.generator
    click.echo(f"Model:       {pipeline.model_id}")
    click.echo(f"Kind:        {type(generator).__name__}")
    click.echo(f"Resolution:  {pipeline.resolution} x {pipeline.resolution}")
    click.echo(f"Parameters:  {sum(p.numel() for p in generator.parameters()):,}")
    click.echo(f"Latents:     z {generator.z_dim}, w {generator.w_dim}, c {generator.c_dim}")
    for name, layers in style_groups(pipeline.num_ws).items():
        click.echo(f"Styles:      {name} {layers[0]}-{layers[-1]}" if layers else f"Styles:      {name} none")
    click.echo(f"Background:  {pipeline.background_color or 'unknown'}")
    click.echo(f"Licence:     {pipeline.license or 'not stated'}")
    click.echo(f"Hash:        {pipeline.model_hash}")


@model.command()
@click.argument("name", metavar="ORG/NAME[@REVISION]")
@click.option("--out", "folder", type=FOLDER, metavar="DIR", help="Put a copy there; default: cache only.")
@click.option("--force", is_flag=True, help="Fetch the weights again.")
def pull(name: str, folder: Path | None, force: bool) -> None:
    """Fetch a model from the Hub, JSON and safetensors only; an interrupted download goes on.

    A private model needs the environment variable HF_TOKEN.
    """
    from ehmfaces.model_folder import find_model, read_facts

    snapshot = find_model(name, force_download=force)
    facts = read_facts(snapshot.folder, name)
    if folder is not None:
        shutil.copytree(snapshot.folder, folder, dirs_exist_ok=True)
    click.echo(f"Model:       {facts.model_id}")
    click.echo(f"Resolution:  {facts.resolution} x {facts.resolution}")
    click.echo(f"Licence:     {facts.license or snapshot.license or 'not stated'}")
    click.echo(f"Folder:      {folder or snapshot.folder}")


@model.command()
@click.argument("name", metavar="ORG/NAME")
@click.option("--model", metavar="DIR_OR_HUB_ID", help="What to publish. Default: as for generate.")
@click.option("--branch", help="Default: main.")
@click.option("--message", default="Upload model", show_default=True, help="Of the commit.")
@click.option("--private", is_flag=True, default=None, help="For a new repository.")
@click.option("--license", "license_name", metavar="ID", help="Like apache-2.0. Default: the model's own.")
@click.option("--data", type=FILE, help="A text about the training data, for the card.")
@click.option("--metrics", type=FILE, help='Figures for the card: {"fid50k_full": 8.3}.')
@click.option("--onnx", type=FOLDER, help="Exported graphs to go along.")
@click.option("--to-folder", type=FOLDER, help="Write what would be uploaded there, upload nothing.")
def push(
    name: str,
    model: str | None,
    branch: str | None,
    message: str,
    private: bool | None,
    license_name: str | None,
    data: Path | None,
    metrics: Path | None,
    onnx: Path | None,
    to_folder: Path | None,
) -> None:
    """Publish a generator on the Hub, with a model card and a sample sheet.

    Needs the environment variable HF_TOKEN, with the right to write. No discriminator goes along.
    """
    from ehmfaces.hub import load_pipeline, model_name
    from ehmfaces.model_card import METRICS_NAME, CardWords, read_metrics

    beside = Path(model_name(model)) / METRICS_NAME
    metrics = metrics or (beside if beside.is_file() else None)
    words = CardWords(
        license_name, read_text(data) if data else None, read_metrics(metrics) if metrics else {}
    )
    pipeline = load_pipeline(model)
    if to_folder is not None:
        pipeline.save_with_card(to_folder, name, words, onnx)
        click.echo(f"Written:     {to_folder}")
        return
    address = pipeline.push_to_hub(
        name, private=private, revision=branch, commit_message=message, words=words, onnx_dir=onnx
    )
    click.echo(f"Published:   {address}")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        InputError: It cannot be read as UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f'"{path}" cannot be read ({error}). Give a text file in UTF-8.') from error


@model.command()
@click.option("--onnx", "folder", type=FOLDER, required=True, metavar="OUT", help="Folder for the graphs.")
@click.option("--model", metavar="DIR_OR_HUB_ID", help="What to export. Default: as for generate.")
@click.option(
    "--graph",
    type=click.Choice(["z", "w", "mapping", "both"]),
    default="both",
    show_default=True,
    help="z and truncation to a picture, ws to a picture, z and truncation to ws; both = z and w.",
)
@click.option("--opset", type=int, default=18, show_default=True, help="18 to 23.")
@click.option("--noise-mode", type=click.Choice(["const", "none"]), default="const", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Of the stored weights; float16 halves the file, sums stay float32.",
)
def export(folder: Path, model: str | None, graph: str, opset: int, noise_mode: str, precision: str) -> None:
    """Write ONNX graphs for any batch, compared with PyTorch by onnxruntime before they are written."""
    from ehmfaces.hub import load_pipeline
    from ehmfaces.images import write_bytes_atomically
    from ehmfaces.synthesis.onnx_graph import build_graph, check_graph

    pipeline = load_pipeline(model, "cpu", "torch", "float32")
    facts = {"model_id": pipeline.model_id, "model_hash": pipeline.model_hash}
    for name in ("z", "w") if graph == "both" else (graph,):
        data = build_graph(pipeline.generator, name, noise_mode, opset, precision, facts)
        check = check_graph(data, pipeline.generator, name, noise_mode, precision)
        path = folder / f"{name}.onnx"
        write_bytes_atomically(path, data)
        click.echo(
            f"{path}: {len(data) / 1e6:.1f} MB, differs from PyTorch by {check.difference:.1e} "
            f"(allowed {check.tolerance:.0e}, batches of {' and '.join(map(str, check.batches))})"
        )


@model.command()
@click.option("--out", "folder", type=FOLDER, required=True, metavar="OUT", help="Folder for the sheets.")
@click.option("--seeds", type=SEEDS, default="0-127", show_default=True, help="Shown as they come.")
@click.option(
    "--trunc", "truncation_psi", type=float, default=0.7, show_default=True, help="1 = as varied as it can."
)
@click.option(
    "--backend",
    type=click.Choice(["deeplab", "rembg"]),
    default="deeplab",
    show_default=True,
    help="Who cuts the person out.",
)
@model_options
@synthesis_options
def sheets(
    folder: Path,
    seeds: list[int],
    truncation_psi: float,
    backend: str,
    model: str | None,
    device: str | None,
    engine: str | None,
    precision: str | None,
) -> None:
    """Draw contact sheets of a generator: seeds, sex and age, style mixing, walks."""
    from ehmfaces.cutout.base import load_cutout_backend
    from ehmfaces.facepack.model_sheets import model_sheets
    from ehmfaces.hub import load_pipeline
    from ehmfaces.images import write_bytes_atomically

    pipeline = load_pipeline(model, device, engine, precision, click.echo)
    for sheet in model_sheets(pipeline, load_cutout_backend(backend), seeds, truncation_psi):
        path = folder / f"{sheet.name}.png"
        write_bytes_atomically(path, sheet.png)
        click.echo(f"{path}: {sheet.words}")
    if pipeline.directions is None:
        click.echo("No sheets of sex and age: this model has no directions.")


@model.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR"
)
@click.option(
    "--network",
    type=click.Choice(["G_ema", "G", "D"]),
    default="G_ema",
    show_default=True,
    help="Averaged generator, generator or discriminator.",
)
@click.option("--verify", is_flag=True, help="Read the folder back, compare, and print every shape and hash.")
def import_file(file: Path, folder: Path, network: str, verify: bool) -> None:
    """Turn a foreign checkpoint into config.json and safetensors.

    Reads pickles of StyleGAN2-ADA, StyleGAN3 and StyleGAN2 for TensorFlow, and .pt files of
    stylegan2-pytorch (rosinality), as data: nothing that is in them is ever run.
    """
    from ehmfaces.convert.checkpoint import save_checkpoint, verify_checkpoint

    saved = save_checkpoint(file, folder, network)
    network_config = saved.model.config
    resolution = network_config["img_resolution"]
    click.echo(f"File:        {file.name}, {saved.origin}, {network}")
    click.echo(f"Kind:        {type(saved.model).__name__}")
    click.echo(f"Resolution:  {resolution} x {resolution}")
    click.echo(f"Labels:      c_dim {network_config['c_dim']}")
    click.echo(f"Parameters:  {sum(p.numel() for p in saved.model.parameters()):,}")
    click.echo(f"File hash:   {saved.source_sha256}")
    click.echo(f"Hash:        {saved.weights_sha256[:16]}")
    if verify:
        for name, shape, digest in verify_checkpoint(saved):
            click.echo(f"  {digest}  {name} {list(shape)}")
        click.echo("Verified:    the folder holds the same config and the same numbers")
    click.echo(f"Written:     {folder}")
