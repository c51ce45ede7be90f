"""The model card and the sample sheet that go to the Hub beside the weights.

Owns words and layout. Does not know how pictures are made or uploaded.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from ehmfaces import __version__
from ehmfaces.errors import InputError
from ehmfaces.types import Image, Seed

SAMPLE_SEEDS: tuple[Seed, ...] = tuple(range(16))
SAMPLE_PSI = 0.7
SHEET_NAME = "samples.png"
METRICS_NAME = "metrics.json"
PIPELINE_TAG = "unconditional-image-generation"
_COLUMNS, _CELL_PX = 4, 256
_UNSAID = "Not stated by whoever uploaded it. Ask them before you rely on it."

_TEXT = """# {name}

![{count} faces]({sheet})

Seeds {first} to {last}, truncation {psi}, row by row: `{name}` makes exactly these.

## What it is

A {kind} that makes faces of people who do not exist, {resolution} x {resolution} pixels,
{parameters} parameters (z {z_dim}, w {w_dim}, {num_ws} style layers{labels}). {background}
Weights hash `{model_hash}`. No discriminator is included.

## Data

{data}

## Licence

{license}

## Metrics

{metrics}

## How to use it

With [ehmfaces](https://pypi.org/project/ehmfaces/) {version} or newer:

```sh
ehmfaces generate --model {name} --seeds 0-15 --out faces
EHMFACES_MODEL={name} ehmfaces serve
```

As a diffusers pipeline (`DiffusionPipeline.from_pretrained` does not know the class; this one does):

```python
from ehmfaces import FacePipeline

pipeline = FacePipeline.from_pretrained("{name}")
image = pipeline([0], truncation_psi={psi}).images[0]
```

The network alone, as a diffusers model:

```python
from ehmfaces import {class_name}

generator = {class_name}.from_pretrained("{name}", subfolder="generator", use_safetensors=True)
```

As ONNX, for other languages and the browser{onnx}:

```sh
ehmfaces model export --model {name} --onnx --out onnx
```

## Limits

Nobody in these pictures exists. Do not pass them off as photographs of real people, and label what you
publish as synthetic. The mix of faces is that of the training data, not of any real population.
"""


@dataclass(frozen=True)
class CardWords:
    """What only a person can say about a model.

    Attributes:
        license: A Hub licence id like "apache-2.0"; None = not stated.
        data: Markdown about the training data; None = not stated.
        metrics: Name -> figure, as `read_metrics` gives it.
    """

    license: str | None = None
    data: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def read_metrics(path: Path) -> dict[str, float]:
    """Read figures of a model: a JSON object of names and numbers.

    Raises:
        InputError: It is something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f'"{path.name}" cannot be read as JSON ({error}).') from error
    if not isinstance(content, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in content.values()
    ):
        raise InputError(
            f'"{path.name}" is no object of names and numbers. Write it like {{"fid50k_full": 8.3}}.'
        )
    return {str(name): float(value) for name, value in content.items()}


def build_card(name: str, facts: Mapping[str, Any], words: CardWords, has_onnx: bool = False) -> str:
    """Return README.md with its front matter.

    Args:
        name: The repository's id.
        facts: As `FacePipeline.facts` gives them.
        words: What a person says.
        has_onnx: Whether a folder `onnx` goes with it.
    """
    family = str(facts["class_name"]).removesuffix("Generator")
    body = _TEXT.format(
        **facts,
        name=name,
        kind=f"{family} generator",
        count=len(SAMPLE_SEEDS),
        first=SAMPLE_SEEDS[0],
        last=SAMPLE_SEEDS[-1],
        psi=SAMPLE_PSI,
        sheet=SHEET_NAME,
        labels=f", {facts['c_dim']} labels" if facts["c_dim"] else "",
        background=_background_words(facts["background_color"]),
        data=words.data or _UNSAID,
        license=words.license or _UNSAID,
        metrics=_metric_table(words.metrics),
        onnx=" (there is one in `onnx/`)" if has_onnx else "",
        version=__version__,
    )
    return f"---\n{_front_matter(name, family, words)}\n---\n{body}"


def _front_matter(name: str, family: str, words: CardWords) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=PIPELINE_TAG,
            dataset_type="other",
            dataset_name="the uploader's evaluation set",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in words.metrics.items()
    ]
    card = ModelCardData(
        license=words.license or "unknown",
        library_name="ehmfaces",
        pipeline_tag=PIPELINE_TAG,
        tags=["ehmfaces", "diffusers", family.lower(), "gan", "face-generation", "synthetic"],
        model_name=name.split("/")[-1] if results else None,
        eval_results=results or None,
    )
    return card.to_yaml()


def _background_words(color: Sequence[int] | None) -> str:
    if color is None:
        return "The background is whatever the training pictures had."
    return f"Every head stands on rgb({color[0]}, {color[1]}, {color[2]}), so that it can be cut out exactly."


def _metric_table(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "None were given."
    rows = [f"| {name} | {value:g} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def sample_sheet(images: Sequence[Image]) -> Image:
    """Set pictures of one size into rows of four, each at most 256 pixels wide."""
    side = min(_CELL_PX, images[0].width)
    rows = -(-len(images) // _COLUMNS)
    sheet = PILImage.new("RGB", (side * _COLUMNS, side * rows))
    for number, image in enumerate(images):
        small = image.convert("RGB").resize((side, side), PILImage.Resampling.LANCZOS)
        sheet.paste(small, (number % _COLUMNS * side, number // _COLUMNS * side))
    return sheet
