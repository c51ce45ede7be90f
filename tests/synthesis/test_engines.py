"""Engines give the picture of eager float32, say what they are, and refuse what a machine cannot do."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ehmfaces.cli import main
from ehmfaces.errors import InputError, MissingExtraError, ModelError, UnsupportedModelError
from ehmfaces.models.stylegan3 import StyleGAN3Generator
from ehmfaces.pipeline import FacePipeline
from ehmfaces.synthesis import choice as choices
from ehmfaces.synthesis import onnx_graph, selection
from ehmfaces.synthesis.choice import EngineChoice, check_choice, choice_of, has_bfloat16
from ehmfaces.synthesis.engines import TorchSynthesizer, build_synthesizer, cached_graph
from ehmfaces.synthesis.half import HalfSynthesis

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EHMFACES_CACHE", str(folder))
        patch.delenv("EHMFACES_ENGINE", raising=False)
        patch.delenv("EHMFACES_PRECISION", raising=False)
        yield folder


@pytest.fixture
def pipeline(tiny_pipeline):
    yield tiny_pipeline
    tiny_pipeline.use_engine("torch", "float32")


def need(*modules):
    for name in modules:
        pytest.importorskip(name)


def img_of(pipeline, ws):
    with torch.inference_mode():
        return pipeline.generator.synthesis(torch.from_numpy(ws), "const").numpy()


def test_names_come_from_arguments_then_variables_then_the_default(monkeypatch):
    assert choice_of() == EngineChoice("torch", "float32")
    monkeypatch.setenv("EHMFACES_ENGINE", "onnx")
    assert choice_of().engine == "onnx"
    assert choice_of("compile", "bfloat16") == EngineChoice("compile", "bfloat16")
    with pytest.raises(InputError, match=r'Unknown engine "steam"\. Known: auto, torch'):
        choice_of("steam")
    with pytest.raises(InputError, match='Unknown precision "int8"'):
        choice_of("torch", "int8")


def test_refusals_say_why(monkeypatch):
    with pytest.raises(InputError, match="float16 is for GPUs"):
        check_choice(EngineChoice("torch", "float16"), CPU)
    need("onnx", "onnxscript", "onnxruntime")
    with pytest.raises(InputError, match='"onnx" computes in float32'):
        check_choice(EngineChoice("onnx", "bfloat16"), CPU)
    with pytest.raises(InputError, match="runs on the processor, not on cuda"):
        check_choice(EngineChoice("onnx"), torch.device("cuda"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ModelError, match="needs a C\\+\\+ compiler and none was found"):
        check_choice(EngineChoice("compile"), CPU)
    monkeypatch.setitem(choices.NEEDS, "openvino", (("no_such_package",), "openvino"))
    with pytest.raises(MissingExtraError, match=r"ehmfaces\[openvino\]"):
        check_choice(EngineChoice("openvino"), CPU)


def test_bfloat16_only_where_the_processor_has_it(pipeline):
    if has_bfloat16(CPU):
        image = pipeline([1]).images[0]
        rough = pipeline.use_engine("torch", "bfloat16")([1]).images[0]
        assert np.abs(np.asarray(image).astype(int) - np.asarray(rough)).max() < 16
    else:
        with pytest.raises(InputError, match="has no instructions for it"):
            pipeline.use_engine("torch", "bfloat16")
        with pytest.raises(InputError, match="has no instructions for it"):
            pipeline.use_engine("auto", "bfloat16")
    assert EngineChoice("torch", "bfloat16") not in selection.available_choices("float32", CPU)


def test_bfloat16_is_near_float32_in_its_sums(tiny_pipeline):
    ws = tiny_pipeline.prepare_latents([1, 2])
    rough = TorchSynthesizer(tiny_pipeline.generator, EngineChoice("torch", "bfloat16"))
    expected = img_of(tiny_pipeline, ws)
    assert 0 < np.abs(rough(ws, "const") - expected).max() < 0.05 * np.abs(expected).max()


def test_half_precision_means_what_it_means_in_public_networks(tiny_pipeline):
    ws = tiny_pipeline.prepare_latents([1, 2])
    expected = img_of(tiny_pipeline, ws)
    exact = HalfSynthesis(tiny_pipeline.generator.synthesis, dtype=torch.float32)
    half = HalfSynthesis(tiny_pipeline.generator.synthesis, num_fp16_res=2)
    with torch.inference_mode():
        assert np.abs(exact(torch.from_numpy(ws)).numpy() - expected).max() < 1e-4
        rough = half(torch.from_numpy(ws)).numpy()
    assert 0 < np.abs(rough - expected).max() < 0.02 * np.abs(expected).max()
    with pytest.raises(UnsupportedModelError, match="StyleGAN2 only"):
        HalfSynthesis(torch.nn.Identity())


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_graph_engines_give_the_same_picture(pipeline, cache, engine):
    need("onnx", "onnxscript", "onnxruntime", engine.replace("onnx", "onnxruntime"))
    ws = pipeline.prepare_latents([1, 2, 3])
    synthesizer = build_synthesizer(pipeline.generator, EngineChoice(engine), pipeline.model_hash)
    expected = img_of(pipeline, ws)
    assert np.abs(synthesizer(ws, "const") - expected).max() < 1e-4
    with ThreadPoolExecutor(3) as pool:
        rows = list(pool.map(lambda row: synthesizer(row[None], "const"), ws))
    assert np.abs(np.concatenate(rows) - expected).max() < 1e-4
    assert len(list((cache / "graphs").glob(f"{pipeline.model_hash}-const-*.onnx"))) == 1
    image, drawn = pipeline([4]).images[0], pipeline([4], noise_mode="random").images[0]
    pipeline.use_engine(engine)
    assert pipeline.engine_choice == EngineChoice(engine)
    difference = np.asarray(image).astype(int) - np.asarray(pipeline([4]).images[0])
    assert np.abs(difference).max() <= 1
    assert pipeline([4], noise_mode="random").images[0] == drawn  # always the reference


def test_a_graph_holds_facts_and_nothing_of_the_machine(pipeline, cache):
    need("onnx", "onnxscript", "onnxruntime")
    import onnx

    data = cached_graph(pipeline.generator, pipeline.model_hash, "const")
    model = onnx.load_from_string(data)
    assert {each.key: each.value for each in model.metadata_props} == {
        "noise_mode": "const",
        "weights": "float32",
        "model_hash": pipeline.model_hash,
    }
    assert b".py" not in data
    assert [each.name for each in model.graph.input] == ["ws"]
    onnx_graph.halve_weights(model)
    smaller = model.SerializeToString()
    assert onnx_graph.check_graph(smaller, pipeline.generator, "w", "const", "float16").difference < 2e-2
    pipeline.generator.synthesis.b4.torgb.bias.data.add_(0.01)
    try:
        with pytest.raises(ModelError, match="differs from PyTorch by 1"):
            onnx_graph.check_graph(data, pipeline.generator, "w", "const")
    finally:
        pipeline.generator.synthesis.b4.torgb.bias.data.sub_(0.01)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"graph": "x"}, 'Unknown graph "x"'),
        ({"noise_mode": "random"}, "cannot be part of a graph"),
        ({"opset": 9}, "Opset 9 cannot be written. Use 18 to"),
        ({"precision": "int8"}, 'cannot be stored as "int8"'),
    ],
)
def test_export_settings_are_checked(tiny_pipeline, settings, sentence):
    need("onnx", "onnxscript")
    with pytest.raises(InputError, match=sentence):
        onnx_graph.build_graph(tiny_pipeline.generator, **settings)


@dataclasses.dataclass
class Clockwork:
    """An engine whose time is known."""

    choice: EngineChoice
    seconds: float
    calls: int = 0

    def __call__(self, ws, noise_mode):
        import time

        self.calls += 1
        time.sleep(self.seconds)


def test_engines_take_turns_and_the_reference_wins_a_near_tie():
    slow, fast = Clockwork(EngineChoice("torch"), 0.02), Clockwork(EngineChoice("onnx"), 0.001)
    figures = selection.measure([slow, fast], None, rounds=3)
    assert (slow.calls, fast.calls) == (4, 4)
    assert figures["torch"] > 15 > figures["onnx"]
    assert selection._best(figures) == "onnx"
    assert selection._best({"torch": 10.5, "onnx": 10.0}) == "torch"


def test_auto_measures_once_and_says_so(pipeline, cache):
    need("onnx", "onnxscript", "onnxruntime")
    said = []
    pipeline.use_engine("auto", say=said.append)
    first = pipeline.engine_choice
    pipeline.use_engine("auto", say=said.append)
    assert pipeline.engine_choice == first
    assert "measured now" in said[0]
    assert "measured before" in said[1]
    (kept,) = (cache / "engines").iterdir()
    assert set(json.loads(kept.read_text())) <= set(selection.CANDIDATES)
    kept.write_text("{")
    pipeline.use_engine("auto", say=said.append)
    assert "measured now" in said[2]


def test_placed_pictures_are_made_by_the_reference():
    need("onnx", "onnxscript", "onnxruntime")
    torch.manual_seed(0)
    generator = StyleGAN3Generator(
        z_dim=4, w_dim=8, img_resolution=16, channel_base=32, channel_max=4, num_layers=4
    )
    pipeline = FacePipeline(generator)
    turned = pipeline([1], rotation_deg=20).images[0]
    assert pipeline.use_engine("onnx")([1], rotation_deg=20).images[0] == turned


@pytest.mark.slow
@pytest.mark.parametrize("graph", onnx_graph.GRAPHS)
def test_every_graph_of_both_families(graph, tiny_pipeline):
    need("onnx", "onnxscript", "onnxruntime")
    torch.manual_seed(0)
    size = {"z_dim": 4, "w_dim": 8, "img_resolution": 16}
    rotating = StyleGAN3Generator(
        **size, c_dim=3, channel_base=32, channel_max=4, num_layers=3, conv_kernel=1, use_radial_filters=True
    )
    for generator in (tiny_pipeline.generator, rotating.eval().requires_grad_(False)):
        data = onnx_graph.build_graph(generator, graph, "none", 20)
        assert onnx_graph.check_graph(data, generator, graph, "none").difference < 1e-4


# the compiler of torch uses an old part of torch
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.slow
def test_compiled_pictures_are_the_same(pipeline):
    if not choices.has_compiler():
        pytest.skip("needs a C++ compiler")
    image = np.asarray(pipeline([5]).images[0]).astype(int)
    compiled = pipeline.use_engine("compile")([5]).images[0]
    assert np.abs(image - np.asarray(compiled)).max() <= 1


@pytest.mark.slow
def test_export_command_and_a_portrait_made_again_by_its_engine(tmp_path):
    need("onnx", "onnxscript", "onnxruntime")

    def run(*args):
        result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "differs from PyTorch by" in run("model", "export", "--onnx", tmp_path / "graphs", "--graph", "z")
    assert (tmp_path / "graphs" / "z.onnx").stat().st_size > 10e6
    run("generate", "--seeds", "3", "--out", tmp_path / "a", "--engine", "onnx")
    first = tmp_path / "a" / "seed0000000003.png"
    run("generate", "--from", first, "--out", tmp_path / "b")
    assert (tmp_path / "b" / first.name).read_bytes() == first.read_bytes()
    assert b'"engine": "onnx"' in first.read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize(("engine", "precision"), [("compile", "float32"), ("torch", "float16")])
def test_gpu_engines_are_near_the_reference(engine, precision, tiny_pipeline):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    pipeline = FacePipeline(tiny_pipeline.generator).to("cuda")
    try:
        image = np.asarray(pipeline([5]).images[0]).astype(int)
        for _ in range(3):  # a CUDA graph is recorded after a warm-up
            other = pipeline.use_engine(engine, precision)([5]).images[0]
        assert np.abs(image - np.asarray(other)).max() <= 6
    finally:
        pipeline.to("cpu")
