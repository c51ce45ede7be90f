"""The Generate tab and the endpoint of the same name.

Owns from seeds to a gallery of PNG files, and from such a file back to its settings.
"""

import random
import re
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from ehmfaces import endpoints
from ehmfaces.errors import ImageError
from ehmfaces.latents.directions import Sex, Wishes
from ehmfaces.provenance import Provenance
from ehmfaces.seeds import SEED_MAX, check_seed, parse_seeds
from ehmfaces.types import NoiseMode, Seed
from ehmfaces.ui import fields
from ehmfaces.ui.boundary import with_sentences
from ehmfaces.ui.model_shelf import DEFAULT
from ehmfaces.ui.session import GPU_QUEUE, Session, on_gpu
from ehmfaces.ui.visit import charge_faces

Faces = list[tuple[str, str]]


def make_generate(session: Session) -> Callable[..., Faces]:
    """Return the function behind the endpoint."""

    @with_sentences
    @on_gpu
    def generate(
        seeds: str = "0",
        count: int = 8,
        truncation_psi: float = 0.7,
        noise_mode: NoiseMode = "const",
        portrait_format: str = "ehm",
        background: str = "none",
        cutout: str = "deeplab",
        model: str = DEFAULT,
        sex: Sex = "any",
        age: float = 0.0,
        smile: float = 0.0,
        skin: float = 0.0,
        hair: float = 0.0,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by its default
    ) -> Faces:
        """Make portraits of people who do not exist. The same seed and settings give the same picture.

        Args:
            seeds: One whole number from 0 to 4294967295, or a list with ranges like "1,2,5-10".
            count: With one seed: how many faces, counting up from it. Without meaning for a list.
            truncation_psi: Variety from 0 (the average face) to 1.5; 0.7 is usual, 1 is off.
            noise_mode: Fine details: "const", "random" (drawn from the seed) or "none".
            portrait_format: "ehm" (160x200), "ehm-157", "ehm-184", "ehm-200", "plain-256" or "full".
            background: "none" (transparent), "game" or a colour like "#1f2c38".
            cutout: "deeplab" or "rembg".
            model: "default", or another of the models that this page offers.
            sex: "any", "men" or "women".
            age: -3 (younger) to 3 (older), in standard deviations; so are the next ones.
            smile: Above 0 smiling.
            skin: Below 0 darker, above 0 lighter.
            hair: Below 0 darker, above 0 lighter.
            progress: Filled in by the server.

        Returns:
            PNG files with their settings inside, each with its seed as caption.
        """
        wanted = _wanted_seeds(session, seeds, count)
        charge_faces(len(wanted))
        wishes = {"sex": sex, "age": age, "smile": smile, "skin": skin, "hair": hair}
        renderer = session.renderer(
            portrait_format, background, truncation_psi, noise_mode, cutout, model, wishes
        )
        folder = session.new_folder()
        deadline = session.deadline()
        faces: Faces = []
        for done, seed in enumerate(wanted):
            if faces and session.is_late(deadline):
                gr.Warning(f"The time for one request is used up: {done} of {len(wanted)} faces are made.")
                break
            progress((done, len(wanted)), desc="Making faces")
            path = folder / f"seed{seed}.png"
            path.write_bytes(session.render(renderer, seed))
            faces.append((str(path), f"Seed {seed}"))
        return faces

    return generate


def _wanted_seeds(session: Session, seeds: object, count: float | None) -> list[Seed]:
    """Return the seeds of a request: a list as it is, or `count` of them from one on."""
    limit = session.limits.max_faces
    text = "" if seeds is None else str(seeds).strip()
    if "," in text or "-" in text.lstrip("-"):
        return list(dict.fromkeys(parse_seeds(text, limit)))
    first = check_seed(text)
    number = session.check_count(count, limit, "The number of faces")
    return list(range(first, min(first + number, SEED_MAX + 1)))


