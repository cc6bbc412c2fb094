"""The networks of RBDN, pix2pix, CycleGAN, BicycleGAN and StarGAN, with the names that their published files use.

Pictures are (B, 3, H, W), RGB in [-1, 1] (RBDN: see there); outputs have the range of the inputs.
"""

from editing.translation.networks.bicyclegan import BicycleEncoder, BicycleGenerator
from editing.translation.networks.gigagan import AuraUpsampler, GigaGANDiscriminator, GigaGANGenerator, VisionHeads
from editing.translation.networks.instagan import SetDiscriminator, SetGenerator
from editing.translation.networks.lostgans import LostGANGenerator
from editing.translation.networks.lostgans_critic import LostGANDiscriminator
from editing.translation.networks.patchgan import MultiScalePatchGAN, PatchGAN, PixelGAN
from editing.translation.networks.rbdn import RBDN
from editing.translation.networks.reed import (
    ReedDiscriminator,
    ReedGenerator,
    ReedPortDiscriminator,
    ReedPortGenerator,
)
from editing.translation.networks.resnet import ResnetGenerator
from editing.translation.networks.spade import SPADEDiscriminator, SPADEGenerator, StyleEncoder
from editing.translation.networks.stargan import StarGANDiscriminator, StarGANGenerator
from editing.translation.networks.unet import UnetGenerator

__all__ = [
    "RBDN",
    "AuraUpsampler",
    "BicycleEncoder",
    "BicycleGenerator",
    "GigaGANDiscriminator",
    "GigaGANGenerator",
    "LostGANDiscriminator",
    "LostGANGenerator",
    "MultiScalePatchGAN",
    "PatchGAN",
    "PixelGAN",
    "ReedDiscriminator",
    "ReedGenerator",
    "ReedPortDiscriminator",
    "ReedPortGenerator",
    "ResnetGenerator",
    "SPADEDiscriminator",
    "SPADEGenerator",
    "SetDiscriminator",
    "SetGenerator",
    "StarGANDiscriminator",
    "StarGANGenerator",
    "StyleEncoder",
    "UnetGenerator",
    "VisionHeads",
]
