"""`ehmfaces dataset`: training sets."""

from pathlib import Path

import click

from ehmfaces.cli.options import FOLDER


@click.group()
def dataset() -> None:
    """Make training sets."""


@dataset.command()
@click.argument("faces", type=FOLDER)
@click.option(
    "--out", required=True, type=FOLDER, help="Gets pixels.npy and labels.csv; the same folder resumes."
)
@click.option("--count", type=click.IntRange(1), default=3000, show_default=True, help="Portraits in all.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--size", "size_px", type=click.IntRange(16, 512), default=128, show_default=True, help="Pixels."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
def recombine(faces: Path, out: Path, count: int, seed: int, size_px: int, workers: int) -> None:
    """Make new people from the portraits in FACES: one's hair and outline, another's inner face."""
    from tqdm import tqdm

    from ehmfaces.data.recombine import recombine_folder

    with tqdm(total=count, unit="face", disable=None) as bar:
        made = recombine_folder(
            faces,
            out,
            count,
            seed,
            size_px,
            workers,
            progress=lambda done, _total: bar.update(done - bar.n) and None,
        )
    click.echo(f"{out}: {made} new portraits, {count} in all.")