def draw_seed() -> str:
    """Return a seed that nobody chose."""
    return str(random.randrange(1_000_000))


@with_sentences
def restore_settings(
    picture: str | None,
) -> tuple[str, int, float, str, str, str, str, str]:
    """Read the settings out of a PNG that was made here.

    Returns:
        seeds, count, truncation_psi, noise_mode, portrait_format, background, cutout and a sentence.
    """
    if not picture:
        raise ImageError("No picture was given. Drop a PNG that was downloaded from this page.")
    record = Provenance.read(Path(picture))
    if record.seed is None or record.mixing:
        raise ImageError("This picture was mixed from several faces: it has no single seed to go back to.")
    # the record may be made up: what is shown as Markdown must not be able to be any
    model = re.sub(r"[^\w./@ -]", "?", f"{record.model_id[:100]}, {record.model_hash[:16]}")
    sentence = f"Settings of seed {record.seed} are back, made by {model}."
    return (
        str(record.seed),
        1,
        record.truncation_psi,
        record.noise_mode,
        record.portrait_format,
        record.background,
        record.cutout,
        sentence,
    )


def make_restore(session: Session) -> Callable[..., tuple[object, ...]]:
    """Return the function that gives a picture's settings and model back."""

    @with_sentences
    def restore(picture: str | None) -> tuple[object, ...]:
        """Read the settings out of a PNG, and its model where that is offered here."""
        *settings, sentence = restore_settings(picture)
        record = Provenance.read(Path(str(picture)))
        name = session.models.name_of(record.model_id)
        wished = Wishes.from_dict(record.wishes or {})
        wishes = (wished.sex, *wished.strengths().values())
        if name is None:
            return *settings, gr.skip(), *wishes, f"{sentence} That model is not offered here."
        return *settings, name, *wishes, sentence

    return restore


def build_generate_tab(session: Session, model: gr.Dropdown) -> None:
    """Lay out the tab; `model` is the picker of the page."""
    with gr.Tab("Generate", id="generate"), gr.Row():
        with gr.Column(scale=2, min_width=280):
            with gr.Row():
                seeds = gr.Textbox(
                    "0",
                    label="Seed",
                    info="A whole number, or a list like 1,2,5-10.",
                    scale=5,
                    min_width=160,
                    max_length=400,
                )
                dice = gr.Button("⚄ New", scale=2, min_width=110, elem_classes="ehm-dice")
            count = gr.Slider(
                1, session.limits.max_faces, 8, step=1, label="How many", info="Counting up from the seed."
            )
            truncation = fields.truncation_field()
            with gr.Row():
                portrait_format, background = fields.format_field(), fields.background_field()
            with gr.Accordion("Looks", open=False):
                wishes = fields.wish_fields()
            with gr.Accordion("More", open=False):
                noise, cutout = fields.noise_field(), fields.cutout_field()
                dropped = gr.File(
                    label="Drop a PNG made here to get its settings back", file_types=[".png"], height=110
                )
                restored = gr.Markdown()
            start = gr.Button("Generate", variant="primary")
        with gr.Column(scale=3, min_width=300):
            gallery = gr.Gallery(
                label="Faces",
                columns=4,
                height="auto",
                object_fit="contain",
                format="png",
                buttons=["download", "download_all", "fullscreen"],
                elem_classes=["ehm-gallery", "ehm-faces"],
                interactive=False,
            )
            gr.Markdown("Each PNG keeps its seed and settings inside. These people do not exist.")
    settings = [seeds, count, truncation, noise, portrait_format, background, cutout, model, *wishes]
    gr.on(
        [start.click, seeds.submit],
        make_generate(session),
        settings,
        gallery,
        api_name=endpoints.GENERATE,
        concurrency_id=GPU_QUEUE,
        concurrency_limit=1,
    )
    dice.click(draw_seed, outputs=seeds, api_visibility="private", queue=False)
    dropped.upload(make_restore(session), dropped, [*settings, restored], api_visibility="private")
