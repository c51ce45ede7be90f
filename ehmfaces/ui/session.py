"""What all visitors of the page share: loaded models, limits, running jobs, temporary folders.

Owns when a model is loaded (once, at its first use) and that one picture is computed at a time, in the
order in which they were asked for. Does not know tabs, layouts or rosters.
"""

import importlib
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ehmfaces.cutout.base import CutoutBackend, load_cutout_backend
from ehmfaces.errors import EHMFacesError, InputError
from ehmfaces.images import parse_color
from ehmfaces.portrait.formats import get_format
from ehmfaces.types import Image, NoiseMode, Seed
from ehmfaces.ui.model_shelf import DEFAULT, ModelShelf
from ehmfaces.ui.turns import TurnLock
from ehmfaces.ui.workfolder import work_folder

if TYPE_CHECKING:
    from ehmfaces.facepack.render import PortraitRenderer
    from ehmfaces.pipeline import FacePipeline

GPU_QUEUE = "gpu"  # events that share one place in gradio's queue
PACK_QUEUE = "facepack"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Limits:
    """The most that one request may ask for; meant for two CPU cores.

    Attributes:
        max_faces: Faces of one request on the Generate tab.
        max_grid: Faces of a mixing grid, without its margins.
        max_rows: Rows of a roster.
        max_upload_bytes: Size of an uploaded file.
        gallery_faces: Faces of a facepack that are shown; the ZIP holds all.
        job_time_sec: A facepack stops after so long; what is done is kept.
        request_time_sec: So does any other request that makes several pictures.
        refresh_sec: Least time between two refreshes of a running facepack.
        max_waiting: Requests that may wait in the queue.
        models_in_memory: Generators that stay loaded.
    """

    max_faces: int = 64
    max_grid: int = 64
    max_rows: int = 20_000
    max_upload_bytes: int = 20 * 2**20
    gallery_faces: int = 60
    job_time_sec: float = 4 * 3600.0
    request_time_sec: float = 120.0
    refresh_sec: float = 0.7
    max_waiting: int = 32
    models_in_memory: int = 2


