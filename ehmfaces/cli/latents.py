"""`ehmfaces mix`: the grid of style mixing."""

from pathlib import Path

import click

from ehmfaces.cli.options import FILE, SEEDS, face_options, model_options
from ehmfaces.types import NoiseMode


@click.command()
@click.option("--row-seeds", type=SEEDS, required=True, help="Faces down the left side.")
@click.option("--col-seeds", type=SEEDS, required=True, help="Faces along the top.")
@click.option(
    "--col-styles", default="0-3", show_default=True, help="Layers from the top faces: 0-3, coarse, ..."
)
@click.option("--out", type=FILE, required=True, help="Picture of the grid.")
@face_options
@model_options
def mix(
    row_seeds: list[int],
    col_seeds: list[int],
    col_styles: str,
    out: Path,
    truncation_psi: float,
    noise_mode: NoiseMode,
    model: str | None,
    device: str | None,
) -> None:
    """Cross every row face with every column face."""
    from ehmfaces.facepack.render import mixing_grid
    from ehmfaces.hub import load_pipeline
    from ehmfaces.images import encode_png, write_bytes_atomically
    from ehmfaces.latents.mixing import parse_styles

    pipeline = load_pipeline(model, device)
    styles = parse_styles(col_styles, pipeline.num_ws)
    grid = mixing_grid(pipeline, row_seeds, col_seeds, styles, truncation_psi, noise_mode)
    write_bytes_atomically(out, encode_png(grid))
    click.echo(f"Layers {styles} come from the top row. Grid: {out}")
