import errno
import inspect
import logging

import gradio as gr
import pytest

from ehmfaces.errors import InputError
from ehmfaces.ui.boundary import with_sentences


def double(number: int = 1) -> int:
    """Double it.

    Args:
        number: Any.
    """
    if number < 0:
        raise InputError(f"{number} is below 0. Give 0 or more.")
    return number * 2


def test_name_signature_and_help_stay():
    wrapped = with_sentences(double)
    assert wrapped.__name__ == "double"
    assert wrapped.__doc__ == double.__doc__
    assert inspect.signature(wrapped) == inspect.signature(double)
    assert wrapped(4) == 8


def test_our_errors_become_their_sentence():
    with pytest.raises(gr.Error) as caught:
        with_sentences(double)(-3)
    assert caught.value.message == "-3 is below 0. Give 0 or more."
    assert caught.value.print_exception is False


def test_generators_stay_generators():
    @with_sentences
    def count():
        yield 1
        raise InputError("Enough.")

    assert inspect.isgeneratorfunction(count)
    steps = count()
    assert next(steps) == 1
    with pytest.raises(gr.Error, match="Enough"):
        next(steps)


def test_closing_a_generator_reaches_the_inside():
    seen = []

    @with_sentences
    def count():
        try:
            yield 1
        finally:
            seen.append("closed")

    steps = count()
    next(steps)
    steps.close()
    assert seen == ["closed"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("Jane Doe"), "Something failed inside the program (ValueError)"),
        (MemoryError(), "too little memory"),
        (OSError(errno.ENOSPC, "x"), "disk of the server is full"),
    ],
)
def test_unexpected_errors_are_plain_and_logged_without_their_text(caplog, error, sentence):
    @with_sentences
    def fail():
        raise error

    with caplog.at_level(logging.INFO, "ehmfaces.server"), pytest.raises(gr.Error) as caught:
        fail()
    assert sentence in caught.value.message
    facts = next(record.facts for record in caplog.records if record.msg == "failure")
    assert facts["error"] == type(error).__name__
    assert "test_boundary.py" in facts["place"]
    assert "Jane" not in caplog.text + str(facts) + caught.value.message


def test_a_gradio_error_passes():
    @with_sentences
    def fail():
        raise gr.Error("as it is")

    with pytest.raises(gr.Error, match="as it is"):
        fail()
