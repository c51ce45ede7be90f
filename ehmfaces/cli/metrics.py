"""`ehmfaces metrics`: how good a generator's pictures are."""

import json
from pathlib import Path

import click

from ehmfaces.cli.options import FOLDER, model_options, synthesis_options
from ehmfaces.types import FloatArray, Pixels

SOURCE = click.Path(path_type=Path)


@click.command()
@click.option(
    "--data", required=True, type=SOURCE, help="Real portraits: the fixed set that is measured against."
)
@click.option("--training", type=SOURCE, help="Where nearest pictures are looked for. Default: DATA.")
@click.option("--out", required=True, type=FOLDER, help="Gets metrics.json, faces.json and two sheets.")
@click.option(
    "--count", type=click.IntRange(8), default=5000, show_default=True, help="Pictures, truncation 1."
)
@click.option(
    "--people", type=click.IntRange(8), default=1000, show_default=True, help="Portraits, truncation 0.7."
)
@click.option("--paths", type=click.IntRange(0), default=200, show_default=True, help="Paths; 0 = leave out.")
@click.option(
    "--faces",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="Pictures for the face rate at truncation 0.7 and again at 1; 0 = leave out.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option(
    "--size", type=click.IntRange(32), help="Pixels to compare at. Default: the model's resolution."
)
@model_options
@synthesis_options
def metrics(
    data: Path,
    training: Path | None,
    out: Path,
    count: int,
    people: int,
    paths: int,
    faces: int,
    seed: int,
    size: int | None,
    model: str | None,
    device: str | None,
    engine: str | None,
    precision: str | None,
) -> None:
    """Measure a generator against real portraits; beside each figure what two real halves give."""
    from ehmfaces.errors import InputError
    from ehmfaces.hub import load_pipeline
    from ehmfaces.images import GAME_BACKGROUND, encode_png, write_bytes_atomically
    from ehmfaces.metrics.face_rate import failure_sheet
    from ehmfaces.metrics.reference import load_reference
    from ehmfaces.metrics.report import (
        MetricSettings,
        describe_figures,
        describe_rates,
        measure_generator,
    )

    pipeline = load_pipeline(model, device, engine, precision, click.echo)
    size = size or pipeline.resolution
    if size > pipeline.resolution:
        raise InputError(
            f"--size {size} is above what the model makes. "
            f"Give at most {pipeline.resolution}, or leave it out."
        )
    background = pipeline.background_color or GAME_BACKGROUND
    report = measure_generator(
        pipeline,
        load_reference(data, size, background),
        _describe,
        MetricSettings(count, people, paths, seed, faces),
        click.echo,
        training=load_reference(training, size, background) if training else None,
    )
    write_bytes_atomically(out / "metrics.json", json.dumps(report.figures, indent=2).encode())
    write_bytes_atomically(out / "nearest.png", encode_png(report.nearest_sheet))
    for name in ("faces.json", "faces.png"):
        (out / name).unlink(missing_ok=True)  # of an earlier run
    if report.face_rates:
        rates = {name: rate.to_dict() for name, rate in report.face_rates.items()}
        write_bytes_atomically(out / "faces.json", json.dumps(rates, indent=2).encode())
    failures = failure_sheet(
        [(name.removeprefix("face_rate_"), rate) for name, rate in report.face_rates.items()]
    )
    if failures is not None:
        write_bytes_atomically(out / "faces.png", encode_png(failures))
    for line in (*describe_figures(report.figures), *describe_rates(report.face_rates)):
        click.echo(line)


def _describe(pixels: Pixels) -> FloatArray | None:
    """Describe the inner face as packs do, in the unit of their threshold."""
    from PIL import Image

    from ehmfaces.facepack.uniqueness import UNIT, measure_face
    from ehmfaces.images import encode_png

    face = measure_face(encode_png(Image.fromarray(pixels)))
    return None if face is None else face.astype("float64") * UNIT
