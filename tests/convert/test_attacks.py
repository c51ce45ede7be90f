"""Files that try to run code, to take memory or to take time: each is refused with a sentence.

Every attack carries a sentinel: `subprocess.run(["touch", SENTINEL])` or the like. None may ever appear, and
no attack may import a module.
"""

import collections
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch

from ehmfaces.convert.checkpoint import import_checkpoint
from ehmfaces.convert.torch_file import LEGACY_MAGIC, load_storage, read_torch_file
from ehmfaces.convert.unpickler import MAX_OPCODES, Budget, Unpickler, budget_for
from ehmfaces.convert.vocabulary import network_file
from ehmfaces.errors import ModelError, UnsafePickleError
from tests.convert.foreign_files import Persistent, dumps, foreign_names, torch_bytes

SYSTEM = os.system  # the pickles name the true function; what the tests replace is what would be called
P2 = b"\x80\x02"
P4 = b"\x80\x04"


def load(data):
    data = bytes(data)
    return Unpickler(memoryview(data), network_file(load_storage), "bad.pkl", budget_for(len(data))).load()


def short(text):
    return b"\x8c" + bytes([len(text)]) + text


def stack_global(module, name):
    return short(module) + short(name) + b"\x93"


def blob(data):
    return b"B" + struct.pack("<I", len(data)) + data


def tensor_of(storage):
    """A pickle whose only tensor nests `storage`."""
    return (
        P2 + b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"ctorch.storage\n_load_from_bytes\n" + blob(storage)
        + b"\x85RK\x00K\x01\x85K\x01\x85\x89}tR."
    )  # fmt: skip


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    """A path that no attack may create; checked after the test."""
    path = tmp_path / "sentinel"

    def alarm(*args, **kwargs):
        raise AssertionError(f"something was run: {args}")

    for target in (os, subprocess):
        for name in ("system", "popen", "run", "Popen", "abort"):
            if hasattr(target, name):
                monkeypatch.setattr(target, name, alarm)
    modules = set(sys.modules)
    yield path
    assert not path.exists()
    assert not {"antigravity", "this", "turtledemo"} & (set(sys.modules) - modules)


def command(path):
    return b"X" + struct.pack("<I", len(str(path)) + 6) + f"touch {path}".encode()


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return SYSTEM, (f"touch {self.path}",)


def refused(data, sentence=None, error=UnsafePickleError):
    with pytest.raises(error, match=sentence) as caught:
        load(data)
    text = str(caught.value)
    assert text.startswith("bad.pkl, byte ")
    assert text.endswith(".")
    assert len(text) < 400
    return text


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_call_of_a_foreign_name(protocol, sentinel):
    data = pickle.dumps({"G_ema": Runs(sentinel)}, protocol)
    assert re.search(r"found the name (posix|nt)\.system", refused(data))


@pytest.mark.parametrize(
    "name",
    [
        (b"os", b"system"),
        (b"posix", b"system"),
        (b"builtins", b"eval"),
        (b"builtins", b"getattr"),
        (b"builtins", b"setattr"),
        (b"__builtin__", b"exec"),
        (b"subprocess", b"Popen"),
        (b"torch", b"load"),
        (b"torch.hub", b"load"),
        (b"torch._utils", b"_rebuild_qtensor"),
        (b"torch.storage", b"_load_from_bytes.__globals__"),
        (b"torch_utils.persistence", b"_src_to_module"),
        (b"torch.serialization", b"_load"),
        (b"numpy", b"load"),
        (b"numpy.core.multiarray", b"fromfile"),
        (b"collections", b"OrderedDict.fromkeys"),
        (b"copyreg", b"_reconstructor"),
        (b"functools", b"partial"),
        (b"antigravity", b"geohash"),
        (b"pathlib", b"Path"),
    ],
)
def test_no_name_beside_the_list(name, sentinel):
    for opcodes in (b"c" + b"\n".join(name) + b"\n", stack_global(*name)):
        assert ".".join(part.decode() for part in name) in refused(P4 + opcodes + b".", "found the name")


