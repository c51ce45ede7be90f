"""`ehmfaces train`: networks from data. The same command resumes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ehmfaces.cli.options import FILE, FOLDER


@click.group()
def train() -> None:
    """Train networks."""


@train.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder, ZIP, .npz or .npy of portraits."
)
@click.option(
    "--more-data", type=click.Path(path_type=Path), help="Further portraits, such as recombinations."
)
@click.option("--preset", default="portrait128", show_default=True, help="Row of the preset table.")
@click.option("--outdir", required=True, type=FOLDER, help="Results; the same folder resumes.")
@click.option("--warm-start", is_flag=True, help="Train as an auto-decoder on --data first.")
@click.option("--warm-start-from", type=FOLDER, help="Folder of a finished warm start on --data.")
@click.option("--resume", type=FILE, help="Checkpoint of another run to start from: growth, transfer.")
@click.option("--total-kimg", type=float, help="Thousands of pictures to show the discriminator.")
@click.option("--batch-size", type=click.IntRange(1), help="Pictures per step.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="With cuda whole steps are recorded and replayed; --resume takes a weights.safetensors.",
)
@click.option("--dry-run", is_flag=True, help="Print the options and stop.")
def gan(
    data: Path,
    more_data: Path | None,
    preset: str,
    outdir: Path,
    warm_start: bool,
    warm_start_from: Path | None,
    resume: Path | None,
    total_kimg: float | None,
    batch_size: int | None,
    threads: int | None,
    device: str,
    dry_run: bool,
) -> None:
    """Train a StyleGAN generator: OUTDIR/generator is the result so far, OUTDIR/samples.png its faces."""
    import json

    import torch

    from ehmfaces.training.config import get_preset
    from ehmfaces.training.gan_loop import train_gan
    from ehmfaces.training.warm_start import run_warm_start

    config = get_preset(preset, total_kimg=total_kimg, batch_size=batch_size)
    if dry_run:
        click.echo(json.dumps(config.to_dict(), indent=1))
        return
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    own = _load(data, config.resolution)
    if device == "cuda":
        from ehmfaces.training.graph_loop import check_gpu_run, train_gan_on_gpu

        check_gpu_run(config, warm_start or warm_start_from is not None)
        further = None if more_data is None else _load(more_data, config.resolution)
        train_gan_on_gpu(own, further, config, outdir, resume=resume, report=_print_line)
        return
    if warm_start:
        config.check_warm_start()
        warm_start_from = outdir / "warm-start"
        run_warm_start(own, config.network, config.warm_start, warm_start_from, report=_print_line)
    images = own if more_data is None else torch.cat([own, _load(more_data, config.resolution)])
    if warm_start_from is None:
        config = replace(config, reconstruction_weight=0.0, d_only_kimg=0.0, adversarial_ramp_kimg=0.0)
        config = replace(config, adversarial_weight=1.0)
    train_gan(images, config, outdir, resume, warm_start_from, _print_line)


def _load(path: Path, resolution: int) -> Any:
    """Return uint8 [N, 3, H, W]."""
    import torch

    from ehmfaces.data.datasets import load_dataset

    pixels = load_dataset(path, resolution=resolution).pixels
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _print_line(line: dict[str, float]) -> None:
    click.echo("  ".join(f"{key} {value:.4g}" for key, value in line.items()))


def _portraits(command: Any) -> Any:
    """Add the options that say which portraits a run goes on with."""
    command = click.option(
        "--more-data", type=click.Path(path_type=Path), help="Further portraits, such as recombinations."
    )(command)
    return click.option(
        "--data",
        required=True,
        type=click.Path(path_type=Path),
        help="The portraits of the warm start, in its order.",
    )(command)


def _run(command: Any) -> Any:
    """Add the options that say what such a run is and where it goes."""
    command = click.option("--outdir", required=True, type=FOLDER, help="Results; the same folder resumes.")(
        command
    )
    return click.option("--new-portraits", is_flag=True, help="--data are other portraits: a fine-tune.")(
        command
    )


class Stages(click.ParamType[tuple[tuple[int, float], ...]]):
    """Stages like "128:8,256:8": resolution in pixels and thousands of pictures shown there."""

    name = "px:kimg,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return ((resolution, kimg), ...)."""
        if not isinstance(value, str):
            return value
        try:
            pairs = tuple((int(size), float(kimg)) for size, kimg in (p.split(":") for p in value.split(",")))
        except ValueError:
            self.fail(f'"{value}" is no list of stages. Write them like 128:8,256:8.', param, ctx)
        if any(size not in (32, 64, 128, 256, 512) or kimg <= 0 for size, kimg in pairs):
            self.fail(f'"{value}": sides are powers of two, 32 to 512; lengths are above 0.', param, ctx)
        if list(pairs) != sorted(pairs, key=lambda pair: pair[0]):
            self.fail(f'"{value}": a stage cannot be smaller than the one before.', param, ctx)
        return pairs


