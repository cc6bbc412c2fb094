"""GigaGAN (Kang et al., CVPR 2023, arXiv 2303.05511): text to pictures, and the up-sampler in the layout of AuraSR."""

from editing.translation.networks.gigagan.discriminator import GigaGANDiscriminator, VisionHeads
from editing.translation.networks.gigagan.generator import GigaGANGenerator
from editing.translation.networks.gigagan.upsampler import AuraUpsampler

__all__ = ["AuraUpsampler", "GigaGANDiscriminator", "GigaGANGenerator", "VisionHeads"]
