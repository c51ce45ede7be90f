"""`ehmfaces facepack`: roster in, a folder or ZIP of portraits out."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from ehmfaces.cli.engines import WorkChoice, work_options
from ehmfaces.cli.options import FILE, face_options, model_options, portrait_options, synthesis_options
from ehmfaces.facepack.changes import ACTIONS, MODES, Mode, PackOptions
from ehmfaces.facepack.games import NewgenIds
from ehmfaces.facepack.uniqueness import DEFAULT_THRESHOLD
from ehmfaces.latents.directions import Sex
from ehmfaces.types import NoiseMode, PngSize

if TYPE_CHECKING:
    from ehmfaces.facepack.plan import FacepackPlan


PLACE = click.Path(path_type=Path)  # a folder or a file


def _columns(_ctx: click.Context, _param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, int | str]:
    columns: dict[str, int | str] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals:
            raise click.BadParameter(f'"{pair}" is not FIELD=COLUMN, like birth_date=DOB or birth_date=4.')
        columns[field] = int(column) - 1 if column.isdecimal() else column
    return columns


@click.command()
@click.argument("rosters", type=FILE, nargs=-1, required=True, metavar="ROSTER...")
@click.option(
    "--out", type=PLACE, required=True, help="A folder, or a ZIP by its ending. What is there is extended."
)
@click.option(
    "--game",
    "games",
    default="ehm",
    show_default=True,
    help="ehm, fm, ootp, fhm, zengm, or several with commas.",
)
@click.option("--mode", type=click.Choice(MODES), default="keep", show_default=True,
              help="keep: pictures stay, newcomers are added; refill: only lost pictures; overwrite: all "
              "anew, with a backup.")  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME", help="Draw nobody else; may be repeated.")
@click.option("--reroll", multiple=True, metavar="NAME", help="Another face, from now on; may be repeated.")
@click.option("--undo-reroll", multiple=True, metavar="NAME", help="Back to the face before.")
@click.option("--existing", type=PLACE, multiple=True, metavar="PLACE",
              help="Pass over who has a picture in this folder or ZIP; may be repeated.")  # fmt: skip
@click.option("--unique/--no-unique", default=True, show_default=True, help="Draw look-alikes again.")
@click.option("--threshold", type=click.FloatRange(0, 100), default=DEFAULT_THRESHOLD, show_default=True,
              help="Faces that are nearer than this are look-alikes.")  # fmt: skip
@click.option("--pack-key", default="", help="Another key gives everybody another face.")
@click.option("--sex", type=click.Choice(["any", "men", "women"]),
              help="Who is made. Default: men, where the model can tell.")  # fmt: skip
@click.option("--png", "png_size", type=click.Choice(["full", "small", "palette"]), default="full",
              show_default=True, help="small: a third less, hard to see; palette: bands.")  # fmt: skip
@click.option("--limit", type=click.IntRange(0), help="Make only the first N portraits.")
@click.option("--dry-run", is_flag=True, help="Say how the roster is read and what would change.")
@click.option("--encoding", help="If the file was read with the wrong letters, like cp1250.")
@click.option("--separator", help="One character between the columns.")
@click.option("--date-format", type=click.Choice(["dmy", "mdy", "ymd"]), help="Order of the birth dates.")
@click.option("--column", "columns", multiple=True, callback=_columns, metavar="FIELD=COLUMN",
              help="A field's column by title or number (first = 1); may be repeated.")  # fmt: skip
@click.option("--sheet", help="The sheet of a workbook; else the first with anything in it.")
@click.option("--titles", type=FILE, help="A CSV of more column titles: meaning,word.")
@click.option(
    "--keep-letters", is_flag=True, help="Keep letters in file names that EHM cannot store, like ř and ł."
)
@click.option("--fm-newgen-ids", type=click.Choice(["both", "r", "plain"]), default="both", show_default=True,
              help='Ids in FM\'s config.xml: with "r-" (newgens since FM 24.2), plain, or both.')  # fmt: skip
@click.option("--zengm-url", default="", help="What stands before picture names in ZenGM's imgURL.")
@click.option(
    "--zero-pad-dates", is_flag=True, help="07_03_2006 instead of 7_3_2006; EHM expects the latter."
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes, or Ray's actors."
)
@work_options
@face_options
@portrait_options
@model_options
@partial(synthesis_options, flag="--synthesis", into="synthesis")
def facepack(
    rosters: tuple[Path, ...],
    out: Path,
    games: str,
    mode: Mode,
    only: tuple[str, ...],
    reroll: tuple[str, ...],
    undo_reroll: tuple[str, ...],
    existing: tuple[Path, ...],
    unique: bool,
    threshold: float,
    pack_key: str,
    sex: Sex | None,
    png_size: PngSize,
    limit: int | None,
    dry_run: bool,
    encoding: str | None,
    separator: str | None,
    date_format: Literal["dmy", "mdy", "ymd"] | None,
    columns: dict[str, int | str],
    sheet: str | None,
    titles: Path | None,
    keep_letters: bool,
    fm_newgen_ids: NewgenIds,
    zengm_url: str,
    zero_pad_dates: bool,
    workers: int,
    engine: WorkChoice,
    truncation_psi: float,
    noise_mode: NoiseMode,
    format_name: str,
    background: str,
    backend: str,
    model: str | None,
    device: str | None,
    synthesis: str | None,
    precision: str | None,
) -> None:
    """Make a portrait for everybody in the ROSTER files and pack them as the game expects them."""
    from ehmfaces.facepack.games import get_games
    from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
    from ehmfaces.roster.reader import read_rosters
    from ehmfaces.roster.titles import standard_titles

    wanted = get_games(games)
    if click.get_current_context().get_parameter_source("format_name") == ParameterSource.DEFAULT:
        format_name = wanted[0].portrait_format
    read = read_rosters(
        rosters,
        encoding=encoding,
        separator=separator,
        columns=columns or None,
        date_order=date_format,
        sheet=sheet,
        titles=standard_titles().extended(titles) if titles else None,
        needs_birth_date=all(game.needs_birth_date for game in wanted),
    )
    for sentence in read.reading.describe():
        click.echo(sentence)
    settings: dict[str, Any] = {
        "pack_key": pack_key,
        "portrait_format": format_name,
        "background": background,
        "truncation_psi": truncation_psi,
        "noise_mode": noise_mode,
        "cutout": backend,
        "sex": sex or "any",
        "png_size": png_size,
        "games": games,
        "latin1_names": not keep_letters,
        "fm_newgen_ids": fm_newgen_ids,
        "zengm_url": zengm_url,
        "zero_pad_dates": zero_pad_dates,
        "limit": limit,
    }
    options = PackOptions(
        mode, only, reroll, undo_reroll, tuple(map(str, existing)), threshold if unique else None
    )
    if dry_run:
        _preview(engine.part_of(plan_facepack(read, FacepackSettings(**settings))), out, options)
        return
    loading = {"model": model, "device": device, "engine": synthesis, "precision": precision}
    if sex is None:
        del settings["sex"]
    _write(read, settings, out, workers, engine, loading, options)


def _preview(plan: "FacepackPlan", out: Path, options: PackOptions) -> None:
    """Print what would change."""
    from ehmfaces.facepack.writer import preview_facepack

    changes = preview_facepack(plan, out, options)
    for action in ACTIONS:
        people = changes.of(action)
        for change in people[: 20 if action != "kept" else 0]:
            drawn = f"  seed {change.seed(change.attempt)}" if change.is_drawn else f"  {change.reason}"
            click.echo(f"{action}: {change.job.path}{drawn}")
        if len(people) > 20 and action != "kept":
            click.echo(f"{action}: ... and {len(people) - 20} more")
    for path in changes.orphans[:20]:
        click.echo(f"not in the roster: {path}")
    made, kept = sum(change.is_drawn for change in changes.people), len(changes.of("kept"))
    skipped = len(plan.skipped) + len(changes.of("skipped"))
    click.echo(
        f"Would make {made} portraits, keep {kept} and skip {skipped} rows; "
        f"{len(changes.orphans)} pictures belong to nobody in the roster. Nothing was written."
    )
    for row in plan.skipped[:20]:
        click.echo(f"Row {row.row_number}: {row.reason}")


def _write(
    read: Any,
    settings: dict[str, Any],
    out: Path,
    workers: int,
    engine: WorkChoice,
    loading: dict[str, str | None],
    options: PackOptions,
) -> None:
    """Make the pack with a progress bar; Ctrl-C keeps what is done."""
    import signal

    from tqdm import tqdm

    from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
    from ehmfaces.facepack.recipe import RendererRecipe
    from ehmfaces.facepack.render import renderer_for
    from ehmfaces.facepack.uniqueness import describe_uniqueness
    from ehmfaces.facepack.writer import FacepackEvent, write_facepack
    from ehmfaces.hub import load_pipeline

    pipeline = load_pipeline(**loading, say=click.echo)
    settings.setdefault("sex", "men" if pipeline.directions else "any")
    full = FacepackSettings(**settings, model_id=pipeline.model_id, model_hash=pipeline.model_hash)
    plan = engine.part_of(plan_facepack(read, full))
    recipe = RendererRecipe(full, **loading)  # small: it travels to processes and actors
    stopped: list[bool] = []
    before = signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    try:
        with tqdm(desc="Portraits", unit="face", disable=None) as bar:

            def show(event: FacepackEvent) -> None:
                bar.total = event.total
                bar.update(event.done - bar.n)

            result = write_facepack(
                plan,
                recipe if engine.name == "ray" or workers > 1 else lambda: renderer_for(pipeline, full),
                out,
                engine.build(workers),
                progress=show,
                should_stop=lambda: bool(stopped),
                options=options,
            )
    finally:
        signal.signal(signal.SIGINT, before)
    counts = (
        f"{result.path}: {result.made} made, {result.kept} kept, {result.skipped} skipped, "
        f"{result.not_made} not made"
    )
    if result.cancelled:
        click.echo(f"{counts}. Stopped; what is done is kept. Run the same command again to go on.")
        sys.exit(130)
    click.echo(f"{counts}; see report.csv in it for each row.{describe_uniqueness(result.uniqueness)}")
    for notice in result.notices:
        click.echo(notice)