@train.command()
@_portraits
@click.option(
    "--warm-start-from",
    required=True,
    type=FOLDER,
    help="A finished warm start, or another run's OUTDIR/owned.",
)
@_run
@click.option(
    "--stages", type=Stages(), help="Resolutions and thousands of pictures.  [default: 128:8,256:8]"
)
@click.option("--batch-size", type=click.IntRange(2), help="Pictures per step, an even number.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
@click.option(
    "--compile/--no-compile", "compiled", default=None, help="Default: when there is a C++ compiler."
)
@click.option(
    "--half/--no-half",
    default=None,
    help="Compute in bfloat16.  Default: when the processor has matrix units for it (AMX).",
)
@click.option(
    "--lr",
    "g_lr",
    type=click.FloatRange(0, min_open=True),
    help="The generator's rate; half of it for what is good already.  [default: 0.003]",
)
@click.option(
    "--decay-share",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the run, at its end, in which all rates fall.  [default: a third]",
)
@click.option(
    "--spread", type=click.FloatRange(0, min_open=True), help="How far apart people are.  [default: 0.92]"
)
def detail(
    data: Path,
    more_data: Path | None,
    warm_start_from: Path,
    new_portraits: bool,
    outdir: Path,
    stages: tuple[tuple[int, float], ...] | None,
    batch_size: int | None,
    threads: int | None,
    compiled: bool | None,
    half: bool | None,
    **rates: float | None,
) -> None:
    """Sharpen a warm start: OUTDIR/generator is the result, OUTDIR/owned what directions are fitted to."""
    import shutil

    import torch

    from ehmfaces.tensors import has_matrix_units
    from ehmfaces.training.detail_loop import DetailConfig, run_detail

    if compiled is None:
        compiled = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    if half is None:
        half = has_matrix_units()
    options: dict[str, Any] = {"stages": stages, "batch_size": batch_size, "compiled": compiled, "half": half}
    options |= rates
    config = DetailConfig(**{key: value for key, value in options.items() if value is not None})
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    size = config.stages[-1][0]
    own = _load(data, size)
    further = own[:0] if more_data is None else _load(more_data, size)
    run_detail(own, further, warm_start_from, config, outdir, new_portraits, report=_print_line)


@train.command()
@_portraits
@click.option(
    "--warm-start-from",
    required=True,
    type=FOLDER,
    help="OUTDIR/owned of train detail or train refine, or a finished warm start.",
)
@_run
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cuda", show_default=True)
@click.option(
    "--resolution", type=click.IntRange(16, 1024), help="Side of the pictures, pixels.  [default: 256]"
)
@click.option(
    "--kimg",
    type=click.FloatRange(0, min_open=True),
    help="Thousands of pictures.  [default: 800, on cpu 16]",
)
@click.option("--batch-size", type=click.IntRange(2), help="Pictures per step.  [default: 64, on cpu 8]")
@click.option(
    "--lr",
    "g_lr",
    type=click.FloatRange(0, min_open=True),
    help="The generator's rate.  [default: 0.002, on cpu 0.0006]",
)
@click.option(
    "--spread", type=click.FloatRange(0, min_open=True), help="How far apart people are.  [default: 0.93]"
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the networks: a minute, then faster.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
def refine(
    data: Path,
    more_data: Path | None,
    warm_start_from: Path,
    new_portraits: bool,
    outdir: Path,
    device: str,
    threads: int | None,
    **given: Any,
) -> None:
    """Refine what train detail made, best on a GPU: OUTDIR/generator is the result, OUTDIR/owned its ws."""
    import torch

    from ehmfaces.tensors import has_matrix_units
    from ehmfaces.training.refine_loop import FOR_PROCESSORS, RefineConfig, run_refining

    on_cpu = {**FOR_PROCESSORS, "half": has_matrix_units()} if device == "cpu" else {}
    options = {key: value for key, value in given.items() if value is not None}
    config = RefineConfig(**{**on_cpu, **options})
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    own = _load(data, config.resolution)
    further = own[:0] if more_data is None else _load(more_data, config.resolution)
    run_refining(own, further, warm_start_from, config, outdir, device, new_portraits, report=_print_line)


@train.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder or ZIP of generated pictures, with a mark for each as its label in dataset.json: "
    "0 = no flaw, 1 = a doubtful one, 2 = a visible one.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--resolution", type=click.IntRange(16, 1024), default=256, show_default=True)
def flaws(data: Path, out: Path, resolution: int) -> None:
    """Learn from marked pictures how flawed portraits look."""
    import torch

    from ehmfaces.data.datasets import load_dataset
    from ehmfaces.metrics.features import LiteFeatures
    from ehmfaces.training.flaws import fit_flaws, read_marks, save_flaws, see_places

    pictures = load_dataset(data, resolution=resolution, use_labels=True)
    marks = read_marks(pictures.labels)
    img = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2)
    features = LiteFeatures()
    seen = torch.cat([see_places(features, some.float() / 127.5 - 1) for some in img.split(4)])
    weight, bias, right_order = fit_flaws(seen, marks)
    save_flaws(weight, bias, out)
    _print_line({"marks": len(marks), "right_order_on_unseen": right_order})


