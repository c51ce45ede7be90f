"""`ehmfaces serve`: the page and its API on this machine."""

import click


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens it to the network.")
@click.option("--model", metavar="DIR_OR_HUB_ID", help="Generator other than the embedded one.")
def serve(port: int, host: str, model: str | None) -> None:
    """Start the page; stop it with Ctrl-C."""
    from ehmfaces.ui.app import serve as start

    start(port=port, host=host, model=model)
