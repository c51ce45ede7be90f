"""The server's log: one JSON object a line on standard error.

Owns which facts are written: time, event, endpoint, milliseconds, counts, status, request number and an
anonymous name of the visitor that changes with every start. Never: names of people, names or contents of
files, addresses, tokens, or the text of an unexpected error.

Knows no handler.
"""

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER = logging.getLogger("ehmfaces.server")
_FACTS = frozenset(
    {
        "endpoint", "ms", "pictures", "status", "request", "client", "error", "place", "path", "files",
        "used_bytes", "seconds", "open", "version", "method", "address", "limits", "reason",
    }
)  # fmt: skip


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "event": record.msg}
        return json.dumps(line | getattr(record, "facts", {}), ensure_ascii=False)


def log_event(event: str, *, level: int = logging.INFO, **facts: str | int | float | None) -> None:
    """Write one line.

    Args:
        event: A constant word.
        level: Of the logging package.
        **facts: Only those that may be written; None is left out.

    Raises:
        ValueError: A fact is not in the list above.
    """
    if unknown := set(facts) - _FACTS:
        raise ValueError(f"{sorted(unknown)} may not be logged. Allowed: {sorted(_FACTS)}.")
    LOGGER.log(
        level, event, extra={"facts": {key: value for key, value in facts.items() if value is not None}}
    )


def start_log() -> None:
    """Send the lines to standard error; a second call changes nothing."""
    if not LOGGER.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
