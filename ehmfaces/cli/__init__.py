"""The command line: one file per noun, loaded when its command is used.

Owns the group, the table of commands and the error boundary. Commands parse, call the library and print.
"""

import sys
from importlib import import_module
from typing import Any

import click

from ehmfaces import __version__
from ehmfaces.errors import EHMFacesError
from ehmfaces.launcher import tune_process

# command -> "module:function", with the help line, so that --help imports no command.
COMMANDS = {
    "generate": ("generate:generate", "Make portraits from seeds."),
    "mix": ("latents:mix", "Cross faces: some style layers from one, the rest from another."),
    "facepack": ("facepack:facepack", "Make a facepack from a roster."),
    "check": ("check:check", "Check a facepack, ours or not, and mend what is safe."),
    "merge": ("merge:merge", "Merge the packs of several machines."),
    "cutout": ("cutout:cutout", "Cut people out of pictures."),
    "serve": ("serve:serve", "Start the page and its API."),
    "model": ("model:model", "Show, import, fetch and publish models."),
    "dataset": ("dataset:dataset", "Make training sets."),
    "train": ("train:train", "Train networks."),
    "metrics": ("metrics:metrics", "Measure a generator against real portraits."),
    "bench": ("bench:bench", "Measure portraits a second."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"ehmfaces.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the table, without importing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what the library says about wrong input becomes one line and exit code 1."""
        tune_process()
        try:
            return super().invoke(ctx)
        except EHMFacesError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ehmfaces")
def main() -> None:
    """Photo-like portraits of people who do not exist, for hockey management games."""