@pytest.mark.parametrize(
    ("opcodes", "sentence"),
    [
        (b"(X\x02\x00\x00\x00lsios\nsystem\n.", "INST"),
        (b"(cos\nsystem\n.", "os.system"),
        (b"(]]o.", "OBJ"),
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b")}\x92.", "NEWOBJ_EX"),
        (b"Pos.system\n.", "PERSID"),
        (b"X\x01\x00\x00\x00aQ.", "persistent id"),
        (b"\x97.", "NEXT_BUFFER opcode"),
        (b"]\x98.", "READONLY_BUFFER"),
        (b"]2.", "DUP"),
        (b"I1\n.", "protocol 0"),
        (b"S'a'\n.", "protocol 0"),
        (b"\x80\x04N.", "second PROTO"),
        (b"\xff.", "unknown opcode 0xff"),
        (b"])R.", "a call of a list"),
        (b"X\x01\x00\x00\x00a)R.", "a call of a str"),
        (b"ccollections\nOrderedDict\n]R.", "without a tuple"),
        (b"cnumpy\nndarray\n)R.", "a call of numpy.ndarray"),
        (b"cnumpy\nndarray\n)\x81.", "a call of numpy.ndarray"),
        (b"c_codecs\nencode\n)\x81.", "a call of _codecs.encode"),
        (b"ccollections\nOrderedDict\n}b.", "a BUILD on the name collections.OrderedDict"),
        (b"ctorch.storage\n_load_from_bytes\n}X\x01\x00\x00\x00aK\x01sb.", "a BUILD on the name"),
        (b"]}b.", "a BUILD on list"),
        (b"K\x01}b.", "a BUILD on int"),
        (b"ccollections\nOrderedDict\nK\x01K\x02s.", "keys on a the name|keys on"),
        (b"}]K\x02s.", "a list as a key"),
        (b"}))K\x02s.", "keys on a tuple|a tuple as a key"),
        (b"})K\x02s.", "a tuple as a key"),
        (b"\x8f(]\x90.", "a list as a key"),
        (b"(]\x91.", "a list as a key"),
        (b"}K\x01a.", "an append on a dict"),
        (b"]K\x01K\x02s.", "keys on a list"),
        (b"K\x01K\x02\x93.", "a name that is no text"),
        (b"c" + b"a" * 300 + b"\nb\n.", "more than 256 bytes"),
        (b"\x8a\xff" + b"\x01" * 255 + b".", "a whole number of 255 bytes"),
        (b"\x8b\xff\xff\xff\x7f.", "a whole number of 2,147,483,647 bytes"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00utf8\x86R.", "another encoding"),
        (b"c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1\x86R.", "no bytes"),
        (b"cbuiltins\nset\nK\x05\x85R.", "a set made of"),
        (b"ccollections\nOrderedDict\nK\x05\x85R.", "a dict made of"),
        (b"ccollections\nOrderedDict\n]K\x05a\x85R.", "a dict made of"),
        (b"cbuiltins\nbytes\nK\x05\x85R.", "bytes made of"),
        (b"cargparse\nNamespace\nK\x05\x85R.", "with arguments"),
        (b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}\x85R.", "without a class name"),
        (b"ctorch\nSize\nK\x05\x85R.", "no tuple"),
        (b"ctorch\ndevice\n)R.", "without a name"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "wrong number of arguments"),
        (b"ctorch._utils\n_rebuild_tensor\n(NNNNtR.", "without a storage"),
        (b"ctorch._utils\n_rebuild_parameter\n(NNNtR.", "no tensor"),
        (b"ctorch.storage\n_load_from_bytes\nN\x85R.", "without bytes"),
        (b"cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "NumPy type 'O'"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "NumPy type 'O8'"),
        (b"cnumpy\ndtype\nX\x03\x00\x00\x00V16\x85R.", "NumPy type 'V16'"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00U9\x85R.", "NumPy type 'U9'"),
        (b"cnumpy\ndtype\nX\x03\x00\x00\x00c16\x85R.", "NumPy type 'c16'"),
        (b"cnumpy\ndtype\n]\x85R.", "without a name"),
        (b"cnumpy\ndtype\n)R.", "wrong number"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R}b.", "with fields"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncos\nsystem\n.", "os.system"),
        (b"cnumpy.core.multiarray\n_reconstruct\nNNN\x87R.", "another class"),
        (b"cnumpy.core.multiarray\nscalar\n)R.", "without bytes"),
        (b"cnumpy.core.numeric\n_frombuffer\n)R.", "unknown order"),
    ],
)
def test_opcodes_that_no_checkpoint_needs(opcodes, sentence, sentinel):
    refused(P2 + opcodes, sentence)


def nested(pickled):
    """A legacy torch file whose object is `pickled` (without PROTO and STOP)."""
    start = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {"little_endian": True}))
    return start + P2 + pickled + b"." + pickle.dumps([], 2)


