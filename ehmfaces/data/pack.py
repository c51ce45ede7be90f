"""Data sets as a ZIP of PNG pictures with `dataset.json`: the layout that StyleGAN tools read.

Owns names, order and bytes of that ZIP. Does not know where pictures come from; `datasets` reads it.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from ehmfaces.errors import InputError
from ehmfaces.types import Pixels

Label = int | list[float]
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a ZIP can hold: same pictures, same bytes


def write_dataset_zip(pictures: Iterable[tuple[Pixels, Label | None]], out: Path) -> int:
    """Write pictures and labels; the file appears only when it is whole.

    Args:
        pictures: Pairs of pixels uint8 [S, S, 3] and a class number, a vector or None. All have
            a label or none has; all have the same size.
        out: The ZIP file.

    Returns:
        How many pictures were written.

    Raises:
        InputError: There are none, sizes differ, or only some have labels.
    """
    part = out.with_name(out.name + ".part")
    labels: list[tuple[str, Label]] = []
    count, shape = 0, None
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for count, (pixels, label) in enumerate(pictures, 1):
                shape = shape or pixels.shape
                if pixels.shape != shape:
                    raise InputError(
                        f"Picture {count} is {pixels.shape}, the first {shape}. Make all the same size."
                    )
                name = f"{(count - 1) // 1000:05d}/img{count - 1:08d}.png"
                _write_entry(archive, name, _encode(pixels))
                if label is not None:
                    labels.append((name, label))
            if count == 0 or len(labels) not in (0, count):
                raise InputError(
                    f"{len(labels)} of {count} pictures have labels. Give at least one picture, "
                    "and a label to all or none."
                )
            text = json.dumps({"labels": labels or None})
            _write_entry(archive, "dataset.json", text.encode())
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return count


def _encode(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _write_entry(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
