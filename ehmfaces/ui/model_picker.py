"""The choice of the model above the tabs, and the line that says what it is.

Owns labels and words. Which models there are, and loading them, is in `model_shelf`.
"""

import re
from collections.abc import Callable

import gradio as gr

from ehmfaces.errors import ModelError
from ehmfaces.model_folder import ModelFacts
from ehmfaces.ui.boundary import with_sentences
from ehmfaces.ui.model_shelf import DEFAULT
from ehmfaces.ui.session import Session

MODEL_QUEUE = "models"  # one visitor at a time makes the server fetch a model


def describe_model(facts: ModelFacts) -> str:
    """Return one line of Markdown: name, resolution, size, licence.

    A model's own files are not trusted: what could be Markdown or HTML is left out.
    """
    parts = [f"**{_plain(facts.model_id)}**", f"{facts.resolution} × {facts.resolution} px"]
    if facts.parameters:
        parts.append(f"{facts.parameters / 1e6:.1f} M parameters")
    licence = f"licence {_plain(facts.license)}" if facts.license else "licence not stated: see its card"
    return " · ".join([*parts, licence])


def _plain(text: str) -> str:
    return re.sub(r"[^\w ./@:+-]", "", text)[:100]


def _line(session: Session, name: str, fetch: bool) -> str:
    facts = session.models.facts(name, fetch)
    if facts is None:
        return f"**{_plain(name)}** · is fetched when it is first used"
    return describe_model(facts)


def model_choices(session: Session) -> list[tuple[str, str]]:
    """Return label and value of every model that is offered."""
    choices = []
    for name in session.models.names:
        facts = session.models.facts(name, fetch=False) if name == DEFAULT else None
        label = f"{facts.model_id} (default)" if facts else name
        choices.append((label, name))
    return choices


def make_show(session: Session) -> Callable[..., tuple[str, object]]:
    """Return the function behind the picker."""

    @with_sentences
    def show(model: str) -> tuple[str, object]:
        """Fetch a model if need be, and say what it is; one that cannot be had leaves the default chosen."""
        try:
            return _line(session, model, fetch=True), gr.skip()
        except ModelError as error:
            gr.Warning(str(error), title="This model cannot be used now")
            return _line(session, DEFAULT, fetch=False), DEFAULT

    return show


def build_model_picker(session: Session) -> gr.Dropdown:
    """Lay out the picker and its line; with one model there is only the line.

    Returns:
        The component whose value the tabs give to their functions.
    """
    choices = model_choices(session)
    with gr.Column(elem_classes="ehm-model"):
        picker = gr.Dropdown(
            choices,  # type: ignore[arg-type]
            value=DEFAULT,
            label="Model",
            info="For Generate, Mix and Facepack. Yours alone: others keep theirs.",
            visible=len(choices) > 1,
            filterable=False,
        )
        line = gr.Markdown(_line(session, DEFAULT, fetch=False), elem_classes="ehm-model-line")
    picker.input(
        make_show(session),
        picker,
        [line, picker],
        api_visibility="private",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        show_progress="minimal",
        show_progress_on=line,
    )
    return picker
