"""The About tab: what the page does, its limits, and which model answers."""

import gradio as gr

from ehmfaces import __version__
from ehmfaces.ui.boundary import with_sentences
from ehmfaces.ui.model_picker import describe_model
from ehmfaces.ui.model_shelf import DEFAULT
from ehmfaces.ui.session import Session

_TEXT = """
**ehmfaces** makes portraits of people who do not exist, cuts them out, frames them and names them the
way hockey management games expect. Version {version}, Apache-2.0.

- **The same person keeps the same face.** In a facepack the seed comes from name, birth date and pack key.
  Sort, split or extend the roster: nobody's face changes.
- **Every PNG explains itself.** Model, seed and settings are stored inside. Drop it on *Generate*, under
  *More*, to get them back.
- **Into the game:** unpack the ZIP into `data/pictures`; it holds `players/` and `nonplayers/`.
- **Your files** are kept in a private temporary folder and removed after a few hours. They train nothing.

Limits of this page: {faces} faces a request, {rows:,} rows a roster, {upload} MB a file, 40 megapixels a
picture, {hours:g} hours a facepack. The command line has none of them.

Please label what you publish as synthetic, and do not use it to pretend that somebody exists.
"""


def about_text(session: Session) -> str:
    """Return the text of the tab."""
    limits = session.limits
    return _TEXT.format(
        version=__version__,
        faces=limits.max_faces,
        rows=limits.max_rows,
        upload=limits.max_upload_bytes // 2**20,
        hours=limits.job_time_sec / 3600,
    )


def model_text(session: Session) -> str:
    """Return a sentence about the generator; loads it.

    Raises:
        ModelError: The model is not there or is damaged.
    """
    pipeline, facts = session.pipeline, session.models.facts()
    lines = [
        f"Generator: {describe_model(facts) if facts else ''} · {pipeline.num_ws} style layers · "
        f"weights `{pipeline.model_hash}`."
    ]
    others = [name for name in session.models.names if name != DEFAULT]
    if others:
        lines.append(f"Also offered: {', '.join(others)}. Choose above the tabs; `model` in the API.")
    return "\n\n".join(lines)


def build_about_tab(session: Session) -> None:
    """Lay out the tab."""

    @with_sentences
    def show_model() -> str:
        return model_text(session)

    with gr.Tab("About", id="about") as tab:
        gr.Markdown(about_text(session))
        model = gr.Markdown("The generator is loaded at its first use.")
    tab.select(show_model, outputs=model, api_visibility="private")