def archive(pickled, entries=(), **more):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("archive/data.pkl", pickled)
        for name, data in entries:
            target.writestr(name, data)
        for name, data in more.items():
            target.writestr(f"archive/{name}", data)
    return file.getvalue()


def test_storages_that_run_code(sentinel):
    run = b"cos\nsystem\n" + command(sentinel) + b"\x85R"
    for data in (
        nested(run),
        archive(P2 + run + b"."),
        torch_bytes(Runs(sentinel)),
        torch_bytes(Runs(sentinel), True),
    ):
        refused(tensor_of(data), "system")
    # The nested pickle may not even hold what the outer one may.
    inner = b"ctorch.storage\n_load_from_bytes\n" + blob(b"x") + b"\x85R"
    refused(tensor_of(nested(inner)), r"torch\.storage\._load_from_bytes")
    refused(tensor_of(nested(b"ccollections\nOrderedDict\n)R")), r"collections\.OrderedDict")
    # Magic number, version and keys are pickles too.
    for place in range(5):
        parts = [pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {"little_endian": True}, 1, [])]
        parts[place] = P2 + run + b"."
        data = b"".join(parts)
        if place == 0:
            refused(tensor_of(data), "nested bytes that are no storage")
        else:
            refused(tensor_of(data), r"os\.system")


def test_storages_of_another_kind(sentinel):
    refused(tensor_of(b"hello"), "nested bytes that are no storage")
    refused(tensor_of(nested(b"K\x01")), "hold a int where a storage belongs")

    def identity(*parts, name=b"ctorch\nFloatStorage\n"):
        start = b"(X\x07\x00\x00\x00storage" + name
        return nested(start + b"".join(parts) + b"tQ")

    key, cpu = b"X\x01\x00\x00\x000", b"X\x03\x00\x00\x00cpu"
    refused(tensor_of(identity(key, cpu, b"K\x01", name=b"cos\nsystem\n")), r"os\.system")
    refused(tensor_of(identity(key, cpu, b"K\x01", name=b"N")), "no storage")
    refused(tensor_of(identity(b"]", cpu, b"K\x01")), "without a key")
    refused(tensor_of(identity(key, cpu, b"N")), "without a key or a length")
    refused(tensor_of(identity(key, cpu, b"J\xff\xff\xff\xff")), "without a key or a length")
    refused(tensor_of(identity(key, cpu, b"K\x01K\x01")), "view of a storage")
    refused(tensor_of(nested(b"K\x01Q")), "no tuple")
    big = identity(key, cpu, b"\x8a\x06" + (2**44).to_bytes(6, "little"))
    with pytest.raises(ModelError, match="storages are not those"):
        load(tensor_of(big))
    for system in ({"little_endian": False}, {}, [1]):
        start = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, system))
        with pytest.raises(ModelError, match="little-endian machine"):
            load(tensor_of(start))
    with pytest.raises(ModelError, match=r"begin like a file of torch\.save"):
        load(tensor_of(pickle.dumps(LEGACY_MAGIC, 2) + pickle.dumps(1002, 2)))


def plain(value):
    """Opcodes of a whole number, True, or a tuple of them."""
    if isinstance(value, tuple):
        return b"(" + b"".join(map(plain, value)) + b"t"
    return b"\x88" if value is True else b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def legacy_storage(count, numbers=b"", stored=None):
    start = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {"little_endian": True}))
    key = b"X\x01\x00\x00\x000"
    length = b"\x8a\x08" + count.to_bytes(8, "little")
    identity = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + key + b"X\x06\x00\x00\x00cuda:0" + length + b"tQ"
    )
    stored = count if stored is None else stored
    return start + P2 + identity + b"." + pickle.dumps(["0"], 2) + stored.to_bytes(8, "little") + numbers


