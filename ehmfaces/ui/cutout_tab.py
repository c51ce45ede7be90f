"""The Cut out tab and the endpoint of the same name: any picture, two back-ends, three backgrounds."""

from collections.abc import Callable
from pathlib import Path

import gradio as gr
from PIL import Image as PILImage

from ehmfaces import endpoints
from ehmfaces.cutout.base import cut_out
from ehmfaces.errors import ImageError
from ehmfaces.images import GAME_BACKGROUND, composite, encode_png, open_image
from ehmfaces.types import Image
from ehmfaces.ui import fields
from ehmfaces.ui.boundary import with_sentences
from ehmfaces.ui.session import GPU_QUEUE, Session, on_gpu

_MAX_SIDE_PX = 2048
_SHOWN_ON = {"On dark": (16, 16, 18), "On light": (245, 245, 245), "On game blue": GAME_BACKGROUND}

CutoutFiles = tuple[str, list[tuple[str, str]]]


def make_cutout(session: Session) -> Callable[..., CutoutFiles]:
    """Return the function behind the endpoint."""

    @with_sentences
    @on_gpu
    def cutout(image: str | None, backend: str = "deeplab") -> CutoutFiles:
        """Cut the person out of any picture.

        Args:
            image: A PNG, JPEG or WebP picture with one person, at most 40 megapixels.
            backend: "deeplab" (built in) or "rembg" (an optional package).

        Returns:
            The cut-out as PNG with soft transparency, and the same on dark, light and game blue.
        """
        if not image:
            raise ImageError("No picture was given. Choose a PNG, JPEG or WebP file with one person.")
        picture = _fit(open_image(Path(image)))
        network = session.cutout(backend)
        person = session.compute(lambda: cut_out(picture, network))
        folder = session.new_folder()
        path = folder / "cutout.png"
        path.write_bytes(encode_png(person, {"Software": "ehmfaces"}))
        return str(path), _previews(person, folder)

    return cutout


def _fit(image: Image) -> Image:
    """Bring large photos down to a size that two cores can cut out in seconds."""
    if max(image.size) > _MAX_SIDE_PX:
        image = image.copy()
        image.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), PILImage.Resampling.LANCZOS)
    return image


def _previews(person: Image, folder: Path) -> list[tuple[str, str]]:
    previews = []
    for number, (caption, color) in enumerate(_SHOWN_ON.items()):
        path = folder / f"preview{number}.png"
        path.write_bytes(encode_png(composite(person, color), None))
        previews.append((str(path), caption))
    return previews


def build_cutout_tab(session: Session) -> None:
    """Lay out the tab."""
    with gr.Tab("Cut out", id="cutout"), gr.Row():
        with gr.Column(scale=2, min_width=280):
            # a File, not an Image: broken pictures reach our own sentences, and nothing is re-encoded
            picture = gr.File(label="Picture", file_types=["image"], height=150)
            backend = fields.cutout_field()
            start = gr.Button("Cut out", variant="primary")
            gr.Markdown("The built-in back-end knows heads with neck and shoulders, one person a picture.")
        with gr.Column(scale=3, min_width=300):
            result = gr.Image(
                label="Cut-out",
                format="png",
                image_mode="RGBA",
                type="filepath",
                interactive=False,
                buttons=["download", "fullscreen"],
                height=280,
                elem_classes="ehm-alpha",
            )
            previews = gr.Gallery(
                label="On three backgrounds",
                columns=3,
                height="auto",
                object_fit="contain",
                format="png",
                buttons=["fullscreen"],
                elem_classes="ehm-gallery",
                interactive=False,
            )
    start.click(
        make_cutout(session),
        [picture, backend],
        [result, previews],
        api_name=endpoints.CUTOUT,
        concurrency_id=GPU_QUEUE,
        concurrency_limit=1,
    )
