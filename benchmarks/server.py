"""Load and soak test of the server over its real HTTP API, on loopback.

Starts `ehmfaces serve`, lets clients ask for faces, mixes, cut-outs and nonsense while one facepack runs, and
prints what came of it: requests, refusals, errors (there should be none), times, memory. Owns the load and
the table. Knows the server by its addresses only, apart from the memory of its process.

    python benchmarks/server.py                          50 clients, 5 minutes, a pack of 500
    python benchmarks/server.py --soak 1800 --clients 4  half an hour; memory as a slope
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"face": 60, "mix": 10, "cutout": 10, "nonsense": 20}  # shares in percent
REFUSALS = {503: "queue full", 429: "rate limited"}


@dataclass
class Result:
    """What all clients saw together."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    errors: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MiB
    pack: str = "not run"

    def add(self, kind: str, outcome: str, seconds: float) -> None:
        """Count one request."""
        self.outcomes[kind][outcome] += 1
        if outcome == "ok":
            self.seconds[kind].append(seconds)


class Unexpected(Exception):  # noqa: N818
    """The server answered as it should not."""


class Visitor:
    """One client of the API.

    Args:
        http: Shared connections.
        picture: For cut-outs; it is uploaded anew each time, as visitors do.
    """

    def __init__(self, http: httpx.AsyncClient, picture: bytes) -> None:
        """Remember both."""
        self._http, self._picture = http, picture

    async def ask(self, kind: str) -> str:
        """Make one request and return its outcome.

        Raises:
            Unexpected: The answer is neither a result nor a refusal that is meant.
        """
        endpoint, parameters, wanted = await self._request(kind)
        posted = await self._http.post(f"/gradio_api/call/v2/{endpoint}", json=parameters)
        if posted.status_code in REFUSALS:
            if not posted.json()["detail"].endswith((".", "s")) or "retry-after" not in posted.headers:
                raise Unexpected(f"a refusal without sentence: {posted.text[:80]}")
            return REFUSALS[posted.status_code]
        if posted.status_code != 200:
            raise Unexpected(f"status {posted.status_code} of {endpoint}")
        event, data = await self._listen(endpoint, posted.json()["event_id"])
        if event != wanted:
            raise Unexpected(f"{endpoint} ended with {event}: {str(data)[:80]}")
        if event == "error" and "inside the program" in str(data):
            raise Unexpected(f"{endpoint}: {str(data)[:80]}")
        return "ok"

    async def _request(self, kind: str) -> tuple[str, dict[str, object], str]:
        seed = str(random.randrange(10**6))
        if kind == "face":
            return "generate", {"seeds": seed, "count": 1}, "complete"
        if kind == "mix":
            return "mix", {"row_seeds": seed, "col_seeds": "1,2"}, "complete"
        if kind == "cutout":
            return (
                "cutout",
                {"image": file_data(await upload(self._http, "head.jpg", self._picture))},
                "complete",
            )
        wrong: list[tuple[str, dict[str, object]]] = [
            ("generate", {"seeds": "seven"}),
            ("generate", {"seeds": "1", "count": 1, "background": "blueish"}),
            ("mix", {"row_seeds": "1", "col_seeds": "2", "col_styles": "99"}),
        ]
        return *random.choice(wrong), "error"

    async def _listen(self, endpoint: str, event_id: str) -> tuple[str, object]:
        name, data = "nothing", ""
        async with self._http.stream("GET", f"/gradio_api/call/{endpoint}/{event_id}") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    data = line.removeprefix("data: ")
        return name, data


def file_data(path: str) -> dict[str, object]:
    """Return an uploaded file as gradio's API wants it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


async def upload(http: httpx.AsyncClient, name: str, content: bytes) -> str:
    """Upload a file and return its path on the server."""
    answer = await http.post("/gradio_api/upload", files={"files": (name, content)})
    return str(answer.json()[0])


def make_roster(rows: int) -> bytes:
    """Return a roster of made-up people."""
    lines = [f"Vorname{i},Nachname{i},{i % 28 + 1}.{i % 12 + 1}.{1985 + i % 20}" for i in range(rows)]
    return ("First Name,Second Name,Date Of Birth\n" + "\n".join(lines)).encode()


def make_picture() -> bytes:
    """Return a plain head as JPEG."""
    image = Image.new("RGB", (256, 320), (31, 44, 56))
    ImageDraw.Draw(image).ellipse((60, 60, 200, 260), fill=(205, 160, 135))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


async def visit(visitor: Visitor, result: Result, until: float, pause_sec: float) -> None:
    """Ask again and again until the time is over."""
    while time.monotonic() < until:
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        began = time.monotonic()
        try:
            outcome = await visitor.ask(kind)
        except (Unexpected, httpx.HTTPError) as error:
            outcome = "error"
            result.errors[f"{type(error).__name__}: {error}"] += 1
        result.add(kind, outcome, time.monotonic() - began)
        await asyncio.sleep(pause_sec * random.uniform(0.5, 1.5))


async def make_pack(http: httpx.AsyncClient, rows: int, result: Result) -> None:
    """Run one facepack beside everything else."""
    began = time.monotonic()
    roster = await upload(http, "players.csv", make_roster(rows))
    posted = await http.post("/gradio_api/call/v2/facepack", json={"roster": file_data(roster)})
    while posted.status_code in REFUSALS:
        await asyncio.sleep(1)
        posted = await http.post("/gradio_api/call/v2/facepack", json={"roster": file_data(roster)})
    name, last = await Visitor(http, b"")._listen("facepack", posted.json()["event_id"])
    made = re.search(r"<p>(.*?)</p>", str(json.loads(str(last) or "[]")))
    sentence = made.group(1) if made else str(last)[:80]
    result.pack = f"{name} after {time.monotonic() - began:.0f} s: {sentence}"
    if name != "complete":
        result.errors[f"pack: {result.pack}"] += 1


async def watch_memory(pid: int, result: Result, until: float, every_sec: float) -> None:
    """Note the memory of the server now and then."""
    began = time.monotonic()
    while time.monotonic() < until:
        result.memory.append((time.monotonic() - began, memory_mib(pid)))
        await asyncio.sleep(every_sec)


def memory_mib(pid: int, which: str = "VmRSS") -> float:
    """Return the resident memory of a process now, or its peak (VmHWM), in MiB."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else float("nan")


