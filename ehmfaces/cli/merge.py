"""`ehmfaces merge`: one pack from the packs of `--shard`.

Owns printing; how packs are merged is in `facepack.shards`.
"""

from pathlib import Path

import click

from ehmfaces.cli.options import FILE


@click.command()
@click.argument("packs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="The ZIP to write.")
def merge(packs: tuple[Path, ...], out: Path) -> None:
    """Merge the PACKS of all parts of one roster into one pack."""
    from ehmfaces.facepack.shards import merge_packs

    pictures, missing = merge_packs(packs, out)
    click.echo(f"{out}: {pictures} pictures from {len(packs)} packs.")
    if missing:
        click.echo(
            f"{missing} portraits are in none of them. Make the parts that are missing, and merge all."
        )
