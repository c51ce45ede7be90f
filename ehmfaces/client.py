"""A thin, typed client for a running ehmfaces page, here or on a Space.

Owns the names of the parameters and where results are stored. Knows no models: everything is computed by
the server. Errors of the server arrive as EHMFacesError with the server's sentence.

Example:
    client = Client("http://127.0.0.1:7860")
    client.generate(seeds="1,2,5-7", out="faces")
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ehmfaces import endpoints
from ehmfaces.errors import EHMFacesError, InputError
from ehmfaces.types import NoiseMode


class Client:
    """Calls the endpoints of a page.

    Args:
        url: Address of the page, or the name of a Space ("owner/name").
        token: For a private Space.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        """Connect.

        Raises:
            EHMFacesError: The page cannot be reached.
        """
        import gradio_client

        folder = tempfile.mkdtemp(prefix="ehmfaces-client-")
        self._remove_folder = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            self._client = gradio_client.Client(
                url, token=token, verbose=False, download_files=folder, analytics_enabled=False
            )
        except Exception as error:
            self._remove_folder()
            raise EHMFacesError(
                f"The page {url} cannot be reached ({type(error).__name__}). "
                "Check the address, and that it runs."
            ) from error

    def generate(
        self,
        seeds: str | int = "0",
        count: int = 1,
        *,
        out: str | Path,
        truncation_psi: float = 0.7,
        noise_mode: NoiseMode = "const",
        portrait_format: str = "ehm",
        background: str = "none",
        cutout: str = "deeplab",
        model: str = "default",
        sex: str = "any",
        age: float = 0.0,
        smile: float = 0.0,
        skin: float = 0.0,
        hair: float = 0.0,
    ) -> list[Path]:
        """Make portraits and store them as seedN.png in the folder `out`.

        Args:
            seeds: One seed, or a list with ranges like "1,2,5-10".
            count: With one seed: how many faces, counting up from it.
            out: Folder; made where it is missing.
            truncation_psi: Variety; 0.7 is usual, 1 is off.
            noise_mode: "const", "random" or "none".
            portrait_format: Like "ehm" or "full".
            background: "none", "game" or "#rrggbb".
            cutout: "deeplab" or "rembg".
            model: "default", or another of the models that the page offers.
            sex: "any", "men" or "women".
            age: -3 (younger) to 3 (older), in standard deviations; so are the next ones.
            smile: Above 0 smiling.
            skin: Below 0 darker, above 0 lighter.
            hair: Below 0 darker, above 0 lighter.

        Raises:
            EHMFacesError: The server cannot do it; its sentence says why.
        """
        faces = self._predict(
            endpoints.GENERATE,
            seeds=str(seeds),
            count=count,
            truncation_psi=truncation_psi,
            noise_mode=noise_mode,
            portrait_format=portrait_format,
            background=background,
            cutout=cutout,
            model=model,
            sex=sex,
            age=age,
            smile=smile,
            skin=skin,
            hair=hair,
        )
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"seed{int(str(face['caption']).removeprefix('Seed '))}.png" for face in faces]
        return [_store(face["image"], folder / name) for face, name in zip(faces, names, strict=True)]

    def mix(
        self,
        row_seeds: str,
        col_seeds: str,
        col_styles: str = "coarse",
        *,
        out: str | Path,
        truncation_psi: float = 0.7,
        noise_mode: NoiseMode = "const",
        model: str = "default",
    ) -> Path:
        """Cross faces and store the grid as a PNG file.

        Args:
            row_seeds: Like "1,2,3".
            col_seeds: Like "10,11".
            col_styles: "coarse", "middle", "fine" or layers like "0-3".
            out: The file to write.
            truncation_psi: Variety; 0.7 is usual, 1 is off.
            noise_mode: "const", "random" or "none".
            model: "default", or another of the models that the page offers.

        Raises:
            EHMFacesError: The server cannot do it; its sentence says why.
        """
        grid = self._predict(
            endpoints.MIX,
            row_seeds=row_seeds,
            col_seeds=col_seeds,
            col_styles=col_styles,
            truncation_psi=truncation_psi,
            noise_mode=noise_mode,
            model=model,
        )
        return _store(grid, Path(out))

    def cutout(self, image: str | Path, *, out: str | Path, backend: str = "deeplab") -> Path:
        """Cut the person out of a picture and store it as a transparent PNG file.

        Args:
            image: PNG, JPEG or WebP.
            out: The file to write.
            backend: "deeplab" or "rembg".

        Raises:
            EHMFacesError: The server cannot do it; its sentence says why.
        """
        person, _ = self._predict(endpoints.CUTOUT, image=_upload(image), backend=backend)
        return _store(person, Path(out))

    def facepack(
        self,
        roster: str | Path,
        *,
        out: str | Path,
        progress: Callable[[str], None] | None = None,
        pack: str | Path | None = None,
        **settings: Any,
    ) -> Path:
        """Make a portrait for each person of a roster and store the ZIP.

        Args:
            roster: Path of the roster.
            out: The ZIP to write.
            progress: Called with a sentence while the pack is made.
            pack: A ZIP made earlier; its pictures stay, newcomers are added.
            **settings: Other parameters of the endpoint by name, like pack_key, limit, only or reroll.

        Raises:
            EHMFacesError: The server cannot do it; its sentence says why.
        """
        files = {"roster": _upload(roster)} | ({"pack": _upload(pack)} if pack is not None else {})
        with _sentences():
            job = self._client.submit(**files, **settings, api_name=f"/{endpoints.FACEPACK}")
            last: tuple[Any, ...] = ()
            for last in job:
                if progress is not None:
                    progress(_without_tags(str(last[0])))
            last = last or job.result()
        if not last or not last[2]:
            raise EHMFacesError("The server sent no pack. Try again, or look at its log.")
        return _store(last[2], Path(out))

    def check(
        self, pack: str | Path, roster: str | Path | None = None, *, out: str | Path | None = None
    ) -> tuple[str, list[list[str]]]:
        """Check a facepack.

        Args:
            pack: A ZIP file.
            roster: Who the pack is for.
            out: Where all findings are stored as CSV.

        Returns:
            The result in words, and the first findings: severity, code, file, what to do.

        Raises:
            EHMFacesError: The server cannot do it; its sentence says why.
        """
        files = {"pack": _upload(pack)} | ({"roster": _upload(roster)} if roster is not None else {})
        summary, findings, report = self._predict(endpoints.CHECK, **files)
        if out is not None:
            _store(report, Path(out))
        return str(summary), [[str(cell) for cell in row] for row in findings["data"]]

    def close(self) -> None:
        """Remove temporary files."""
        self._remove_folder()

    def __enter__(self) -> "Client":
        """Use as `with Client(url) as client`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _predict(self, endpoint: str, **parameters: Any) -> Any:
        with _sentences():
            return self._client.predict(**parameters, api_name=f"/{endpoint}")


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn an error of the server into our own, with its sentence."""
    import httpx
    from gradio_client.exceptions import AppError
    from gradio_client.utils import QueueError

    try:
        yield
    except AppError as error:
        raise EHMFacesError(str(error)) from error
    except QueueError as error:
        raise EHMFacesError("The queue of the server is full. Try again in a minute.") from error
    except httpx.HTTPStatusError as error:
        raise EHMFacesError(_refusal(error.response)) from error


def _refusal(response: Any) -> str:
    """Return the sentence of a refusal, or its status."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The server answers with status {response.status_code}. Try again later."


def _upload(path: str | Path) -> Any:
    from gradio_client import handle_file

    if not Path(path).is_file():
        raise InputError(f'"{path}" is no file. Give the path of a file here.')
    return handle_file(str(path))


def _store(source: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def _without_tags(html: str) -> str:
    """Return the sentence of a status.

    Example:
        >>> _without_tags('<div class="bar"></div><p>3 of 4 &amp; counting</p>')
        '3 of 4 & counting'
    """
    import re
    from html import unescape

    return unescape(re.sub(r"<[^>]*>", "", html)).strip()
