"""`ehmfaces dataset`: training sets."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from ehmfaces.cli.options import BACKGROUND, FOLDER
from ehmfaces.data.quality import RULES
from ehmfaces.facepack.uniqueness import DEFAULT_THRESHOLD


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


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the number of every rule."""
    for rule in reversed(RULES):
        command = click.option(
            f"--{rule.option}",
            type=float,
            default=rule.limit,
            show_default=True,
            help=f"{'Most' if rule.is_most else 'Least'} {rule.words} ({rule.reason}).",
        )(command)
    return command


@dataset.command()
@click.argument(
    "sources", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True, metavar="SRC..."
)
@click.option("--out", required=True, type=FOLDER, help="The training set; the same folder resumes.")
@click.option(
    "--size", "size_px", type=click.IntRange(64, 1024), default=256, show_default=True, help="Pixels."
)
@click.option(
    "--background",
    type=BACKGROUND,
    default="game",
    show_default=True,
    help="game (its dark blue) or #rrggbb.",
)
@click.option(
    "--backend",
    type=click.Choice(["deeplab", "rembg"]),
    default="deeplab",
    show_default=True,
    help="Who cuts people out where there is no alpha.",
)
@click.option(
    "--reference-date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Day of the ages by birth date, YYYY-MM-DD. Default: that of the first run, which is its day.",
)
@click.option(
    "--sex",
    type=click.Choice(["auto", "male", "female"]),
    default="auto",
    show_default=True,
    help="Label of everybody; auto guesses from looks.",
)
@click.option("--needs-alpha", is_flag=True, help="Leave out pictures with no or a fake cut-out.")
@click.option(
    "--min-distance",
    type=click.FloatRange(0),
    default=DEFAULT_THRESHOLD,
    show_default=True,
    help="Two portraits that are nearer are duplicates; 0 = none are.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads.")
@_limit_options
def prepare(
    sources: tuple[Path, ...],
    out: Path,
    size_px: int,
    background: str,
    backend: str,
    reference_date: datetime | None,
    sex: Any,
    needs_alpha: bool,
    min_distance: float,
    workers: int,
    **limits: float,
) -> None:
    """Make a training set from facepacks or any photos: folders at any depth, or ZIPs.

    Pictures that do not fit are left out, each with its reasons in report.csv. The others are aligned, cut
    out and put into OUT/portraits with landmarks.npz and labels.csv, and over the background into
    OUT/dataset.zip.
    """
    from tqdm import tqdm

    from ehmfaces.cutout.base import load_cutout_backend
    from ehmfaces.data.candidate import PrepareOptions
    from ehmfaces.data.prepare import count_reasons, load_reference_date, prepare_dataset
    from ehmfaces.engine.local_engine import LocalEngine
    from ehmfaces.facepack.found_name import read_name
    from ehmfaces.facepack.pack_files import open_pack
    from ehmfaces.images import parse_color

    color = parse_color(background)
    if color is None:
        raise click.BadParameter("A training set needs a colour: game or #rrggbb.", param_hint="--background")
    day = reference_date.date() if reference_date else load_reference_date(out) or date.today()
    limits = {rule.option: limits[rule.option.replace("-", "_")] for rule in RULES}
    options = PrepareOptions(size_px, color, day, sex, needs_alpha, limits)
    with ExitStack() as stack, tqdm(unit="picture", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        lines = prepare_dataset(
            [stack.enter_context(open_pack(source)) for source in sources],
            out,
            lambda: load_cutout_backend(backend),
            LocalEngine(workers),
            options,
            settings={"backend": backend, "min_distance": min_distance},
            read_birth_date=lambda stem: read_name(stem).birth_date,
            find_twins=lambda files, ranks: _find_twins(files, ranks, min_distance),
            progress=show,
        )
    counts = count_reasons(lines)
    for name in sorted(counts):
        click.echo(f"{counts[name]:7d} {name}")
    click.echo(f"{out}: {counts['kept']} portraits from {len(lines)} files; see report.csv and sheets.")


def _find_twins(files: Sequence[Path], ranks: Sequence[object], distance: float) -> Mapping[int, int]:
    """Return which portraits are to be left out and whom they look like, by the measure of facepacks."""
    import numpy as np

    from ehmfaces.facepack.uniqueness import choose_redrawn, find_alike, measure_face

    described = [(index, measure_face(file.read_bytes())) for index, file in enumerate(files)]
    known = [(index, features) for index, features in described if features is not None]
    if not distance or len(known) < 2:
        return {}
    near, _ = find_alike(np.stack([features for _, features in known]), distance)
    pairs = [(known[first][0], known[second][0]) for first, second in near]
    losers = set(choose_redrawn(pairs, ranks, [False] * len(files)))
    others: dict[int, int] = {}
    for pair in pairs:
        for loser, other in (pair, pair[::-1]):
            if loser in losers and other not in losers:
                others.setdefault(loser, other)
    return others
