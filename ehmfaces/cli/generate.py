"""`ehmfaces generate`: portraits from seeds, or again from a portrait's own record."""

from pathlib import Path
from typing import Any

import click

from ehmfaces.cli.options import (
    FILE,
    FOLDER,
    SEEDS,
    face_options,
    model_options,
    portrait_options,
    synthesis_options,
    wish_options,
)
from ehmfaces.types import NoiseMode


@click.command()
@click.option("--seeds", type=SEEDS, help="Like 0-15 or 1,2,5-10.")
@click.option("--from", "portrait", type=FILE, help="Make the portrait in this PNG again, from its record.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the pictures.")
@face_options
@portrait_options
@model_options
@synthesis_options
@wish_options
def generate(
    seeds: list[int] | None,
    portrait: Path | None,
    out: Path,
    truncation_psi: float,
    noise_mode: NoiseMode,
    format_name: str,
    background: str,
    backend: str,
    model: str | None,
    device: str | None,
    engine: str | None,
    precision: str | None,
    wishes: dict[str, Any],
) -> None:
    """Make one portrait per seed: OUT/seed0000000000.png."""
    from tqdm import tqdm

    from ehmfaces.cutout.base import load_cutout_backend
    from ehmfaces.facepack.render import PortraitRenderer, remake
    from ehmfaces.hub import load_pipeline
    from ehmfaces.images import parse_color, write_bytes_atomically
    from ehmfaces.latents.directions import Wishes
    from ehmfaces.portrait.formats import get_format

    if (seeds is None) == (portrait is None):
        raise click.UsageError("Give either --seeds, like 0-15, or --from PORTRAIT.png.")
    pipeline = load_pipeline(model, device, engine, precision, click.echo)
    if portrait is not None:
        write_bytes_atomically(out / portrait.name, remake(pipeline, portrait))
        click.echo(f"Made {out / portrait.name} again.")
        return
    renderer = PortraitRenderer(
        pipeline,
        load_cutout_backend(backend),
        get_format(format_name),
        parse_color(background),
        truncation_psi,
        noise_mode,
        wishes=Wishes(**wishes),
    )
    for seed in tqdm(seeds, desc="Portraits", unit="face", disable=None):
        write_bytes_atomically(out / f"seed{seed:010d}.png", renderer.render(seed))
    click.echo(f"Made {len(seeds or [])} portraits in {out}.")
