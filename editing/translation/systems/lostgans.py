"""LostGANs: pictures from layouts (Sun and Wu, arXiv 1908.07500, section 3.4; v2: 2003.11571).

Hinge losses on objects, and on the picture * 0.1; for the generator also the mean absolute difference from the picture
that the layout belongs to, and a perceptual one.  The discriminator moves first.  128 and 256 pixels are v2, 64 are v1,
as published.  The published perceptual term compares VGG19's features, which are not to be had here: ours is the
distance of `encoders.losses.perceptual` (EfficientNet-Lite0), of another scale.  Rates stay as they are to the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation import composing, layouts
from editing.translation.networks import LostGANDiscriminator, LostGANGenerator
from editing.translation.networks.lostgans import FACTORS, widths
from editing.translation.systems.base import Batch, Settings, System
from stylegan2 import zoo
from stylegan2.errors import UsageError

V1 = (64,)  # sizes without refinement of masks
EMBEDDINGS = {64: 128, 128: 180, 256: 180}  # numbers of a class
SAMPLES = 3  # columns of a grid


def hinge(logits: Tensor, real: bool) -> Tensor:
    """Mean of what logits (N, 1) lack to 1, or to -1; 0 where there are none."""
    return F.relu(1 - (1 if real else -1) * logits).sum() / max(len(logits), 1)


def fooled(logits: Tensor) -> Tensor:
    """The generator's: minus their mean."""
    return -logits.sum() / max(len(logits), 1)


def orthogonal(network: nn.Module, seed: int) -> nn.Module:
    """Orthogonal weights, of the layers under spectral norm too, biases 0.  Returns the network."""
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            weight = module.weight_orig if hasattr(module, "weight_orig") else module.weight
            nn.init.orthogonal_(weight, generator=rng)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
    return network


class LostGAN(System):
    data = "layouts"
    images, batch, learning_rate, betas = 10_000_000, 128, 1e-4, (0.0, 0.999)  # 200 times COCO's 25,000, and mirrored
    losses = ("D_image", "D_object", "G_image", "G_object", "G_l1", "G_perceptual")
    image, object, l1, perceptual = 0.1, 1.0, 1.0, 1.0  # weights; without the last nothing has to be fetched

    @classmethod
    def source(cls, a: Path, b: Path | None = None, labels: Path | None = None) -> layouts.Layouts:
        if b is not None:
            raise UsageError("LostGANs learns from one folder of pictures and their layouts: leave --b out.")
        return layouts.opened(a, labels)

    @classmethod
    def check(cls, name: str, settings: Settings) -> None:
        if settings.size not in FACTORS:
            raise UsageError(f"{name} is trained at {', '.join(map(str, FACTORS))} pixels, not {settings.size}.")
        if settings.size == 128 and (settings.batch or cls.batch) < 2:  # a norm of its pyramid sees one pixel
            raise UsageError(f"{name} at 128 pixels takes batches of 2 pictures or more, not 1.")
        if cls.perceptual:
            zoo.path("efficientnet-lite0")

    def make(self, domains: int) -> dict[str, nn.Module]:
        s, classes = self.settings, domains + 1
        torch.manual_seed(s.seed)  # the first vectors of spectral norms
        refine, embedding = s.size not in V1, EMBEDDINGS[s.size]
        networks = {"G": LostGANGenerator(classes, widths(s.size, s.width), refine, embedding=embedding)}
        networks["D"] = LostGANDiscriminator(classes, s.size, s.width)
        return {name: orthogonal(network, s.seed + i) for i, (name, network) in enumerate(networks.items())}

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        real, labels, boxes = batch["b"], batch["labels"], batch["boxes"]
        g, d = self.networks["G"], self.networks["D"]
        z = torch.from_numpy(rng.standard_normal((len(real), 1 + labels.shape[1], g.z_dim), np.float32)).to(real)
        fake = g(z[:, 1:], boxes, z[:, 0], labels)
        self.judges(True, ["D"])
        pairs = zip(d(real, boxes, labels), d(fake.detach(), boxes, labels), strict=True)
        d_image, d_object = (hinge(one, True) + hinge(other, False) for one, other in pairs)
        self.descend("D", self.image * d_image + self.object * d_object, 1.0)
        self.judges(False, ["D"])
        g_image, g_object = map(fooled, d(fake, boxes, labels))
        losses = {"D_image": d_image, "D_object": d_object, "G_image": g_image, "G_object": g_object}
        losses["G_l1"] = F.l1_loss(fake, real)
        total = self.image * g_image + self.object * g_object + self.l1 * losses["G_l1"]
        if self.perceptual:
            losses["G_perceptual"] = self.looks(fake, real)
            total = total + self.perceptual * losses["G_perceptual"]
        self.descend("G", total, 1.0)
        return {name: loss.item() for name, loss in losses.items()}

    def rows(self, batch: Batch) -> list[Tensor]:
        """The layout, the picture it belongs to, and what is drawn from it."""
        g, labels, boxes = self.networks["G"], batch["labels"], batch["boxes"]
        drawings = []
        for sample in range(SAMPLES):
            z = composing.noise(1 + labels.shape[1], g.z_dim, 0, sample).to(boxes).expand(len(labels), -1, -1)
            drawings.append(g(z[:, 1:], boxes, z[:, 0], labels))
        return [layouts.painted(labels, boxes, g.size).to(boxes), batch["b"], *drawings]
