"""`ehmfaces cutout`: people out of any pictures."""

from pathlib import Path

import click

from ehmfaces.cli.options import FILE, FOLDER


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=FILE)
@click.option("--out", type=FOLDER, required=True, help="Folder for the transparent PNGs.")
@click.option("--backend", type=click.Choice(["deeplab", "rembg"]), default="deeplab", show_default=True)
@click.option(
    "--session", default="isnet-general-use", show_default=True, help="Model of the rembg back-end."
)
def cutout(pictures: tuple[Path, ...], out: Path, backend: str, session: str) -> None:
    """Cut the person out of each of PICTURES: OUT/NAME.png. A bad picture does not stop the others."""
    from ehmfaces.cutout.base import cut_out, load_cutout_backend
    from ehmfaces.errors import ImageError
    from ehmfaces.images import encode_png, open_image, write_bytes_atomically

    finder = load_cutout_backend(backend, **({"session": session} if backend == "rembg" else {}))
    bad = 0
    for path in pictures:
        try:
            result = cut_out(open_image(path), finder)
        except ImageError as error:
            click.echo(f"Skipped: {error}", err=True)
            bad += 1
            continue
        write_bytes_atomically(out / f"{path.stem}.png", encode_png(result))
    click.echo(f"Cut out {len(pictures) - bad} of {len(pictures)} pictures into {out}.")
    if bad:
        raise SystemExit(1)
