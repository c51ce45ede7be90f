"""`ehmfaces serve`: the page and its API on this machine."""

from typing import Any

import click

from ehmfaces.cli.options import synthesis_options


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens it to the network.")
@click.option("--model", metavar="DIR_OR_HUB_ID", help="Generator other than the embedded one.")
@click.option("--faces-per-minute", type=click.FloatRange(0), help="Pictures of one visitor; 0 = no limit.")
@click.option("--packs-per-hour", type=click.FloatRange(0), help="Facepacks of one visitor; 0 = no limit.")
@click.option("--allowed-host", multiple=True, metavar="NAME", help="Host name to answer to; repeatable.")
@click.option("--trusted-proxy", multiple=True, metavar="NETWORK", help="Whose X-Forwarded-For is believed.")
@synthesis_options
def serve(
    port: int,
    host: str,
    model: str | None,
    faces_per_minute: float | None,
    packs_per_hour: float | None,
    allowed_host: tuple[str, ...],
    trusted_proxy: tuple[str, ...],
    engine: str | None,
    precision: str | None,
) -> None:
    """Start the page; stop it with Ctrl-C.

    On this machine only, nothing is limited. Open to a network, one visitor may ask for 240 faces a
    minute and 6 facepacks an hour; the options and EHMFACES_ variables change that.
    """
    import os
    from dataclasses import replace

    from ehmfaces.ui.app import is_space
    from ehmfaces.ui.app import serve as start
    from ehmfaces.ui.settings import settings_for

    # the page loads its model later, as a host's variables say
    chosen = {"EHMFACES_ENGINE": engine, "EHMFACES_PRECISION": precision}
    os.environ.update({name: value for name, value in chosen.items() if value})
    given: dict[str, Any] = {
        "faces_per_minute": faces_per_minute,
        "packs_per_hour": packs_per_hour,
        "allowed_hosts": ",".join(allowed_host) or None,
        "trusted_proxies": ",".join(trusted_proxy) or None,
    }
    rules = settings_for(host, is_space())
    rules = replace(rules, **{name: value for name, value in given.items() if value is not None})
    start(port=port, host=host, model=model, rules=rules)
