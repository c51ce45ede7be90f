"""First come, first served: the lock in front of a device.

Owns the order in which threads get their turn. An ordinary lock lets a facepack that asks again at once
overtake everybody who waits; this one does not.
"""

import threading
from collections import deque


class TurnLock:
    """A lock that serves its waiters in the order of their coming; use it with `with`."""

    def __init__(self) -> None:
        """Start free."""
        self._guard = threading.Lock()
        self._waiting: deque[tuple[threading.Event, int]] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        """Wait for the turn; who has it already goes on."""
        me = threading.get_ident()
        with self._guard:
            if self._owner in (None, me):
                self._owner, self._depth = me, self._depth + 1
                return
            turn = threading.Event()
            self._waiting.append((turn, me))
        turn.wait()

    def __exit__(self, *_: object) -> None:
        """Hand the lock to who waits longest."""
        with self._guard:
            self._depth -= 1
            if self._depth:
                return
            self._owner = None
            if self._waiting:
                turn, self._owner = self._waiting.popleft()
                self._depth = 1
                turn.set()
