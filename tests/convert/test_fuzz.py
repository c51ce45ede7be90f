"""Random files: whatever they hold, the import gives a network or a sentence, and runs nothing.

While a file is read, Python's own audit events are watched: no import, no exec, no process, no file.
"""

import contextlib
import functools
import io
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ehmfaces.convert.checkpoint import build, convert
from ehmfaces.errors import ModelError
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from tests.convert.foreign_files import EasyDict, as_persistent, dumps, tensorflow_network, torch_bytes

FORBIDDEN = (
    "import",
    "exec",
    "compile",
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "pickle.",
    "ctypes.",
    "shutil.",
)
watching = []


@functools.cache
def watch_audit_events():
    """Install the watch once; an audit hook cannot be taken away again."""

    def hook(event, args):
        if watching and event.startswith(FORBIDDEN):
            watching.append(event)

    sys.addaudithook(hook)


def survives(data):
    """Read a file of any content; return whether a network came out."""
    watch_audit_events()
    watching.append("")
    try:
        conversion = convert(memoryview(data), "bad.pkl", "G_ema")
        build(conversion, len(data), "bad.pkl")
    except ModelError as error:
        text = str(error)
        assert text.isprintable()
        assert "bad.pkl" in text
        assert len(text) < 600
        return False
    finally:
        seen = [event for event in watching if event]
        watching.clear()
    assert not seen, seen
    return True


def tiny_generator():
    torch.manual_seed(0)
    return StyleGAN2Generator(
        z_dim=2,
        w_dim=2,
        img_resolution=8,
        mapping_kwargs={"num_layers": 1},
        synthesis_kwargs={"channel_base": 8, "channel_max": 2},
    )


@functools.cache
def seeds():
    """Return small files of every kind."""
    tree = {"G_ema": as_persistent(tiny_generator()), "training_set_kwargs": EasyDict(path="x")}
    files = [dumps(tree, protocol) for protocol in (2, 3, 4, 5)]
    network = tensorflow_network({"dlatent_avg": np.ones(2, np.float32)}, {"resolution": 8})
    files.append(dumps((network, network, network), 3))
    state = {"style.1.weight": torch.ones(2, 2), "input.input": torch.ones(1, 2, 4, 4)}
    files += [torch_bytes({"g_ema": state}, legacy) for legacy in (False, True)]
    arrays = [np.arange(4).reshape(2, 2).T, np.float16(2), np.ones(2, ">f8"), {1}, b"abc", 2**70]
    files += [pickle.dumps(arrays, protocol) for protocol in (2, 5)]
    return files


edits = st.lists(
    st.tuples(
        st.integers(0, 2**20),
        st.sampled_from(["set", "flip", "cut", "insert", "copy"]),
        st.integers(0, 255),
        st.integers(0, 2**20),
    ),
    min_size=1,
    max_size=6,
)


def edited(data, changes):
    """Return a file after edits of (place, kind, byte, other place)."""
    data = bytearray(data)
    for place, kind, byte, other in changes:
        if not data:
            break
        at, there = place % len(data), other % len(data)
        if kind == "set":
            data[at] = byte
        elif kind == "flip":
            data[at] ^= 1 << byte % 8
        elif kind == "cut":
            del data[at : at + 1 + byte % 16]
        elif kind == "insert":
            data[at:at] = bytes([byte])
        else:
            data[at : at + 8] = data[there : there + 8]
    return bytes(data)


NAMES = [
    "collections OrderedDict",
    "dnnlib.util EasyDict",
    "argparse Namespace",
    "dnnlib.tflib.network Network",
    "torch_utils.persistence _reconstruct_persistent_obj",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch.storage _load_from_bytes",
    "torch float32",
    "torch FloatStorage",
    "torch Size",
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "numpy.core.numeric _frombuffer",
    "numpy ndarray",
    "numpy dtype",
    "builtins set",
    "_codecs encode",
    "posix system",
    "builtins eval",
]
TEXTS = ["G_ema", "class_name", "state", "_modules", "_buffers", "f4", "latin1", "O8", "storage", "C"]
tokens = st.one_of(
    st.sampled_from([bytes([code]) for code in b"N\x88\x89]}\x8f)\x85\x86\x87(taesu\x90\x9101\x94R\x81bQ."]),
    st.sampled_from(NAMES).map(lambda name: b"c" + name.replace(" ", "\n").encode() + b"\n"),
    st.sampled_from(TEXTS).map(lambda text: b"X" + struct.pack("<I", len(text)) + text.encode()),
    st.integers(0, 255).map(lambda number: b"K" + bytes([number])),
    st.integers(-(2**63), 2**63 - 1).map(
        lambda number: b"\x8a\x08" + number.to_bytes(8, "little", signed=True)
    ),
    st.integers(0, 5).map(lambda place: b"q" + bytes([place])),
    st.integers(0, 5).map(lambda place: b"h" + bytes([place])),
    st.binary(max_size=12).map(lambda data: b"C" + bytes([len(data)]) + data),
    st.floats().map(lambda number: b"G" + struct.pack(">d", number)),
    st.integers(0, 255).map(lambda code: bytes([code])),
)
programs = st.lists(tokens, max_size=40).map(lambda parts: b"\x80\x04" + b"".join(parts) + b".")

quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
long = settings(max_examples=30_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@quick
@given(st.integers(0, 8), edits)
@example(0, [(0, "insert", 0x80, 0)])
def test_edited_files(which, changes):
    survives(edited(seeds()[which], changes))


@quick
@given(programs)
@example(b"\x80\x04N.")
@example(b"\x80\x04c\x1b[2J\nsystem\n.")  # a name that would clear the terminal
def test_programs(program):
    survives(program)


@quick
@given(programs)
def test_programs_in_archives(program):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/data/0", b"\0" * 8)
    survives(file.getvalue())


@pytest.mark.slow
@long
@given(st.integers(0, 8), edits)
def test_many_edited_files(which, changes):
    survives(edited(seeds()[which], changes))


@pytest.mark.slow
@long
@given(programs)
def test_many_programs(program):
    survives(program)


def test_the_seeds_themselves_are_read():
    assert [survives(data) for data in seeds()] == [True] * 4 + [False] * 5


def test_the_watch_sees_what_it_should():
    watch_audit_events()
    watching.append("")
    with contextlib.suppress(Exception):
        exec("1")
    seen = set(watching)
    watching.clear()
    assert "exec" in seen
