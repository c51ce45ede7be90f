"""Photo-like portraits of people who do not exist, cut out, framed and named for hockey games.

Names are loaded when they are first used (PEP 562), so that `import ehmfaces` is instant.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "EHMFacesError": "ehmfaces.errors",
    "FaceOutput": "ehmfaces.pipeline",
    "FacePipeline": "ehmfaces.pipeline",
    "PortraitFormat": "ehmfaces.portrait.formats",
    "PortraitRenderer": "ehmfaces.facepack.render",
    "Provenance": "ehmfaces.provenance",
    "StyleGAN2Discriminator": "ehmfaces.models.stylegan2",
    "StyleGAN2Generator": "ehmfaces.models.stylegan2",
    "StyleGAN3Generator": "ehmfaces.models.stylegan3",
    "compose_portrait": "ehmfaces.portrait.compose",
    "cut_out": "ehmfaces.cutout.base",
    "import_checkpoint": "ehmfaces.convert.checkpoint",
    "import_nvidia_pkl": "ehmfaces.convert.checkpoint",
    "load_cutout_backend": "ehmfaces.cutout.base",
    "load_pipeline": "ehmfaces.hub",
    "plan_facepack": "ehmfaces.facepack.plan",
    "read_roster": "ehmfaces.roster.reader",
    "write_facepack": "ehmfaces.facepack.writer",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ehmfaces' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
