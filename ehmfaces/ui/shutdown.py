"""How a server ends: what runs may finish for a while, then it hands over what it has.

Owns the signals and the order of the end. All waiting together is shorter than the grace of the settings.
"""

import signal
import threading
import time
from types import FrameType
from typing import Any

from ehmfaces.ui.door import ServerState
from ehmfaces.ui.log import log_event

_RUN_ON_SHARE = 0.5  # of the grace; then packs are cancelled and keep their part
_CLOSE_SEC = 6.0  # gradio's own bound for closing
_POLL_SEC = 0.05


def serve_until_stopped(demo: Any, state: ServerState) -> None:
    """Block until SIGTERM or Ctrl-C, then end the server in order; a second signal ends it at once.

    Outside of the main thread no signals can be caught; the server then runs until it is closed.
    """
    stop = threading.Event()

    def ask(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
    try:
        while demo.is_running and not stop.wait(_POLL_SEC * 4):
            pass
        close_in_order(demo, state)
    except KeyboardInterrupt:
        demo.close(verbose=False)


def close_in_order(demo: Any, state: ServerState) -> None:
    """Refuse new requests, let the running ones finish or hand over, and close."""
    began = time.monotonic()
    state.is_closing = True
    log_event("closing", open=state.open_answers, seconds=state.settings.grace_sec)
    grace = max(state.settings.grace_sec - _CLOSE_SEC, 0.0)
    had_packs = state.session.running_jobs > 0
    if not _wait_for_answers(state, began + grace * _RUN_ON_SHARE):
        state.session.close()
        _wait_for_answers(state, began + grace)
    if had_packs:  # whoever made one gets the rest of the time to fetch it
        time.sleep(max(began + grace - time.monotonic(), 0.0))
    demo.close(verbose=False)
    log_event("closed", open=state.open_answers, seconds=round(time.monotonic() - began, 1))


def _wait_for_answers(state: ServerState, until: float) -> bool:
    """Wait until nobody waits for an answer; False when the time is over first."""
    while state.open_answers:
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SEC)
    return True
