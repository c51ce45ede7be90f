"""`ehmfaces check`: what is wrong with a facepack, and mending what is safe.

Owns options, printing and the exit code; knows no rule.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ehmfaces.cli.options import FILE

if TYPE_CHECKING:
    from ehmfaces.facepack.check import CheckResult


@click.command()
@click.argument("pack", type=click.Path(path_type=Path))
@click.option("--roster", "rosters", type=FILE, multiple=True, help="Who the pack is for; may be repeated.")
@click.option("--game", type=click.Choice(["ehm"]), default="ehm", show_default=True, help="Whose rules.")
@click.option("--strict", is_flag=True, help="Warnings, too, give exit code 1.")
@click.option("--fix", is_flag=True, help="Mend what is safe; see docs/checking.md.")
@click.option("--out", type=FILE, help="With --fix on a ZIP: the mended copy.")
@click.option("--dry-run", is_flag=True, help="With --fix: say what would be done.")
@click.option("--report", type=FILE, help="Write all findings as CSV.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Of what is printed.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Threads.")
def check(
    pack: Path,
    rosters: tuple[Path, ...],
    game: str,
    strict: bool,
    fix: bool,
    out: Path | None,
    dry_run: bool,
    report: Path | None,
    form: str,
    workers: int,
) -> None:
    """Check the folder or ZIP PACK, ours or not. Exit code 1 when there are errors."""
    from ehmfaces.facepack.check import check_pack
    from ehmfaces.facepack.finding import encode_findings, findings_as_json
    from ehmfaces.images import write_bytes_atomically
    from ehmfaces.roster.reader import read_roster

    del game  # one so far
    people = [read_roster(path) for path in rosters]
    result = check_pack(pack, people, workers=workers)
    if report is not None:
        write_bytes_atomically(report, encode_findings(result.findings))
    if form == "json":
        click.echo(findings_as_json(result.findings, str(pack), result.pictures))
    else:
        _print(result)
    if fix:
        _fix(result, out, dry_run=dry_run, to_stderr=form == "json")
    if result.counts["error"] or (strict and result.counts["warning"]):
        raise SystemExit(1)


def _print(result: "CheckResult") -> None:
    from ehmfaces.facepack.finding import describe_findings

    for line in describe_findings(result.findings):
        click.echo(line)
    counts = result.counts
    mendable = len(result.moves) + len(result.leftovers)
    click.echo(
        f"{result.pictures} pictures: {counts['error']} errors, {counts['warning']} warnings, "
        f"{counts['notice']} notices; --fix can mend {mendable} files."
    )


def _fix(result: "CheckResult", out: Path | None, *, dry_run: bool, to_stderr: bool) -> None:
    from ehmfaces.facepack.finding import printable
    from ehmfaces.facepack.repair import describe_repairs, repair_pack

    lines = describe_repairs(result)
    if dry_run or not lines:
        for line in lines:
            click.echo(printable(line), err=to_stderr)
        click.echo(f"{len(lines)} files would be mended. Nothing was changed.", err=to_stderr)
        return
    where = repair_pack(result, out)
    kind = "Backup and record" if result.path.is_dir() else "Mended copy"
    click.echo(f"{len(lines)} files mended. {kind}: {where}. Check again to see what is left.", err=to_stderr)
