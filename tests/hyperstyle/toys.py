"""A hypernetwork, a generator and a W-encoder with the real contracts and a few channels, all tensors drawn."""

import torch
from torch import nn

from encoders.checkpoints import LoadedEncoder
from encoders.e4e import EncoderConfig, WEncoder
from hyperstyle.networks import HyperStyleConfig, SharedWeights
from stylegan2.checkpoints import rosinality
from stylegan2.layers import Dense
from stylegan2.networks import StyleGAN2, StyleGAN2Config
from stylegan2.ops import setup_fir

# 8 channels up to 16 pixels, 4 at 32: three layers share the hyper-head, one goes from 8 to 4 channels, one from 4 to 4
TINY = HyperStyleConfig(layers=(0, 2, 5, 8, 9), resolution=32, channel_base=128, channel_max=8, width=4)
AVERAGE = torch.arange(64.0).reshape(8, 8) / 100


def drawn(network, seed=0):
    """Every tensor from a seed, batch norm's statistics too, so that a missing one shows; frozen, in eval mode."""
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if name == "num_batches_tracked":
                tensor.fill_(7)
            elif name == "running_var" or (isinstance(module, nn.BatchNorm2d | nn.PReLU) and name == "weight"):
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=rng)
            elif tensor.ndim < 2:
                tensor.data = torch.randn(tensor.shape, generator=rng) * 0.1
            else:
                equalised, transposed = isinstance(module, Dense), isinstance(module, SharedWeights)
                fan = 1 if equalised else len(tensor) if transposed else tensor[0].numel()
                tensor.data = torch.randn(tensor.shape, generator=rng) * fan**-0.5
    return network.eval().requires_grad_(False)


def generator(resolution=32, channel_base=128):
    torch.manual_seed(1)
    config = StyleGAN2Config(resolution, 8, 8, channel_base, channel_max=8, mapping_layers=2)
    return StyleGAN2(config).eval().requires_grad_(False)


def decoder(network):
    """A generator's tensors in the names that published files have for them."""
    state = {"decoder.to_rgbs.0.upsample.kernel": setup_fir([1, 3, 3, 1]) * 4}
    for name, theirs in rosinality.generator_names(network.resolution, 2).items():
        tensor = network.state()[name]
        lead = 1 if theirs.endswith("conv.weight") else 2 if theirs.startswith("noises.") else 0
        state[f"decoder.{theirs}"] = tensor.reshape([1] * lead + list(tensor.shape))
    return state


def w_encoder(average=AVERAGE):
    network = drawn(WEncoder(EncoderConfig(num_ws=8, width=16, w_dim=8)))
    return LoadedEncoder(network, average, "w", "w.pt")
