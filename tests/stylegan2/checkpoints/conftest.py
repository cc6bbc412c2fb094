"""Files in the formats of others, written without their code, and how a file is refused."""

import pickle
import sys
import time
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch

from stylegan2.checkpoints import load
from stylegan2.errors import CheckpointError

MODULE_SOURCE = "raise SystemExit('the source text inside a pickle was executed')"


@pytest.fixture
def nvidia_pickle(monkeypatch):
    """write(path, {'G_ema': (tensors, class_name, attributes, kwargs), ...}, protocol): a pickle of network objects.

    Only for the time of the test there are modules called torch_utils.persistence and dnnlib.util, so
    that pickle writes the very names and structure that NVIDIA's files have.
    """
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("only the name is needed")

    class EasyDict(dict):
        pass

    _reconstruct_persistent_obj.__module__, _reconstruct_persistent_obj.__qualname__ = (
        "torch_utils.persistence",
        "_reconstruct_persistent_obj",
    )
    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    for name, module in {
        "torch_utils": types.ModuleType("torch_utils"),
        "torch_utils.persistence": persistence,
        "dnnlib": types.ModuleType("dnnlib"),
        "dnnlib.util": util,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)

    class Network:
        """A module: written as one call with one dict, the way the persistence decorator does."""

        def __init__(self, class_name):
            self.class_name = class_name
            self.state = {
                "training": False,
                "_parameters": OrderedDict(),
                "_buffers": OrderedDict(),
                "_non_persistent_buffers_set": set(),
                "_backward_hooks": OrderedDict(),
                "_modules": OrderedDict(),
                "weight_gain": np.float64(0.0147),
            }

        def __reduce__(self):
            meta = {"type": "class", "version": 6, "module_src": MODULE_SOURCE, "class_name": self.class_name}
            return _reconstruct_persistent_obj, (EasyDict(meta | {"state": self.state}),)

    buffers = ("resample_filter", "noise_const", "w_avg")

    def build(tensors, class_name, attributes, kwargs):
        root = Network(class_name)
        root.state |= {"_init_args": (), "_init_kwargs": EasyDict(kwargs)}
        for name, tensor in tensors.items():
            *parents, leaf = name.split(".")
            module, path = root, []
            for parent in parents:
                path.append(parent)
                module = module.state["_modules"].setdefault(parent, Network("Layer"))
                module.state |= attributes.get(".".join(path), {})
            if leaf in buffers:
                module.state["_buffers"][leaf] = tensor
            else:
                module.state["_parameters"][leaf] = torch.nn.Parameter(tensor)
        root.state["_parameters"]["bias"] = None
        return root

    def write(path, networks, protocol=4):
        content = {"training_set_kwargs": {"class_name": "x", "use_labels": False}, "augment_pipe": None}
        content |= {key: build(*network) for key, network in networks.items()}
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_rosinality():
    """A small generator's state dict in rosinality's names: 16 pixels, 8 channels."""
    from stylegan2.checkpoints.rosinality import generator_names
    from stylegan2.networks import StyleGAN2, StyleGAN2Config
    from stylegan2.ops import setup_fir

    torch.manual_seed(0)
    config = StyleGAN2Config(16, 8, 8, channel_base=16 * 8, channel_max=8, mapping_layers=2)
    net = StyleGAN2(config)
    ours, theirs = net.state(), OrderedDict()
    for name, their_name in generator_names(16, 2).items():
        tensor = ours[name]
        if their_name.endswith("conv.weight"):
            tensor = tensor.unsqueeze(0)
        if their_name.startswith("noises."):
            tensor = tensor[None, None]
        theirs[their_name] = tensor
    theirs["to_rgbs.0.upsample.kernel"] = setup_fir([1, 3, 3, 1]) * 4
    return theirs


@pytest.fixture
def refused(tmp_path):
    """refused(bytes or path, *words): loading raises one line that has the file's name and these words, quickly."""

    def check(content, *words, reader=load):
        path = content
        if isinstance(content, bytes):
            path = tmp_path / "file.weights"
            path.write_bytes(content)
        start = time.process_time()
        with pytest.raises(CheckpointError) as caught:
            reader(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and "\n" not in message and len(message) < 400
        assert message.endswith((".", ")")) and caught.value.__cause__ is None
        for word in words:
            assert word in message
        assert time.process_time() - start < 3
        assert not (tmp_path / "marker").exists()
        return message

    return check
