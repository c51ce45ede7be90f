"""Every exception that ehmfaces raises on purpose.

EHMFacesError
├── InputError            something the user gave is wrong
│   ├── RosterError       a roster file, row or cell
│   ├── LatentError       a seed, truncation, style range or latent array
│   └── ImageError        a picture
├── ModelError            a model cannot be loaded or used
│   ├── UnsafePickleError a pickle holds something that is not numbers
│   └── UnsupportedModelError
├── MissingExtraError     an optional package is not installed
├── FacepackError         a facepack cannot be planned or written
└── EngineError           the workers of a batch cannot be started, or hang

Each text says what is wrong, the value, what is allowed and what to do. The library raises;
`cli` and `ui.boundary` turn the text into one line for the person. Knows nothing else.
"""


class EHMFacesError(Exception):
    """Base of all errors with a text meant for the user."""


class InputError(EHMFacesError):
    """Something the user gave is wrong."""


class RosterError(InputError):
    """A roster file, row or cell is wrong."""


class LatentError(InputError):
    """A seed, truncation, style range or latent array is wrong."""


class ImageError(InputError):
    """A picture is wrong."""


class ModelError(EHMFacesError):
    """A model cannot be loaded or used."""


class UnsafePickleError(ModelError):
    """A pickle holds something that is not plain numbers."""


class UnsupportedModelError(ModelError):
    """A model is of a kind that ehmfaces cannot use."""


class MissingExtraError(EHMFacesError):
    """An optional package is not installed.

    Example:
        >>> str(MissingExtraError("rembg", "The rembg cut-out"))
        'The rembg cut-out needs an optional package. Install it with: pip install "ehmfaces[rembg]"'
    """

    def __init__(self, extra: str, what: str) -> None:
        """Name the extra to install and what needs it."""
        super().__init__(
            f'{what} needs an optional package. Install it with: pip install "ehmfaces[{extra}]"'
        )


class FacepackError(EHMFacesError):
    """A facepack cannot be planned or written."""


class EngineError(EHMFacesError):
    """The workers of a batch cannot be started, or hang."""