class Session:
    """Models and limits behind one page.

    Args:
        model: Folder or Hub id of the generator; None = EHMFACES_MODEL or the embedded default.
        limits: The most that one request may ask for.
        load_cutout: Gives a cut-out back-end by name.
        models: Hub ids that visitors may choose besides; None = those of EHMFACES_MODELS.
    """

    def __init__(
        self,
        model: str | None = None,
        limits: Limits | None = None,
        load_cutout: Callable[[str], CutoutBackend] = load_cutout_backend,
        models: list[str] | None = None,
    ) -> None:
        """Remember the choices; nothing is loaded yet."""
        self.limits = limits or Limits()
        self.models = ModelShelf(model, models, self.limits.models_in_memory)
        self._load_cutout = load_cutout
        self._cutouts: dict[str, CutoutBackend] = {}
        self._jobs: dict[str, threading.Event] = {}
        self._lock = threading.RLock()
        self._turn = TurnLock()
        self._is_closing = False
        self.is_ready = False

    @property
    def pipeline(self) -> "FacePipeline":
        """The default generator, loaded at its first use.

        Raises:
            ModelError: The model is not there or is damaged.
        """
        return self.models.pipeline()

    def preload(self) -> None:
        """Load the default models now, as a ZeroGPU Space wants it; a missing one is reported at its use."""
        with suppress(EHMFacesError):
            _ = self.pipeline
            self.cutout("deeplab")
            self.is_ready = True

    def cutout(self, name: str) -> CutoutBackend:
        """Return a cut-out back-end, loaded at its first use.

        Raises:
            EHMFacesError: The name is unknown, or the back-end cannot be loaded.
        """
        with self._lock:
            if name not in self._cutouts:
                self._cutouts[name] = self._load_cutout(name)
            return self._cutouts[name]

    def renderer(
        self,
        portrait_format: str,
        background: str,
        truncation_psi: float,
        noise_mode: NoiseMode,
        cutout: str,
        model: str = DEFAULT,
        wishes: Mapping[str, Any] | None = None,
    ) -> "PortraitRenderer":
        """Return what makes portraits with these settings and one of the models that are offered.

        Raises:
            EHMFacesError: A setting is wrong or a model cannot be loaded.
        """
        from ehmfaces.facepack.render import PortraitRenderer
        from ehmfaces.latents.directions import Wishes

        return PortraitRenderer(
            self.models.pipeline(model),
            self.cutout(cutout),
            get_format(portrait_format),
            parse_color(background),
            float(truncation_psi),
            noise_mode,
            wishes=Wishes(**(wishes or {})),
        )

    def render(self, renderer: "PortraitRenderer", seed: Seed) -> bytes:
        """Return one portrait as PNG bytes; others wait meanwhile."""
        with self._turn:
            return renderer.render(seed)

    def compute(self, function: Callable[[], Image]) -> Image:
        """Run a function that uses a model while nobody else does."""
        with self._turn:
            return function()

    def check_count(self, count: float | None, limit: int, what: str) -> int:
        """Return a number of faces from 1 to a limit.

        Raises:
            InputError: It is no whole number in that range.
        """
        number = int(count) if count is not None and isfinite(count) else -1
        if not 1 <= number <= limit or number != count:
            raise InputError(f"{what} cannot be {count}. Ask for a whole number from 1 to {limit}.")
        return number

    def start_job(self, key: str) -> "Job":
        """Begin a job that `cancel_job` with the same key can stop."""
        cancelled = threading.Event()
        if self._is_closing:
            cancelled.set()
        self._jobs[key] = cancelled
        return Job(cancelled, time.monotonic() + self.limits.job_time_sec)

    def cancel_job(self, key: str) -> bool:
        """Ask a running job to stop; False when there is none."""
        cancelled = self._jobs.get(key)
        if cancelled is None:
            return False
        cancelled.set()
        return True

    def end_job(self, key: str, job: "Job") -> None:
        """Forget a job, unless another one has taken its key."""
        if self._jobs.get(key) is job.cancelled:
            del self._jobs[key]

    def deadline(self) -> float:
        """Return when a request that starts now has to end, as time.monotonic() tells it."""
        return time.monotonic() + self.limits.request_time_sec

    def is_late(self, deadline: float) -> bool:
        """Tell whether a request has to end: its time is used up, or the server is closing."""
        return self._is_closing or time.monotonic() > deadline

    @property
    def running_jobs(self) -> int:
        """Number of jobs that have not ended."""
        return len(self._jobs)

    def close(self) -> None:
        """Ask everything that runs to hand over what it has; nothing new is begun."""
        self._is_closing = True
        for cancelled in list(self._jobs.values()):
            cancelled.set()

    def new_folder(self) -> Path:
        """Make a private folder for files of one request; it is removed some hours later."""
        return work_folder().new_folder()


@dataclass(frozen=True)
class Job:
    """A running facepack: asked to stop, or out of time?"""

    cancelled: threading.Event
    deadline: float  # of time.monotonic()

    @property
    def is_late(self) -> bool:
        """Tell whether the time is used up."""
        return time.monotonic() > self.deadline

    def should_stop(self) -> bool:
        """Tell whether the job has to end now."""
        return self.cancelled.is_set() or self.is_late


def on_gpu(function: F) -> F:
    """Ask for a GPU during a call on a ZeroGPU Space; elsewhere the function stays as it is.

    The folder `spaces/` of a checkout looks like an empty package, so the name is looked for.
    """
    try:
        request_gpu = getattr(importlib.import_module("spaces"), "GPU", None)
    except ImportError:
        request_gpu = None
    if request_gpu is None:
        return function
    decorated: F = request_gpu(function, duration=60)
    return decorated