async def run_load(url: str, pid: int, options: argparse.Namespace) -> Result:
    """Let all clients loose; returns what they saw."""
    result = Result()
    seconds = options.soak or options.seconds
    limits = httpx.Limits(max_connections=4 * options.clients + 20)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        picture = make_picture()
        for kind in ("face", "mix", "cutout"):
            await Visitor(http, picture).ask(kind)  # models are loaded before the clock starts
        until = time.monotonic() + seconds
        jobs = [visit(Visitor(http, picture), result, until, options.pause) for _ in range(options.clients)]
        jobs.append(watch_memory(pid, result, until, max(seconds / 120, 0.5)))
        if options.pack:
            jobs.append(make_pack(http, options.pack, result))
        await asyncio.gather(*jobs)
    return result


def start_server(options: argparse.Namespace, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server and wait until it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ehmfaces", "serve", "--port", str(port)]
    if options.faces_per_minute is not None:
        command += ["--faces-per-minute", str(options.faces_per_minute)]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }
    if options.soak:
        environment["EHMFACES_KEEP_FILES_SEC"] = str(max(options.soak // 10, 20))
    with log.open("wb") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return process, url
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    process.kill()
    raise SystemExit(f"The server did not start:\n{log.read_text()[-2000:]}")


def print_table(result: Result, seconds: float, peak_mib: float, log: Path) -> None:
    """Print what came of it."""
    columns = ["ok", *REFUSALS.values(), "error"]
    print(
        f"{'':10}{'requests':>10}" + "".join(f"{name:>14}" for name in columns) + f"{'p50 s':>9}{'p95 s':>9}"
    )
    for kind in KINDS:
        counts, times = result.outcomes[kind], sorted(result.seconds[kind])
        figures = "".join(f"{counts[name]:>14}" for name in columns)
        middle = f"{statistics.median(times):9.2f}{times[int(len(times) * 0.95)]:9.2f}" if times else ""
        print(f"{kind:10}{sum(counts.values()):>10}{figures}{middle}")
    total = sum(sum(counts.values()) for counts in result.outcomes.values())
    print(f"\n{total} requests in {seconds:.0f} s. Facepack: {result.pack}")
    print(
        f"Memory of the server: {result.memory[0][1]:.0f} MiB at the start, {result.memory[-1][1]:.0f} at "
        f"the end, {peak_mib:.0f} at its peak."
    )
    quarters = [result.memory[len(result.memory) * i // 4][1] for i in range(4)]
    print(f"At the beginning of each quarter: {', '.join(f'{mib:.0f}' for mib in quarters)} MiB.")
    late = [point for point in result.memory if point[0] > seconds / 3]
    if len(late) > 2:
        slope = statistics.linear_regression(*zip(*late, strict=True)).slope * 3600
        print(f"Slope over the last two thirds: {slope:+.1f} MiB an hour.")
    failures = sum('"failure"' in line for line in log.read_text("utf-8").splitlines())
    print(f"Failures in the server's log: {failures}. Errors seen by clients: {sum(result.errors.values())}.")
    for text, count in result.errors.most_common(10):
        print(f"  {count} x {text}")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--pack", type=int, default=500, help="rows of the facepack beside; 0 = none")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds a client waits between requests")
    parser.add_argument("--soak", type=int, default=0, help="run so many seconds and watch the memory")
    parser.add_argument("--faces-per-minute", type=float, help="also limit visitors")
    return parser.parse_args()


def main() -> int:
    """Run, print, and fail when something unexpected happened."""
    options = parse_options()
    random.seed(0)
    with tempfile.TemporaryDirectory(prefix="ehmfaces-load-") as folder:
        log = Path(folder) / "log"
        process, url = start_server(options, log)
        try:
            began = time.monotonic()
            result = asyncio.run(run_load(url, process.pid, options))
            seconds, peak = time.monotonic() - began, memory_mib(process.pid, "VmHWM")
            print_table(result, seconds, peak, log)
        finally:
            process.terminate()
            process.wait(60)
    return 1 if result.errors else 0


if __name__ == "__main__":
    sys.exit(main())
