"""`ehmfaces bench`: portraits a second on this machine, part by part."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click

from ehmfaces.cli.options import model_options, synthesis_options


@click.command()
@click.option("--count", type=click.IntRange(1), default=64, show_default=True, help="Portraits to make.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Threads.")
@model_options
@synthesis_options
def bench(
    count: int,
    workers: int,
    model: str | None,
    device: str | None,
    engine: str | None,
    precision: str | None,
) -> None:
    """Measure generate, cut out, frame and encode: first each alone, then all of them together."""
    import torch

    from ehmfaces.cutout.base import cut_out
    from ehmfaces.facepack.plan import FacepackSettings
    from ehmfaces.facepack.render import renderer_for
    from ehmfaces.hub import load_pipeline
    from ehmfaces.portrait.compose import compose_portrait
    from ehmfaces.synthesis.choice import machine_name

    torch.set_num_threads(1)
    pipeline = load_pipeline(model, device, engine, precision, click.echo)
    click.echo(f"engine     {pipeline.engine_choice}, {machine_name(pipeline.device)}")
    renderer = renderer_for(pipeline, FacepackSettings())
    renderer.render(0)
    images = _timed("generate", count, lambda seed: pipeline([seed]).images[0], range(count))
    color = pipeline.background_color
    cut = _timed("cut out", count, lambda image: cut_out(image, renderer.cutout, color), images)
    framed = _timed("frame", count, lambda rgba: compose_portrait(rgba, renderer.portrait_format, None), cut)
    sizes = [len(png) for png in _timed("encode", count, lambda image: renderer.encode(image, 0), framed)]
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(renderer.render, range(count)))
    rate = count / (time.perf_counter() - started)
    click.echo(f"together   {rate:8.1f} a second, {workers} threads, {sum(sizes) / count / 1000:.0f} KB each")


def _timed(name: str, count: int, job: Callable[[Any], Any], items: Any) -> list[Any]:
    """Run a part over all items on one thread and print its milliseconds."""
    started = time.perf_counter()
    results = [job(item) for item in items]
    click.echo(f"{name:10} {1000 * (time.perf_counter() - started) / count:8.1f} ms each, one thread")
    return results