def test_lengths_that_are_not_there(sentinel):
    assert load(tensor_of(legacy_storage(1, struct.pack("<f", 2.5)))).read() == [2.5]  # from a GPU
    for count in (2, 2**31, 2**46):
        with pytest.raises(ModelError, match=r"announced, 4 bytes are left|no whole numbers"):
            load(tensor_of(legacy_storage(count, b"\0" * 4)))
    with pytest.raises(ModelError, match="is announced, but 2 follow"):
        load(tensor_of(legacy_storage(1, b"\0" * 4, stored=2)))
    for opcode, size in ((b"B", 4), (b"X", 4), (b"T", 4), (b"\x8d", 8), (b"\x8e", 8), (b"\x96", 8)):
        refused(P4 + opcode + b"\xff" * (size - 1) + b"\x7f", "bytes are announced", ModelError)
    refused(P4 + b"\x95" + b"\xff" * 8, "frame longer than the file", ModelError)
    refused(P4 + b"C\xffabc", "255 bytes are announced, 3 are left", ModelError)
    refused(P4 + b"h\x05.", "entry 5, which is not there", ModelError)
    refused(P4 + b"X\x01\x00\x00\x00\xff.", "no[t]? UTF-8", ModelError)


def test_shapes_that_do_not_fit(sentinel):
    storage = legacy_storage(4, b"\0" * 16)

    def tensor(*sizes):
        return (
            P2 + b"ctorch._utils\n_rebuild_tensor\n(ctorch.storage\n_load_from_bytes\n" + blob(storage)
            + b"\x85R" + b"".join(map(plain, sizes)) + b"tR."
        )  # fmt: skip

    assert load(tensor(1, (3,), (1,))).read().shape == (3,)
    assert load(tensor(4, (0, 9), (9, 1))).read().shape == (0, 9)
    for offset, shape, strides in (
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (2**40, 2**40), (0, 0)),
        (0, (8,), (0,)),
        (4, (1,), (1,)),
    ):
        refused(tensor(offset, shape, strides), "a tensor of shape .* in a storage of 4 numbers")
    for offset, shape, strides in (
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (1,), (-1,)),
        (0, (1, 1), (1,)),
        (True, (1,), (1,)),
    ):
        refused(tensor(offset, shape, strides), "no whole numbers")
    refused(tensor(0, (1,) * 40, (1,) * 40), "no whole numbers")


def test_arrays_that_do_not_fit(sentinel):
    for array in (
        np.array([Runs(sentinel)], object),
        np.array(["text"]),
        np.zeros(1, [("a", "f4")]),
        np.ones(1, complex),
    ):
        for protocol in (2, 3, 4, 5):
            with pytest.raises(UnsafePickleError):
                load(pickle.dumps(array, protocol))
    good = pickle.dumps(np.arange(3, dtype=np.float32), 3)
    refused(
        good.replace(struct.pack("<f", 2), struct.pack("<f", 2) + b"\0", 1).replace(b"C\x0c", b"C\x0d"),
        "with 13 bytes",
    )
    shell = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    refused(P4 + shell + b"}b.", "no tuple of five")
    refused(P4 + shell + b"(NNNNNtb.", "wrong kind")


