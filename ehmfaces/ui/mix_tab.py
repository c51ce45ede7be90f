"""The Mix tab, the endpoint of the same name, and the weighted average of two faces.

Owns fields and handlers. Does not know how layers are mixed or how the grid is drawn.
"""

from collections.abc import Callable

import gradio as gr

from ehmfaces import __version__, endpoints
from ehmfaces.errors import InputError
from ehmfaces.facepack.render import mixing_grid
from ehmfaces.images import encode_png
from ehmfaces.latents.mixing import parse_styles
from ehmfaces.pipeline import FacePipeline
from ehmfaces.provenance import Provenance
from ehmfaces.seeds import check_seed, parse_seeds
from ehmfaces.types import Image, NoiseMode, Seed
from ehmfaces.ui import fields
from ehmfaces.ui.boundary import with_sentences
from ehmfaces.ui.generate_tab import Faces, draw_seed
from ehmfaces.ui.model_shelf import DEFAULT
from ehmfaces.ui.session import GPU_QUEUE, Session, on_gpu
from ehmfaces.ui.visit import charge_faces

_LAYER_WORDS = (
    "Which layers come from the column faces: coarse (head, pose, hair shape), middle (features), "
    "fine (colours), or layers like 0-3."
)


def make_mix(session: Session) -> Callable[..., str]:
    """Return the function behind the endpoint."""

    @with_sentences
    @on_gpu
    def mix(
        row_seeds: str = "1,2,3",
        col_seeds: str = "10,11,12,13",
        col_styles: str = "coarse",
        truncation_psi: float = 0.7,
        noise_mode: NoiseMode = "const",
        model: str = DEFAULT,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> str:
        """Cross faces: every row face takes some style layers from every column face.

        Args:
            row_seeds: Seeds of the faces at the left, like "1,2,5-10".
            col_seeds: Seeds of the faces above, like "10,11".
            col_styles: Layers taken from the column faces: "coarse", "middle", "fine" or like "0-3,6".
            truncation_psi: Variety from 0 (the average face) to 1.5; 0.7 is usual, 1 is off.
            noise_mode: Fine details: "const", "random" (drawn from the seed) or "none".
            model: "default", or another of the models that this page offers.
            progress: Filled in by the server.

        Returns:
            One PNG file: the grid with the original faces at its top and left.
        """
        rows, cols = _grid_seeds(session, row_seeds, col_seeds)
        charge_faces(len(rows) * len(cols))
        pipeline = session.models.pipeline(model)
        styles = parse_styles(str(col_styles), pipeline.num_ws)
        progress((0, len(rows)), desc="Mixing faces")
        grid = session.compute(
            lambda: mixing_grid(pipeline, rows, cols, styles, float(truncation_psi), noise_mode)
        )
        mixing = {"row_seeds": rows, "col_seeds": cols, "col_styles": styles}
        path = session.new_folder() / "mix.png"
        path.write_bytes(encode_png(grid, _grid_text(pipeline, truncation_psi, noise_mode, mixing)))
        return str(path)

    return mix


def _grid_seeds(session: Session, row_seeds: object, col_seeds: object) -> tuple[list[Seed], list[Seed]]:
    limit = session.limits.max_grid
    rows, cols = parse_seeds(str(row_seeds or ""), limit), parse_seeds(str(col_seeds or ""), limit)
    if len(rows) * len(cols) > limit:
        raise InputError(
            f"{len(rows)} row faces and {len(cols)} column faces make {len(rows) * len(cols)} pictures. "
            f"At most {limit} are allowed. Ask for fewer."
        )
    return rows, cols


def _grid_text(
    pipeline: FacePipeline, truncation_psi: float, noise_mode: str, mixing: dict[str, list[int]]
) -> dict[str, str]:
    record = Provenance(
        ehmfaces_version=__version__,
        model_id=pipeline.model_id,
        model_hash=pipeline.model_hash,
        seed=None,
        truncation_psi=float(truncation_psi),
        truncation_cutoff=None,
        noise_mode=noise_mode,
        mixing=mixing,
        cutout="none",
        portrait_format="full",
        background="none",
    )
    return record.to_text()


def make_blend(session: Session) -> Callable[..., Faces]:
    """Return the function that averages two faces."""

    @with_sentences
    @on_gpu
    def blend(
        seed_a: str,
        seed_b: str,
        weight: float,
        truncation_psi: float,
        portrait_format: str,
        background: str,
        model: str = DEFAULT,
    ) -> Faces:
        """Make the first face, the weighted average and the second face."""
        first, second = check_seed(seed_a), check_seed(seed_b)
        charge_faces(3)
        renderer = session.renderer(portrait_format, background, truncation_psi, "const", "deeplab", model)

        def average() -> Image:
            output = renderer.pipeline.blend(first, second, float(weight), float(truncation_psi))
            return renderer.compose(output.images[0])

        folder = session.new_folder()
        mixing: dict[str, object] = {"seeds": [first, second], "weight": float(weight)}
        pictures = [
            (f"Seed {first}", session.render(renderer, first)),
            (f"{1 - weight:.0%} / {weight:.0%}", renderer.encode(session.compute(average), None, mixing)),
            (f"Seed {second}", session.render(renderer, second)),
        ]
        faces = []
        for number, (caption, png) in enumerate(pictures):
            path = folder / f"blend{number}.png"
            path.write_bytes(png)
            faces.append((str(path), caption))
        return faces

    return blend


def build_mix_tab(session: Session, model: gr.Dropdown) -> None:
    """Lay out the tab; `model` is the picker of the page."""
    with gr.Tab("Mix", id="mix"):
        _build_grid_part(session, model)
        _build_blend_part(session, model)


def _build_grid_part(session: Session, model: gr.Dropdown) -> None:
    gr.Markdown("### Cross faces\nThe first row and the first column show the faces as they are.")
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            row_seeds = gr.Textbox("1,2,3", label="Row seeds", max_length=400)
            col_seeds = gr.Textbox("10,11,12,13", label="Column seeds", max_length=400)
            col_styles = gr.Dropdown(
                ["coarse", "middle", "fine", "coarse,middle", "middle,fine"],
                value="coarse",
                label="Layers from the column face",
                info=_LAYER_WORDS,
                allow_custom_value=True,
            )
            truncation = fields.truncation_field()
            with gr.Accordion("More", open=False):
                noise = fields.noise_field()
            start = gr.Button("Mix", variant="primary")
        with gr.Column(scale=3, min_width=300):
            grid = gr.Image(
                label="Grid",
                format="png",
                type="filepath",
                interactive=False,
                buttons=["download", "fullscreen"],
            )
    start.click(
        make_mix(session),
        [row_seeds, col_seeds, col_styles, truncation, noise, model],
        grid,
        api_name=endpoints.MIX,
        concurrency_id=GPU_QUEUE,
        concurrency_limit=1,
    )


def _build_blend_part(session: Session, model: gr.Dropdown) -> None:
    gr.Markdown("### Average two faces")
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            with gr.Row():
                seed_a = gr.Textbox("1", label="First seed", min_width=120, max_length=20)
                seed_b = gr.Textbox("10", label="Second seed", min_width=120, max_length=20)
            dice = gr.Button("⚄ Two new seeds", size="sm")
            weight = gr.Slider(0, 1, 0.5, step=0.05, label="Share of the second face")
            truncation = fields.truncation_field()
            with gr.Row():
                portrait_format, background = fields.format_field(), fields.background_field()
            start = gr.Button("Average", variant="primary")
        with gr.Column(scale=3, min_width=300):
            faces = gr.Gallery(
                label="First, average, second",
                columns=3,
                height="auto",
                object_fit="contain",
                format="png",
                buttons=["download", "fullscreen"],
                elem_classes=["ehm-gallery", "ehm-faces"],
                interactive=False,
            )
    start.click(
        make_blend(session),
        [seed_a, seed_b, weight, truncation, portrait_format, background, model],
        faces,
        api_visibility="private",
        concurrency_id=GPU_QUEUE,
        concurrency_limit=1,
    )
    dice.click(
        lambda: (draw_seed(), draw_seed()), outputs=[seed_a, seed_b], api_visibility="private", queue=False
    )
