"""The table of portrait formats: size, and which part of the generator's square they show.

Owns names and numbers. Facts on the games' sizes: the publisher's note and popular packs.
"""

from dataclasses import dataclass

from ehmfaces.errors import InputError


@dataclass(frozen=True)
class PortraitFormat:
    """Size of a finished portrait.

    The generator's frame is a square of side S: head and neck, eyes at 0.49 S. A format narrower than a
    square shows its full height and the middle of its width.

    Attributes:
        name: As users write it.
        width_px: 0 = the generator's own resolution.
        height_px: 0 = the generator's own resolution.
        title: As users read it.
    """

    name: str
    width_px: int
    height_px: int
    title: str


FORMATS: dict[str, PortraitFormat] = {
    row.name: row
    for row in (
        PortraitFormat("ehm", 160, 200, "EHM 160x200"),
        PortraitFormat("ehm-157", 157, 200, "EHM 157x200, as in most packs"),
        PortraitFormat("ehm-184", 184, 200, "EHM 184x200"),
        PortraitFormat("ehm-200", 200, 200, "EHM 200x200, the largest"),
        PortraitFormat("fm-180", 180, 180, "Football Manager 180x180"),
        PortraitFormat("fm-250", 250, 250, "Football Manager 250x250"),
        PortraitFormat("plain-256", 256, 256, "Plain 256x256"),
        PortraitFormat("full", 0, 0, "Full resolution of the generator"),
    )
}
DEFAULT_FORMAT = "ehm"


def get_format(name: str) -> PortraitFormat:
    """Return a format by name.

    Raises:
        InputError: The name is unknown.
    """
    if name not in FORMATS:
        raise InputError(f'Unknown portrait format "{name[:40]}". Known: {", ".join(FORMATS)}.')
    return FORMATS[name]
