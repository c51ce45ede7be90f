"""`ehmfaces model`: what a generator is."""

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
