"""`ehmfaces model`: what a generator is."""

from pathlib import Path

import click

from ehmfaces.cli.options import model_options


@click.group()
def model() -> None:
    """Show models."""


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
    click.echo(f"Hash:        {pipeline.model_hash}")


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
