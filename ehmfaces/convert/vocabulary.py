"""The names that a checkpoint may hold, and the inert record that each of them becomes.

Owns the allow-lists: one for files that hold networks, one for torch's own containers. A name that is not
here does not exist for `unpickler`. Knows no opcodes and no architectures.
"""

from collections.abc import Callable
from typing import Any

from ehmfaces.convert.records import (
    STORAGE_FORMATS,
    TORCH_FORMATS,
    Blob,
    PlainObject,
    Storage,
    StoredArray,
    StoredTensor,
    make_array,
    make_number_format,
    make_tensor,
)
from ehmfaces.convert.unpickler import Build, Name, Unpickler

Vocabulary = dict[tuple[str, str], Name]

PERSISTENT = "persistent object"
TF_NETWORK = "TensorFlow network"


def _expect(right: bool, what: str) -> None:
    if not right:
        raise ValueError(what)


def _dict(args: tuple[Any, ...], reader: Unpickler) -> dict[Any, Any]:
    """OrderedDict() or OrderedDict([[key, value], ...]), and the like."""
    if not args:
        return {}
    _expect(len(args) == 1 and isinstance(args[0], list), "a dict made of something else than pairs")
    reader.spend(len(args[0]))
    pairs = {}
    for pair in args[0]:
        _expect(
            isinstance(pair, (tuple, list)) and len(pair) == 2, "a dict made of something else than pairs"
        )
        reader.check_plain(pair[0])
        pairs[pair[0]] = pair[1]
    return pairs


def _set(args: tuple[Any, ...], reader: Unpickler) -> set[Any]:
    members = args[0] if args else []
    _expect(len(args) <= 1 and isinstance(members, (list, tuple)), "a set made of something else than a list")
    reader.spend(len(members))
    for member in members:
        reader.check_plain(member)
    return set(members)


def _encoded(args: tuple[Any, ...], reader: Unpickler) -> Blob:
    """Bytes as protocol 2 writes them: a text and "latin1"."""
    fits = len(args) == 2 and isinstance(args[0], str) and args[1] in ("latin1", "latin-1")
    _expect(fits, "a text in another encoding than Latin-1")
    reader.spend(len(args[0]))
    try:
        return Blob(memoryview(args[0].encode("latin-1")), reader.base + reader.opcode_at)
    except UnicodeEncodeError:
        raise ValueError("bytes that are no bytes") from None


def _bytes(args: tuple[Any, ...], reader: Unpickler) -> Blob:
    if not args:
        return Blob(memoryview(b""), reader.base + reader.opcode_at)
    _expect(len(args) == 1 and isinstance(args[0], Blob), "bytes made of something else")
    blob: Blob = args[0]
    return blob


def _plain(kind: str) -> Build:
    def make(args: tuple[Any, ...], reader: Unpickler) -> PlainObject:
        _expect(not args, f"a {kind} with arguments")
        return PlainObject(kind)

    return make


def _persistent_object(args: tuple[Any, ...], reader: Unpickler) -> PlainObject:
    """An object with its own source code: the code is dropped, the attributes are kept."""
    meta = args[0] if len(args) == 1 else None
    fits = isinstance(meta, dict) and isinstance(meta.get("class_name"), str)
    _expect(fits, "a persistent object without a class name")
    assert isinstance(meta, dict)
    _expect(isinstance(meta.get("state"), dict), "a persistent object whose state is no dict")
    return PlainObject(PERSISTENT, meta["state"])


def _tensor_v1(args: tuple[Any, ...], reader: Unpickler) -> StoredTensor:
    _expect(len(args) == 4, "a tensor with the wrong number of arguments")
    return make_tensor(*args)


def _tensor_v2(args: tuple[Any, ...], reader: Unpickler) -> StoredTensor:
    _expect(len(args) in (6, 7), "a tensor with the wrong number of arguments")
    return make_tensor(*args[:4])


def _tensor_v3(args: tuple[Any, ...], reader: Unpickler) -> StoredTensor:
    _expect(len(args) in (7, 8) and isinstance(args[6], Name), "a tensor without a number format")
    module, _, torch_format = args[6].text.partition(".")
    _expect(module == "torch" and torch_format in TORCH_FORMATS, f"a tensor of {args[6].text}")
    return make_tensor(args[0], args[1], args[2], args[3], torch_format)


def _parameter(args: tuple[Any, ...], reader: Unpickler) -> StoredTensor:
    _expect(len(args) in (3, 4) and isinstance(args[0], StoredTensor), "a parameter that is no tensor")
    tensor: StoredTensor = args[0]
    return tensor