@pytest.mark.parametrize("entries", [[("archive/data/0", b"\0" * 4)] * 2, [("archive/data.pkl", b"N.")]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_with_names_that_are_there_twice(entries, sentinel):
    data = archive(b"\x80\x02N.", entries)
    with pytest.raises(UnsafePickleError, match="there twice"):
        read_torch_file(memoryview(data), "bad.pt", budget_for(len(data)))


def broken_archive(sentence, data, error=ModelError):
    with pytest.raises(error, match=sentence) as caught:
        read_torch_file(memoryview(data), "bad.pt", budget_for(len(data)))
    assert str(caught.value).startswith("bad.pt, byte ")


def test_archives_that_are_broken(sentinel):
    good = torch_bytes({"a": torch.arange(4.0)})
    assert read_torch_file(memoryview(good), "good.pt", budget_for(len(good)))["a"].read().tolist() == [
        0,
        1,
        2,
        3,
    ]
    broken_archive("big|little", archive(b"\x80\x02N.", byteorder=b"big"))
    broken_archive("TorchScript", archive(b"\x80\x02N.", **{"constants.pkl": b""}))
    broken_archive("0 data.pkl", archive(b"").replace(b"data.pkl", b"data.pkx"))
    broken_archive("2 data.pkl", archive(b"\x80\x02N.", [("other/data.pkl", b"\x80\x02N.")]))
    broken_archive("cannot be read", good[: len(good) // 2])
    elsewhere = b"PK\x03\x04" + good[4:].replace(b"PK\x03\x04", b"PK\x03\x05")
    broken_archive("not where the directory says", elsewhere)
    pickled = zipfile.ZipFile(io.BytesIO(good)).read("archive/data.pkl")
    broken_archive("lacks 'data/0'", archive(pickled))
    broken_archive("16 bytes is announced, 12 are there", archive(pickled, [("archive/data/0", b"\0" * 12)]))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("archive/data.pkl", b"\x80\x02N.")
    broken_archive("compressed or encrypted", file.getvalue())
    bad = archive(b"\x80\x02cos\nsystem\n" + command(sentinel) + b"\x85R.")
    broken_archive(r"os\.system", bad, UnsafePickleError)


def test_a_key_never_becomes_a_path(sentinel):
    pickled = zipfile.ZipFile(io.BytesIO(torch_bytes(torch.ones(1)))).read("archive/data.pkl")
    evil = pickled.replace(b"X\x01\x00\x00\x000", b"X\x19\x00\x00\x00../../../../../etc/passwd")
    assert evil != pickled
    broken_archive(r"lacks 'data/\.\./\.\./", archive(evil))


def test_files_that_break_off_at_every_byte():
    with foreign_names():
        layer = Persistent("Layer", _buffers={"a": torch.ones(2)}, size=np.float32(2), shape=np.arange(3))
        files = [pickle.dumps({"G_ema": layer, "s": {1}}, protocol) for protocol in (2, 3, 4, 5)]
    for data in files:
        load(data)
        for end in range(len(data)):
            with pytest.raises(ModelError, match=r"^bad\.pkl, byte .*\.$"):
                load(data[:end])
    for legacy in (True, False):
        data = torch_bytes({"a": torch.ones(2)}, legacy)
        for end in range(len(data)):
            with pytest.raises(ModelError):
                read_torch_file(memoryview(data)[:end], "bad.pt", budget_for(end))


def timed_refusal(data, sentence, seconds=20):
    start = time.monotonic()
    refused(data, sentence)
    assert time.monotonic() - start < seconds


def test_bombs_are_stopped(sentinel):
    # The same bytes again and again, through every call that copies or reads.
    pay = b"X\x00\x00\x10\x00" + b"a" * 2**20 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R0"
    timed_refusal(P2 + pay + b"0" + again * 5000 + b"N.", "over and over")
    nest = blob(legacy_storage(2**16, b"\0" * 2**18)) + b"q\x00"
    timed_refusal(
        P2 + nest + b"0" + b"ctorch.storage\n_load_from_bytes\nh\x00\x85R0" * 2000 + b"N.", "over and over"
    )
    many = b"](" + b"K\x01" * 50_000 + b"eq\x000"
    timed_refusal(P2 + many + b"cbuiltins\nset\nh\x00\x85R0" * 1000 + b"N.", "over and over")
    timed_refusal(P2 + many + b"ctorch\nSize\nh\x00\x85R0" * 1000 + b"N.", "over and over")
    few = Unpickler(memoryview(P2 + b"]" * 101), {}, "bad.pkl", Budget(100, 0))
    with pytest.raises(UnsafePickleError, match=f"more than {MAX_OPCODES:,} steps"):
        few.load()
    assert budget_for(2**40).opcodes == MAX_OPCODES


def test_towers_neither_recurse_nor_multiply(sentinel):
    deep = 50_000
    assert load(P2 + b"]" * deep + b"a" * (deep - 1) + b".") is not None
    assert load(P2 + b")" + b"\x85" * deep + b".") is not None
    assert load(P2 + b"(" * deep + b"t" * deep + b".") is not None
    refused(P2 + b"}" + b")" + b"\x85" * deep + b"K\x01s.", "a tuple as a key")
    # Every level holds the one below twice: 2**400 leaves for whoever walks it.
    laughs = b")q\x00" + b"0h\x00h\x00\x86q\x00" * 400
    assert load(P2 + laughs + b".") is not None
    for opcodes in (
        b"}h\x00K\x01s.",
        b"cnumpy\ndtype\nh\x00\x85R.",
        b"\x8f(h\x00\x90.",
        b"h\x00h\x00R.",
        b"h\x00Q.",
    ):
        refused(P2 + laughs + b"0" + opcodes)
    cycle = b"]q\x00h\x00a."
    found = load(P2 + cycle)
    assert found[0] is found


def test_a_bomb_in_place_of_a_network(sentinel, tmp_path):
    laughs = b")q\x00" + b"0h\x00h\x00\x86q\x00" * 400
    path = tmp_path / "bomb.pkl"
    for start, end in ((b"", b""), (b"}X\x05\x00\x00\x00G_ema", b"s"), (b"]", b"a")):
        path.write_bytes(P2 + start + laughs + end + b".")
        with pytest.raises(ModelError, match=r"holds no G_ema"):
            import_checkpoint(path)


def test_attributes_are_never_set(sentinel):
    """BUILD fills our own records only: neither the vocabulary nor a class can be changed by a file."""
    before = {key: (name.text, name.call, name.new) for key, name in network_file(load_storage).items()}
    evil = {"__class__": 1, "build_state": 2, "kind": "other", "call": "os.system", "__reduce__": 3}
    network = load(dumps({"G_ema": Persistent("A", **evil)}))["G_ema"]
    assert network.kind == "persistent object"
    assert network.state == evil
    state = pickle.dumps((None, evil), 2)[2:-1]
    assert load(P2 + b"cargparse\nNamespace\n)\x81" + pickle.dumps(evil, 2)[2:-1] + b"b.").state == evil
    refused(P2 + b"cargparse\nNamespace\n)\x81" + state + b"b.", "a BUILD on PlainObject")
    after = {key: (name.text, name.call, name.new) for key, name in network_file(load_storage).items()}
    assert before.keys() == after.keys()


def test_what_honest_files_may_hold():
    content = collections.OrderedDict(a=torch.Size([2]), b=torch.device("cpu"), c=b"", d=bytearray(b"x"))
    content["numbers"] = torch.tensor([3, 2**16 - 1], dtype=torch.uint16)
    content["plain"] = [1, -1, 2**40, -(2**70), 0.5, "\u00e9", None, True, frozenset("a"), 2**15]
    tensor = torch.arange(6.0).reshape(2, 3).t()
    content["parameter"] = torch.nn.Parameter(tensor)
    content["parameter"].note = "kept by _rebuild_parameter_with_state"
    for protocol in (2, 3, 4, 5):
        found = load(pickle.dumps(content, protocol))
        assert found["a"] == (2,)
        assert found["b"] == "cpu"
        assert found["numbers"].read().tolist() == [3, 65535]
        assert found["plain"] == [1, -1, 2**40, -(2**70), 0.5, "\u00e9", None, True, {"a"}, 2**15]
        assert bytes(found["d"].data) == b"x"
        assert found["parameter"].read().tolist() == tensor.tolist()
    pairs = P2 + b"ccollections\nOrderedDict\n]]K\x01K\x02e0a\x85R."
    old = P2 + b"ccollections\nOrderedDict\n](](K\x01K\x02ee\x85R."
    assert load(old) == {1: 2}
    refused(pairs, "breaks off|found", ModelError)
    assert load(P2 + b"(K\x011U\x02ab.") == "ab"
    assert load(P2 + b"K\x05(0.") == 5
    assert load(P2 + b"(K\x01\x91.") == {1}
    for format_name in ("complex64", "qint8", "float8_e4m3fn"):
        refused(P2 + b"ctorch\n" + format_name.encode() + b"\n.", "found the name torch")
    number_format = b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNNcnumpy\ndtype\ntR."
    refused(P2 + number_format, r"a tensor of numpy\.dtype")
    refused(P2 + b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNNNtR.", "without a number format")


def test_the_source_text_of_a_layer_is_dropped():
    network = load(dumps(Persistent("Generator", _modules={})))
    assert "module_src" not in network.state
