"""Input fields that several tabs show, with the same words everywhere.

Owns labels, choices and defaults. Does not know what is done with the values.
"""

from typing import get_args

import gradio as gr

from ehmfaces.cutout.base import BACKENDS
from ehmfaces.portrait.formats import DEFAULT_FORMAT, FORMATS
from ehmfaces.types import NoiseMode

TRUNCATION_WORDS = (
    "How far faces may be from the average: near 0 all look alike and clean, 1 gives the most variety "
    "and the most mistakes. 0.7 is usual."
)
NOISE_WORDS = (
    "Fine details such as single hairs. const: the same each time. random: drawn from the seed. none: smooth."
)
BACKGROUNDS = [
    ("Transparent", "none"),
    ("Game blue", "game"),
    ("White", "#ffffff"),
    ("Black", "#000000"),
]


def truncation_field() -> gr.Slider:
    """Build the truncation slider."""
    return gr.Slider(0, 1.5, value=0.7, step=0.05, label="Variety (truncation)", info=TRUNCATION_WORDS)


def noise_field() -> gr.Radio:
    """Build the choice of the noise mode."""
    return gr.Radio(list(get_args(NoiseMode)), value="const", label="Noise", info=NOISE_WORDS)


def sex_field(value: str) -> gr.Radio:
    """Build the choice of sex."""
    return gr.Radio(["any", "men", "women"], value=value, label="Sex")


def wish_fields() -> list[gr.Radio | gr.Slider]:
    """Build the choice of sex and the sliders of age, smile, skin and hair."""
    sex = sex_field("any")
    sliders = {
        "Age": "left younger, right older",
        "Smile": "right smiling",
        "Skin": "left darker, right lighter",
        "Hair": "left darker, right lighter",
    }
    return [sex, *(gr.Slider(-3, 3, value=0, step=0.25, label=k, info=v) for k, v in sliders.items())]


def format_field() -> gr.Dropdown:
    """Build the choice of the portrait format."""
    choices = [(portrait_format.title, name) for name, portrait_format in FORMATS.items()]
    return gr.Dropdown(choices, value=DEFAULT_FORMAT, label="Format", min_width=180)  # type: ignore[arg-type]


def background_field() -> gr.Dropdown:
    """Build the choice of the background."""
    return gr.Dropdown(
        BACKGROUNDS,  # type: ignore[arg-type]
        value="none",
        label="Background",
        info="Or type a colour like #aabbcc.",
        allow_custom_value=True,
        min_width=180,
    )


def cutout_field() -> gr.Dropdown:
    """Build the choice of the cut-out back-end."""
    return gr.Dropdown(list(BACKENDS), value="deeplab", label="Cut-out")
