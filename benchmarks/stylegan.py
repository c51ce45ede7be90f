"""Time our generators on this machine, beside a plain formulation of the same algorithm.

Owns one measurement: random weights of any configuration, time per picture, multiply-accumulates, their
share of the convolution peak measured in the same run, peak memory of a process that does nothing else, and
the ratio to `peer.py`, whose runs alternate with ours.

Example:
    python -m benchmarks.stylegan --arch stylegan2 --resolution 256 --channel-base 16384 --threads 1
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import peer
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.models.stylegan3 import StyleGAN3Generator

ARCHITECTURES = ("stylegan2", "stylegan3-t", "stylegan3-r")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PEAK_SHAPES = ((512, 32), (256, 64), (128, 128), (64, 256))  # channels, pixels


def build(options: argparse.Namespace) -> torch.nn.Module:
    """Return a generator with random weights; its biases and noise are not zero."""
    torch.manual_seed(0)
    shared: dict[str, Any] = {
        "z_dim": options.z_dim,
        "w_dim": options.w_dim,
        "img_resolution": options.resolution,
    }
    widths = {"channel_base": options.channel_base, "channel_max": options.channel_max}
    generator: torch.nn.Module
    if options.arch == "stylegan2":
        mapping = {"num_layers": options.mapping_layers or 8}
        generator = StyleGAN2Generator(**shared, mapping_kwargs=mapping, synthesis_kwargs=widths)
    else:
        rotation = options.arch == "stylegan3-r"
        mapping = {"num_layers": options.mapping_layers or 2}
        generator = StyleGAN3Generator(
            **shared,
            **widths,
            mapping_kwargs=mapping,
            conv_kernel=1 if rotation else 3,
            use_radial_filters=rotation,
        )
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength") or (name.endswith("bias") and "affine" not in name):
                parameter.normal_(std=0.1)
    return generator.eval().to(DTYPES[options.precision])


class MacCounter(TorchDispatchMode):
    """Count multiply-accumulates: convolutions and products in `dense`, depthwise filters in `filters`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = self.filters = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and add what it costs."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "convolution":
            x, weight, transposed, groups = args[0], args[1], args[6], args[8]
            # Every pixel of the smaller side meets every weight of its group once.
            pixels = (x if transposed else result)[:, :1].numel()
            macs = pixels * weight.numel()
            if groups > 1:
                self.filters += macs
            else:
                self.dense += macs
        elif name in ("mm", "addmm", "bmm"):
            left = args[1] if name == "addmm" else args[0]
            self.dense += left.numel() * result.shape[-1]
        return result


def count_macs(run: Callable[[], Tensor]) -> tuple[float, float]:
    """Return GMAC of one run: dense, filters."""
    with torch.no_grad(), MacCounter() as counter:
        run()
    return counter.dense / 1e9, counter.filters / 1e9


def convolution_peak(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Return the best GMAC per second of a 3x3 convolution over some usual shapes."""
    best = 0.0
    for channels, size in PEAK_SHAPES:
        x = torch.randn(1, channels, size, size, dtype=dtype).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
        seconds = min(timed(lambda x=x, w=weight: torch.conv2d(x, w, padding=1), clock)[0] for _ in range(5))
        best = max(best, size**2 * channels**2 * 9 / 1e9 / seconds)
    return best


def timed(run: Callable[[], Tensor], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Tensor]:
    """Return seconds and the result."""
    start = clock()
    result = run()
    return clock() - start, result


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Return the figures of one configuration."""
    generator = build(options)
    z = torch.randn(options.batch, options.z_dim)
    plain = peer.stylegan2 if options.arch == "stylegan2" else peer.stylegan3

    def ours() -> Tensor:
        return generator(z)

    def theirs() -> Tensor:
        ws = generator.mapping(z)
        return plain(generator.synthesis, ws)

    clock = CLOCKS[options.clock]
    dense, filters = count_macs(ours)
    other = sum(count_macs(theirs)) if options.peer else 0.0
    times: list[float] = []
    peer_times: list[float] = []
    difference = 0.0
    with torch.inference_mode():
        peak = convolution_peak(DTYPES[options.precision], clock)
        for _ in range(options.repeats):
            seconds, img = timed(ours, clock)
            times.append(seconds)
            if options.peer:
                seconds, plain_img = timed(theirs, clock)
                peer_times.append(seconds)
                difference = max(difference, float((img.float() - plain_img.float()).abs().max()))
        peak = max(peak, convolution_peak(DTYPES[options.precision], clock))
    count = options.batch
    typical = statistics.median(times)
    figures = {
        "ms per image": 1000 * typical / count,
        "ms per image, best": 1000 * min(times) / count,
        "GMAC per image, convolutions": dense / count,
        "GMAC per image, filters": filters / count,
        "convolution peak, GMAC/s": peak,
        "share of the peak": dense / typical / peak,
    }
    if options.peer:
        pairs = zip(peer_times, times, strict=True)
        figures |= {
            "peer: ms per image": 1000 * statistics.median(peer_times) / count,
            "peer: GMAC per image": other / count,
            "peer: ratio of medians": statistics.median(peer_times) / typical,
            "peer: median of ratios": statistics.median(theirs / ours for theirs, ours in pairs),
            "peer: largest difference": difference,
            "largest value": float(img.abs().max()),
        }
    return figures


def peak_memory(options: argparse.Namespace) -> None:
    """Print the peak resident memory of this process in MB after two runs of ours."""
    generator = build(options)
    before = high_water()
    with torch.inference_mode():
        for _ in range(2):
            generator(torch.randn(options.batch, options.z_dim))
    print(f"{high_water():.0f} {before:.0f}")


def high_water() -> float:
    """Return the largest resident memory of this process so far in MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, default="stylegan2")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--channel-base", type=int, default=16384)
    parser.add_argument("--channel-max", type=int, default=512)
    parser.add_argument("--z-dim", type=int, default=512)
    parser.add_argument("--w-dim", type=int, default=512)
    parser.add_argument("--mapping-layers", type=int, help="default: 8 for StyleGAN2, 2 for StyleGAN3")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", choices=DTYPES, default="float32")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine, with one thread"
    )
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="only our path")
    parser.add_argument("--memory-only", action="store_true", help="print peak and idle memory in MB")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    if options.memory_only:
        peak_memory(options)
        return
    options.peer = options.peer and options.precision == "float32"
    figures = measure(options)
    child = [sys.executable, "-m", "benchmarks.stylegan", *arguments, "--memory-only"]
    peak, idle = subprocess.run(child, capture_output=True, text=True, check=True).stdout.split()
    figures |= {"peak memory, MB": float(peak), "of it before the first picture, MB": float(idle)}
    print(f"{options.arch} {options.resolution}, batch {options.batch}, {options.threads} thread(s)")
    for name, value in figures.items():
        print(f"  {name:36} {value:.4g}")


if __name__ == "__main__":
    main(sys.argv[1:])