def _size(args: tuple[Any, ...], reader: Unpickler) -> tuple[Any, ...]:
    _expect(len(args) == 1 and isinstance(args[0], (tuple, list)), "a torch.Size that is no tuple")
    reader.spend(len(args[0]))
    return tuple(args[0])


def _device(args: tuple[Any, ...], reader: Unpickler) -> str:
    _expect(bool(args) and isinstance(args[0], str), "a torch.device without a name")
    return str(args[0])


def _array(args: tuple[Any, ...], reader: Unpickler) -> StoredArray:
    fits = len(args) == 3 and isinstance(args[0], Name) and args[0].text == "numpy.ndarray"
    _expect(fits, "an array of another class than numpy.ndarray")
    return StoredArray()


def _array_from_buffer(args: tuple[Any, ...], reader: Unpickler) -> StoredArray:
    _expect(len(args) == 4 and args[3] in ("C", "F"), "an array in an unknown order")
    return StoredArray(make_array(args[0], args[1], args[2], args[3] == "F"))


def _number_format(args: tuple[Any, ...], reader: Unpickler) -> Any:
    _expect(1 <= len(args) <= 3, "a NumPy type with the wrong number of arguments")
    return make_number_format(args[0])


def _scalar(args: tuple[Any, ...], reader: Unpickler) -> Any:
    _expect(len(args) == 2, "a NumPy number without bytes")
    return make_array(args[1], args[0], (), fortran=False).item()


def _table(rows: dict[str, tuple[Build | None, Build | None]]) -> Vocabulary:
    table = {}
    for text, (call, new) in rows.items():
        module, _, name = text.rpartition(".")
        table[module, name] = Name(text, call, new)
    return table


_STORAGES = _table(
    {
        **{f"torch.{name}": (None, None) for name in STORAGE_FORMATS},
        "torch.storage.UntypedStorage": (None, None),
    }
)
_PLAIN = _table(
    {
        "collections.OrderedDict": (_dict, _dict),
        "dnnlib.util.EasyDict": (_dict, _dict),
        "dnnlib.EasyDict": (_dict, _dict),
        "argparse.Namespace": (_plain("Namespace"), _plain("Namespace")),
        "_codecs.encode": (_encoded, None),
        **{
            f"{module}.{name}": (build, None)
            for module in ("builtins", "__builtin__")
            for name, build in (("set", _set), ("frozenset", _set), ("bytes", _bytes), ("bytearray", _bytes))
        },
        "torch._utils._rebuild_tensor": (_tensor_v1, None),
        "torch._utils._rebuild_tensor_v2": (_tensor_v2, None),
        "torch._utils._rebuild_tensor_v3": (_tensor_v3, None),
        "torch._utils._rebuild_parameter": (_parameter, None),
        "torch._utils._rebuild_parameter_with_state": (_parameter, None),
        "torch.Size": (_size, None),
        "torch.device": (_device, None),
        **{f"torch.{name}": (None, None) for name in TORCH_FORMATS},
        "numpy.ndarray": (None, None),
        "numpy.dtype": (_number_format, None),
        **{
            f"numpy.{core}.{name}": (build, None)
            for core in ("core", "_core")
            for name, build in (
                ("multiarray._reconstruct", _array),
                ("multiarray.scalar", _scalar),
                ("numeric._frombuffer", _array_from_buffer),
            )
        },
    }
)

# What torch writes into its own files: plain data, tensors and the names of storages.
TORCH_FILE: Vocabulary = {**_PLAIN, **_STORAGES}
# What a pickled storage holds beside its bytes: nothing but the storage's name.
STORAGE_FILE: Vocabulary = _STORAGES


def network_file(load_from_bytes: Callable[[Blob, Unpickler], Storage]) -> Vocabulary:
    """Return what a pickle of networks may hold; `load_from_bytes` reads the storages nested in it."""

    def load(args: tuple[Any, ...], reader: Unpickler) -> Storage:
        _expect(len(args) == 1 and isinstance(args[0], Blob), "a storage without bytes")
        reader.spend(len(args[0].data))
        return load_from_bytes(args[0], reader)

    return {
        **_PLAIN,
        **_table(
            {
                "torch_utils.persistence._reconstruct_persistent_obj": (_persistent_object, None),
                "torch.storage._load_from_bytes": (load, None),
                "dnnlib.tflib.network.Network": (None, _plain(TF_NETWORK)),
            }
        ),
    }
