"""Option types and decorators that several commands share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ehmfaces.errors import EHMFacesError
from ehmfaces.images import parse_color
from ehmfaces.portrait.formats import DEFAULT_FORMAT, FORMATS
from ehmfaces.seeds import parse_seeds


class _Parsed(click.ParamType):  # type: ignore[type-arg]
    """An option read by a function of the library, whose sentence becomes click's."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except EHMFacesError as error:
            self.fail(str(error), param, ctx)


SEEDS = _Parsed("seeds", parse_seeds)


class _ColorText(_Parsed):
    """A background, checked but kept as text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text as it was written."""
        super().convert(value, param, ctx)
        return value


BACKGROUND = _ColorText("color", parse_color)
ENGINES = ("auto", "torch", "compile", "onnx", "openvino")  # as synthesis.choice has them
PRECISIONS = ("float32", "bfloat16", "float16")
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --model and --device."""
    command = click.option("--device", help="cpu, or cuda on a machine with a GPU.")(command)
    return click.option(
        "--model",
        metavar="DIR_OR_HUB_ID",
        help="A folder or a Hub id like org/name@revision. Default: EHMFACES_MODEL, then the embedded one.",
    )(command)


def wish_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --sex and a strength for each further direction; the command gets `wishes` as a dict."""
    strengths = {
        "hair": "Hair: below 0 darker, above 0 lighter.",
        "skin": "Skin: below 0 darker, above 0 lighter.",
        "smile": "Above 0 smiling.",
        "age": "Below 0 younger, above 0 older.",
    }

    @functools.wraps(command)
    def with_wishes(sex: str, age: float, smile: float, skin: float, hair: float, **rest: Any) -> Any:
        wishes = {"sex": sex, "age": age, "smile": smile, "skin": skin, "hair": hair}
        return command(wishes=wishes, **rest)

    made: Callable[..., Any] = with_wishes
    for name, words in strengths.items():
        made = click.option(
            f"--{name}", type=click.FloatRange(-3, 3), default=0.0, help=f"{words} In standard deviations."
        )(made)
    kinds = click.Choice(["any", "men", "women"])
    return click.option("--sex", type=kinds, default="any", show_default=True, help="Who is made.")(made)


def synthesis_options(
    command: Callable[..., Any], *, flag: str = "--engine", into: str = "engine"
) -> Callable[..., Any]:
    """Add --engine (or another flag for it) and --precision."""
    command = click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        envvar="EHMFACES_PRECISION",
        help="Number format. Default: EHMFACES_PRECISION, then float32.",
    )(command)
    return click.option(
        flag,
        into,
        type=click.Choice(ENGINES),
        envvar="EHMFACES_ENGINE",
        help="What computes the pictures; auto measures once which is fastest here. "
        "Default: EHMFACES_ENGINE, then torch.",
    )(command)


def face_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --trunc and --noise-mode."""
    command = click.option(
        "--noise-mode",
        type=click.Choice(["const", "random", "none"]),
        default="const",
        show_default=True,
        help="Fine detail that no seed decides.",
    )(command)
    return click.option(
        "--trunc",
        "truncation_psi",
        type=float,
        default=0.7,
        show_default=True,
        help="0 = everybody looks average, 1 = as varied as the model can.",
    )(command)


def portrait_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --format, --background and --backend."""
    command = click.option(
        "--backend",
        type=click.Choice(["deeplab", "rembg"]),
        default="deeplab",
        show_default=True,
        help="Who cuts the person out.",
    )(command)
    command = click.option(
        "--background",
        type=BACKGROUND,
        default="none",
        show_default=True,
        help="none (transparent), game (its dark blue) or #rrggbb.",
    )(command)
    return click.option(
        "--format",
        "format_name",
        type=click.Choice(list(FORMATS)),
        default=DEFAULT_FORMAT,
        show_default=True,
        help="Size of the portrait.",
    )(command)
