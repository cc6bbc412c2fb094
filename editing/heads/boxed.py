"""Training LostGANs' head on the latents (`editing.heads.layouts`) on maps of generated faces.

    python -m editing.directions.sampling faces/ --count 6000 --psi 0.8
    python -m editing.heads.boxed faces/ --out heads/ --minutes 12

    CE(laid(masks(boxes, z)), map) + KL(q(z | mask), N(0, 1))        half of the time with z from the masks, half from
                                                                     their mean, so that the mean is a good shape, too

LostGANs' masks learn from the pictures that they lead to; here maps are known, and say at once what is wrong.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from editing.heads.layouts import OBJECTS, LayoutHead, MaskRegressor, ShapeReader, boxes_of, cut, laid, save, tensors_of
from editing.heads.mapped import HELD_OUT, class_weights, opened
from stylegan2 import checkpoints, preview, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing

BATCH, RATE, KL = 24, 2e-3, 2e-4
SIDE = 64  # of maps in training


def train(folder: Path, out: Path, minutes: float,
          report: Callable[[int, dict[str, float]], None] = lambda step, losses: None) -> LayoutHead:  # fmt: skip
    """Train for so many minutes, those of earlier runs included; writes out/lostgans.safetensors."""
    torch.manual_seed(0)
    faces = opened(folder, preview.load(checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))))
    boxes, there = tensors_of([boxes_of(labels) for labels in faces.maps])
    usual = (boxes * there[..., None]).sum(0) / there.sum(0)[:, None].clamp_min(1)
    parts = {"regressor": MaskRegressor(), "shape": ShapeReader()}
    adam = torch.optim.Adam([p for network in parts.values() for p in network.parameters()], lr=RATE)
    average = copy.deepcopy(parts)
    out.mkdir(parents=True, exist_ok=True)
    file, step, before = out / "lostgans.state", 0, 0.0
    if file.exists():
        state = torch.load(file, weights_only=True)
        step, before = state["step"], state["minutes"]
        adam.load_state_dict(state["adam"])
        for name in parts:
            parts[name].load_state_dict(state[name])
            average[name].load_state_dict(state[f"{name}.average"])
    began, saved, gathered = time.monotonic(), time.monotonic(), []
    while True:
        done = (before + (time.monotonic() - began) / 60) / minutes
        if done >= 1 or time.monotonic() - saved > 60:
            state = {name: network.state_dict() for name, network in parts.items()}
            state |= {f"{name}.average": network.state_dict() for name, network in average.items()}
            head = LayoutHead(average["regressor"].eval(), average["shape"].eval(), usual)
            save(head, out / "lostgans.safetensors")
            with replacing(file) as part:
                torch.save(state | {"adam": adam.state_dict(), "step": step, "minutes": done * minutes}, part)
            saved = time.monotonic()
            if done >= 1:
                report(step, {"held_out": held_out(head, faces.maps, boxes, there)})
                return head
        rng = np.random.default_rng((17, step))
        places = rng.choice(len(faces), BATCH, replace=False)
        for group in adam.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * float(0.03 + 0.97 * 0.5 * (1 + np.cos(np.pi * done)))
        labels = torch.from_numpy(faces.maps[places].astype(np.int64))
        b, t = boxes[places], there[places]
        mean, log_variance = parts["shape"](cut(labels, b, t))
        noise = torch.from_numpy(rng.standard_normal(mean.shape, np.float32))
        z = (mean + (log_variance / 2).exp() * noise) * torch.from_numpy(rng.random((BATCH, 1, 1)) < 0.5)
        logits = laid(parts["regressor"](b, t, z), b, t, SIDE)
        shown = F.cross_entropy(logits, labels[:, 1::2, 1::2], class_weights())
        divergence = (0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(2) * t).sum(1).mean()
        adam.zero_grad(set_to_none=True)
        (shown + KL * divergence).backward()
        adam.step()
        with torch.no_grad():
            for name, network in parts.items():
                for mine, theirs in zip(average[name].parameters(), network.parameters(), strict=True):
                    mine.lerp_(theirs, max(0.002, 1 / (1 + step / 10)))
        step += 1
        gathered.append({"shown": shown.item(), "kl": divergence.item()})
        if len(gathered) == 200:
            report(step, {name: float(np.mean([row[name] for row in gathered])) for name in gathered[0]})
            gathered = []


@torch.no_grad()
def held_out(head: LayoutHead, maps: np.ndarray, boxes: torch.Tensor, there: torch.Tensor) -> float:
    """Mean intersection over union of the mean shapes' maps with those of the last faces, over classes."""
    from editing.judges.parsing.labels import CLASSES, intersection_over_union

    b, t = boxes[-HELD_OUT:], there[-HELD_OUT:]
    z = torch.zeros(HELD_OUT, len(OBJECTS), head.regressor.z)
    found = laid(head.regressor(b, t, z), b, t).argmax(1).numpy()
    return float(np.mean(list(intersection_over_union(found, maps[-HELD_OUT:], CLASSES).values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="a folder of editing.directions.sampling")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    options = parser.parse_args()
    tune_allocator()

    def report(step: int, losses: dict[str, float]) -> None:
        print(step, *(f"{name} {value:.4f}" for name, value in losses.items()), flush=True)

    train(options.faces, options.out, options.minutes, report)


if __name__ == "__main__":
    main()
