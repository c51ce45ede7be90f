"""The border between the library and the page: exceptions become sentences.

Owns what a person reads when something fails, and the line in the log that every call leaves. Log lines
hold where it failed, never what was uploaded.
"""

import errno
import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from ehmfaces.errors import EHMFacesError
from ehmfaces.ui.log import log_event
from ehmfaces.ui.visit import Visit, current_visit

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
    visit, began, status = current_visit(), time.monotonic(), "error"
    try:
        yield
        status = "ok"
    except GeneratorExit:
        status = "closed"
        raise
    except gr.Error:
        status = "refused"
        raise
    except EHMFacesError as error:
        status = "refused"
        raise gr.Error(str(error), print_exception=False) from error
    except Exception as error:
        _log_failure(name, error, visit)
        raise gr.Error(_sentence_of(error, visit), print_exception=False) from error
    finally:
        _log_call(name, status, time.monotonic() - began, visit)


def _log_call(name: str, status: str, seconds: float, visit: Visit | None) -> None:
    log_event(
        "call",
        endpoint=name,
        status=status,
        ms=round(seconds * 1000),
        pictures=(visit.pictures or None) if visit else None,
        request=visit.request_id if visit else None,
        client=visit.account.name if visit else None,
    )


def _log_failure(name: str, error: Exception, visit: Visit | None) -> None:
    """Write kind and place of an error; its text may hold names of people."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    log_event(
        "failure",
        level=logging.ERROR,
        endpoint=name,
        error=type(error).__name__,
        place=f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else None,
        request=visit.request_id if visit else None,
    )


def _sentence_of(error: Exception, visit: Visit | None) -> str:
    if isinstance(error, MemoryError):
        return "The server has too little memory for this. Ask for fewer or smaller pictures."
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return "The disk of the server is full, so nothing more can be written. Try again later."
    number = f", request {visit.request_id}" if visit else ""
    return (
        f"Something failed inside the program ({type(error).__name__}{number}). "
        "Nothing of yours was changed. Try again."
    )
