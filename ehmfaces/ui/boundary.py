"""The border between the library and the page: exceptions become sentences.

Owns what a person reads when something fails. Log lines hold where it failed, never what was uploaded.
"""

import errno
import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from ehmfaces.errors import EHMFacesError

_LOG = logging.getLogger(__name__)
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
P = ParamSpec("P")
R = TypeVar("R")


def with_sentences(function: Callable[P, R]) -> Callable[P, R]:
    """Turn every exception of a handler into a gr.Error with a plain sentence.

    Name, signature and docstring stay, since the API and its help are made from them. Works for
    functions and for generators.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _sentences(function.__name__):
            return function(*args, **kwargs)

    @functools.wraps(function)
    def iterate(*args: P.args, **kwargs: P.kwargs) -> Any:
        with _sentences(function.__name__):
            return (yield from function(*args, **kwargs))  # type: ignore[misc]

    return iterate if inspect.isgeneratorfunction(function) else call


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except EHMFacesError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Exception as error:
        _LOG.error("%s failed: %s", name, _place_of(error))
        raise gr.Error(_sentence_of(error), print_exception=False) from error


def _place_of(error: Exception) -> str:
    """Return kind and place of an error; its text may hold names of people."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown place"
    return f"{type(error).__name__} at {where}"


def _sentence_of(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "The server has too little memory for this. Ask for fewer or smaller pictures."
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return "The disk of the server is full, so nothing more can be written. Try again later."
    kind = type(error).__name__
    return f"Something failed inside the program ({kind}). Nothing of yours was changed. Try again."
