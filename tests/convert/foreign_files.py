"""Builders of foreign files: pickles made with real names, written by Python's and torch's own picklers.

The names that NVIDIA's pickles hold belong to modules that are not installed. While a file is written,
stand-ins for them are importable; nothing here reads a pickle.
"""

import contextlib
import io
import pickle
import sys
import types

import torch


class EasyDict(dict):
    """Pickles under the name dnnlib.util.EasyDict."""


class Network:
    """Pickles under the name dnnlib.tflib.network.Network, with a state like TensorFlow's."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return self.state


class Persistent:
    """A layer as torch_utils.persistence pickles it: class name, source text and attributes."""

    def __init__(self, class_name, **attributes):
        self.class_name = class_name
        self.attributes = attributes

    def __reduce__(self):
        meta = {
            "type": "class",
            "version": 6,
            "module_src": "import os\nos.abort()  # never to be run\n",
            "class_name": self.class_name,
            "state": self.attributes,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def _reconstruct_persistent_obj(meta):
    raise AssertionError("nothing may call this")


@contextlib.contextmanager
def foreign_names():
    """Make the foreign modules importable while a file is written."""
    modules = {}
    for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util", "dnnlib.tflib"):
        modules[name] = types.ModuleType(name)
    modules["dnnlib.tflib.network"] = types.ModuleType("dnnlib.tflib.network")
    for thing, home in (
        (EasyDict, "dnnlib.util"),
        (Network, "dnnlib.tflib.network"),
        (_reconstruct_persistent_obj, "torch_utils.persistence"),
    ):
        thing.__module__ = home
        thing.__qualname__ = thing.__name__
        setattr(modules[home], thing.__name__, thing)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def dumps(content, protocol=4):
    with foreign_names():
        return pickle.dumps(content, protocol=protocol)


def torch_bytes(content, legacy=False):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def official_attributes(module):
    """Return what NVIDIA's layer of the same name keeps and ours does not, by the layer's class."""
    name = type(module).__name__
    if name == "SynthesisLayer" and hasattr(module, "noise_const"):
        return {"activation": "lrelu"}
    if name == "SynthesisLayer" and hasattr(module, "use_noise"):
        return {"activation": "lrelu"}
    if name == "DiscriminatorEpilogue":
        minibatch = Persistent(
            "MinibatchStdLayer",
            group_size=module.mbstd_group_size,
            num_channels=module.mbstd_num_channels,
        )
        architecture = "resnet" if module.fromrgb is None else "skip"
        return {"architecture": architecture, "_modules": {"mbstd": minibatch}}
    if name in ("SynthesisBlock", "DiscriminatorBlock"):
        return {"use_fp16": False}
    return {}


def as_persistent(module, extra=None, path=""):
    """Return one of our modules as NVIDIA's code would pickle it.

    Args:
        module: The network or layer.
        extra: Path -> more attributes of the layer there.
        path: Where `module` is in the network.
    """
    official = {**official_attributes(module), **(extra or {}).get(path, {})}
    children = {
        name: as_persistent(child, extra, f"{path}.{name}" if path else name)
        for name, child in module.named_children()
    }
    children.update(official.pop("_modules", {}))
    kept = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, (int, float, str, bool, list, type(None)))
    }
    return Persistent(
        type(module).__name__.replace("StyleGAN2", "").replace("StyleGAN3", ""),
        **{
            **kept,
            "training": False,
            "_parameters": dict(module._parameters),
            "_buffers": dict(module._buffers),
            "_non_persistent_buffers_set": set(),
            "_modules": children,
            **official,
        },
    )


def given(**keywords):
    """Return the attributes that say with which keywords a layer was made."""
    return {"_init_args": (), "_init_kwargs": keywords}


def tensorflow_network(variables, keywords, components=None, function="G_main"):
    """Return a stand-in for a TensorFlow network.

    Args:
        variables: Name -> array.
        keywords: What it was made with.
        components: Name -> network.
        function: Name of the function that built it.
    """
    return Network(
        {
            "version": 4,
            "name": "net",
            "static_kwargs": EasyDict(keywords),
            "components": EasyDict(components or {}),
            "build_module_src": "import os\nos.abort()  # never to be run\n",
            "build_func_name": function,
            "variables": list(variables.items()) if isinstance(variables, dict) else variables,
        }
    )
