"""One training step of each published system.

system = SYSTEMS["pix2pix"](Settings(size=128), domains=0)
losses = system.step(batch, rate=1.0, rng=...)
"""

from __future__ import annotations

from collections.abc import Mapping

from editing.translation.systems.base import Settings as Settings
from editing.translation.systems.base import System as System
from editing.translation.systems.gigagan import GigaGAN
from editing.translation.systems.gigagan_upsampler import GigaGANUpsampler
from editing.translation.systems.instagan import InstaGAN
from editing.translation.systems.lostgans import LostGAN
from editing.translation.systems.pictures import BicycleGAN, CycleGAN, Pix2Pix, Regression, StarGAN
from editing.translation.systems.reed import GANCLS, GANINT, GANINTCLS, PlainGAN
from editing.translation.systems.spade import Spade, SpadePlain

SYSTEMS: Mapping[str, type[System]] = {
    "rbdn": Regression,
    "pix2pix": Pix2Pix,
    "cyclegan": CycleGAN,
    "bicyclegan": BicycleGAN,
    "stargan": StarGAN,
    "instagan": InstaGAN,
    "spade": Spade,
    "spade-plain": SpadePlain,
    "lostgans": LostGAN,
    "gigagan": GigaGAN,
    "gigagan-upsampler": GigaGANUpsampler,
    "gan": PlainGAN,
    "gan-cls": GANCLS,
    "gan-int": GANINT,
    "gan-int-cls": GANINTCLS,
}
