"""Running figures of a training run, one JSON line per tick. Knows no network."""

import json
import time
from collections import defaultdict
from pathlib import Path


class Stats:
    """Collects means between two ticks and appends them to `stats.jsonl`."""

    def __init__(self, path: Path) -> None:
        """Append to `path`."""
        self.path = path
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.since = time.monotonic()

    def add(self, **values: float) -> None:
        """Count one value of each name."""
        for name, value in values.items():
            self.sums[name] += float(value)
            self.counts[name] += 1

    def write(self, **fixed: float) -> dict[str, float]:
        """Write and return the means since the last call, with `fixed` values as they are."""
        line = {**fixed, "sec": time.monotonic() - self.since}
        line |= {name: self.sums[name] / self.counts[name] for name in self.sums}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: round(value, 6) for key, value in line.items()}) + "\n")
        self.sums.clear()
        self.counts.clear()
        self.since = time.monotonic()
        return line
