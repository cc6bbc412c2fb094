"""A generator with the real contracts, six rows and 32 pixels (or more), and an image network with drawn weights."""

import torch

from encoders.efficientnet import EfficientNetLite0
from stylegan2.mobile import MobileStyleGAN


def generator(stages: int = 3) -> MobileStyleGAN:
    """Weights drawn so that its pictures differ visibly from code to code."""
    toy, rng = MobileStyleGAN((16,) * stages, mapping_layers=2), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in toy.state_dict().items():
            if name.startswith("mapping_layers") and name.endswith("weight"):
                tensor.copy_(torch.randn(tensor.shape, generator=rng) / 512**0.5)
            elif name.startswith("mapping_layers"):
                tensor.zero_()  # a new linear layer's bias is drawn from the global generator
            elif name.endswith("modulation.weight"):
                tensor.copy_(torch.randn(tensor.shape, generator=rng) * 0.05)
            elif not name.endswith(("bias", "w_avg", "noise")):
                fan = max(1, tensor.numel() // tensor.shape[0])
                gain = 12 if "to_img" in name else 1
                tensor.copy_(torch.randn(tensor.shape, generator=rng) * gain / fan**0.5)
    return toy


def image_network() -> EfficientNetLite0:
    network, rng = EfficientNetLite0(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.ndim == 4:
                tensor.copy_(torch.randn(tensor.shape, generator=rng) * (2 / tensor[0].numel()) ** 0.5)
    return network
