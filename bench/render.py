"""How long a 1024x1024 render takes, against OpenVINO running the same network; prints a Markdown table.

    python -m bench.render --threads 2 --runs 20

Every round runs each contestant once, in the same process, so that a busy machine slows all of them
alike; read the ratio rather than the seconds.  bfloat16 is not the same arithmetic, so its row carries
its PSNR against float32; a CPU without bfloat16 instructions emulates it, many times slower.  Needs
`openvino` (the dev extra) for the comparison and leaves it out otherwise.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable

from stylegan2.allocator import tune_allocator

TUNED = tune_allocator()  # before anything large is allocated

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from stylegan2 import checkpoints, zoo  # noqa: E402
from stylegan2.engine import broadcast, latents  # noqa: E402

BATCHES = (1, 4)
COLUMNS = ("", "batch", "median s", "min s", "s per image", "to OpenVINO", "PSNR dB")


def contestants(generator, ws: Tensor, threads: int) -> dict[str, Callable[[], Tensor]]:
    """ws (B, num_ws, w_dim) -> row name -> a function that renders them once."""

    def float32() -> Tensor:
        with torch.inference_mode():
            return generator.synthesis(ws)

    def bfloat16() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return generator.synthesis(ws)

    def backward() -> Tensor:
        codes = ws.clone().requires_grad_()
        images = generator.synthesis(codes)
        images.square().mean().backward()
        return images.detach()

    rows = {"ours, float32": float32, "ours, bfloat16 autocast": bfloat16}
    theirs = openvino_runner(ws, threads)
    if theirs is not None:
        rows["OpenVINO, float32"] = theirs
    return rows | {"ours, float32, forward and backward to ws": backward}


def openvino_runner(ws: Tensor, threads: int) -> Callable[[], Tensor] | None:
    """OpenVINO's own execution of the published file (it takes one w for all rows), or None without OpenVINO."""
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    network = core.read_model(zoo.path("mobilestylegan-ffhq-1024-ir") / "SynthesisNetwork.xml")
    (source,) = network.inputs
    w = ws[:, 0].numpy().copy()
    network.reshape({source: list(w.shape)})
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(network, "CPU", config).create_infer_request()
    return lambda: torch.from_numpy(request.infer({0: w}, share_inputs=True, share_outputs=True)[0])


def measure(rows: dict[str, Callable[[], Tensor]], runs: int) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """One warm-up, then `runs` rounds in which each row runs once: row -> seconds, row -> images."""
    images = {name: row().float().clone() for name, row in rows.items()}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(runs):
        for name, row in rows.items():
            start = time.perf_counter()
            row()
            seconds[name].append(time.perf_counter() - start)
    return seconds, images


def psnr(images: Tensor, reference: Tensor) -> str:
    """Images in [-1, 1], so a data range of 2."""
    error = (images.clamp(-1, 1) - reference.clamp(-1, 1)).square().mean().item()
    return f"{10 * math.log10(4 / error):.1f}" if error else "equal"


def table(seconds: dict[str, list[float]], images: dict[str, Tensor], batch: int) -> list[tuple[str, ...]]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    reference = medians.get("OpenVINO, float32")
    return [
        (
            name,
            str(batch),
            f"{medians[name]:.3f}",
            f"{min(values):.3f}",
            f"{medians[name] / batch:.3f}",
            f"{medians[name] / reference:.2f}x" if reference else "-",
            "-" if name == "ours, float32" else psnr(images[name], images["ours, float32"]),
        )
        for name, values in seconds.items()
    ]


def markdown(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    lines = [COLUMNS, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for PyTorch and OpenVINO alike")
    parser.add_argument("--runs", type=int, default=20, help="rounds; each contestant runs once in every round")
    options = parser.parse_args()
    if options.threads < 1 or options.runs < 1:
        parser.error("--threads and --runs are at least 1")
    torch.set_num_threads(options.threads)
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    rows = []
    for batch in BATCHES:
        ws = broadcast(generator, latents(generator, range(batch)))
        rows += table(*measure(contestants(generator, ws, options.threads), options.runs), batch)
    print(f"1024x1024, {options.threads} thread(s) of {os.cpu_count()} CPUs, {options.runs} interleaved rounds,")
    print(f"torch {torch.__version__}, allocator {'tuned' if TUNED else 'as it was'}\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
