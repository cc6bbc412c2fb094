"""How good a reconstruction is, measured as the whole project measures it.

L2 and MS-SSIM: RGB, area-resized to 256x256, clamped to [-1, 1]; L2 is the mean squared error on that
range, MS-SSIM (Wang et al. 2003) has data range 2, window 11, sigma 1.5 and five scales.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from editing.judges.judge import describe, distance
from stylegan2 import w_statistics
from stylegan2.engine import area_resize, to_uint8

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def l2(a: Tensor, b: Tensor) -> float:
    """Two images (1, 3, H, W) in [-1, 1] -> mean squared error at 256x256."""
    return float(F.mse_loss(*_at_256(a, b)))


def ms_ssim(a: Tensor, b: Tensor) -> float:
    """Two images (1, 3, H, W) in [-1, 1] -> MS-SSIM at 256x256, 1 for equal pictures."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure

    first, second = _at_256(a, b)
    return float(measure(second, first, data_range=2.0, kernel_size=11, sigma=1.5, betas=BETAS))


def _at_256(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return area_resize(a.float().clamp(-1, 1), 256), area_resize(b.float().clamp(-1, 1), 256)


def whitened_square(ws: Tensor) -> float:
    """ws (1, num_ws, w_dim) -> mean squared whitened coordinate: about 1 for samples of the mapping network."""
    return float(w_statistics.load().to(ws.device).whiten(ws).square().mean())


def reconstruction_metrics(image: Tensor, rendered: Tensor) -> dict[str, float]:
    """Target and rendering (1, 3, R, R) -> l2, ms_ssim and, where both faces are found, id_distance (dlib)."""
    metrics = {"l2": l2(image, rendered), "ms_ssim": ms_ssim(image, rendered)}
    photo, copy = describe(to_uint8(image)[0]), describe(to_uint8(rendered)[0])
    if photo is not None and copy is not None:
        metrics["id_distance"] = distance(photo, copy)
    return metrics