@train.command()
@click.option("--warm-start-from", required=True, type=FOLDER, help="OUTDIR/owned of train refine.")
@click.option("--outdir", required=True, type=FOLDER, help="Results; the same folder resumes.")
@click.option(
    "--kimg",
    type=click.FloatRange(0, min_open=True),
    default=24.0,
    show_default=True,
    help="Thousands of pictures to judge.",
)
@click.option("--flaws", type=FILE, help="Of train flaws.  [default: flaws.safetensors of the warm start]")
@click.option(
    "--labels",
    type=FILE,
    help="As for train directions, which are then fitted as well; what they change stays as it is where "
    "faces are made more believable.",
)
@click.option(
    "--tries",
    type=click.IntRange(2, 24),
    default=24,
    show_default=True,
    help="How many groups of people a seed names; the first that is believable enough is taken.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
def realism(
    warm_start_from: Path,
    outdir: Path,
    kimg: float,
    flaws: Path | None,
    labels: Path | None,
    tries: int,
    device: str,
    threads: int | None,
) -> None:
    """Teach a generator which of the faces it could draw are believable: OUTDIR/generator is the result."""
    import torch

    from ehmfaces.data.labels import read_face_labels
    from ehmfaces.model_folder import save_directions
    from ehmfaces.training.directions import fit_and_test
    from ehmfaces.training.flaws import FLAWS
    from ehmfaces.training.realism import run_realism

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    fitted = fit_and_test(warm_start_from, read_face_labels(labels))[0] if labels else None
    run_realism(
        warm_start_from,
        outdir,
        flaws or warm_start_from / FLAWS,
        None if fitted is None else fitted.scores,
        round(1000 * kimg),
        tries,
        device,
        _print_line,
    )
    if fitted is not None:
        save_directions(fitted, outdir / "generator")


@train.command()
@click.option("--data", required=True, type=FOLDER, help="Folder of portraits with alpha.")
@click.option("--outdir", required=True, type=FOLDER, help="Results; the same folder resumes.")
@click.option(
    "--generated",
    type=FOLDER,
    help="A generator and the ws of DATA (OUTDIR/owned of train detail): its pictures are learned as well.",
)
@click.option("--generated-share", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--start-from", type=FOLDER, help="Cut-out network to go on from instead of random weights.")
@click.option("--steps", type=click.IntRange(1), help="[default: 1600, with --start-from 400]")
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), help="[default: 0.004, with --start-from 0.0008]"
)
@click.option("--batch-size", type=click.IntRange(1), default=12, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
def cutout(
    data: Path,
    outdir: Path,
    generated: Path | None,
    generated_share: float,
    start_from: Path | None,
    steps: int | None,
    lr: float | None,
    batch_size: int,
    threads: int | None,
) -> None:
    """Train the cut-out network: OUTDIR/network is the result. Ends with figures on held-out people."""
    import torch

    from ehmfaces.cutout.deeplab_backend import DeepLabBackend
    from ehmfaces.training.cutout_loop import (
        CutoutTrainingConfig,
        evaluate_cutout,
        evaluate_generated,
        train_cutout,
    )

    if threads:
        torch.set_num_threads(threads)
    usual_steps, usual_lr = (1600, 0.004) if start_from is None else (400, 0.0008)
    config = CutoutTrainingConfig(
        steps=steps or usual_steps,
        lr=lr or usual_lr,
        batch_size=batch_size,
        generated_share=generated_share,
    )
    train_cutout(data, outdir, config, None, _print_line, generated, start_from)
    backends = {"trained": DeepLabBackend(outdir / "network")}
    if generated is not None:
        backends["embedded, to compare"] = DeepLabBackend()
    for name, backend in backends.items():
        click.echo(f"{name}:")
        _print_line(evaluate_cutout(backend, data))
        if generated is not None:
            _print_line(evaluate_generated(backend, data, generated))


@train.command()
@click.option("--warm-start-from", required=True, type=FOLDER, help="Folder of the finished warm start.")
@click.option(
    "--labels", required=True, type=FILE, help="CSV with id, sex, age, expression, skin_ita_deg, hair_L."
)
@click.option("--out", required=True, type=FOLDER, help="Model folder; directions.safetensors goes there.")
def directions(warm_start_from: Path, labels: Path, out: Path) -> None:
    """Fit directions for sex, age, smile, skin and hair to the owned ws of a warm start.

    The warm start's portraits must be those of LABELS, sorted by id, then their mirror images.
    """
    from ehmfaces.data.labels import read_face_labels
    from ehmfaces.model_folder import save_directions
    from ehmfaces.training.directions import fit_and_test

    fitted, figures = fit_and_test(warm_start_from, read_face_labels(labels))
    save_directions(fitted, out)
    _print_line(figures)
