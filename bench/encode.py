"""How many pictures a second the shipped encoder does, beside the time of one render; prints a Markdown table.

    python -m bench.encode --batches 1 4 16 --runs 10 [--device cuda]

Every round runs each contestant once, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from stylegan2.allocator import tune_allocator

tune_allocator()  # before anything large is allocated

import torch  # noqa: E402

from editing.inversion import encoding  # noqa: E402
from editing.inversion.budget import Progress  # noqa: E402
from stylegan2 import checkpoints, preview, zoo  # noqa: E402


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def drawn(draw: Callable[[torch.Tensor], torch.Tensor], ws: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return draw(ws)


def answer(generator, photo: torch.Tensor, steps: int) -> torch.Tensor:
    """What `--method encoder` does, but for the picture of the result."""
    ws = encoding.encode(generator, photo)
    return encoding.corrected(generator, photo, ws, steps - 1, Progress(None, steps, ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(device)
    ws = generator.w_avg.expand(1, generator.num_ws, -1)
    rows: dict[str, tuple[int, Callable[[], object]]] = {
        "render 1024x1024": (1, lambda: drawn(generator.synthesis, ws))
    }
    look = preview.load(generator)
    rows["preview 128x128"] = (1, lambda: drawn(look, ws))
    for batch in options.batches:
        images = torch.rand(batch, 3, generator.resolution, generator.resolution, device=device) * 2 - 1
        rows[f"encoder alone, batch {batch}"] = (batch, lambda images=images: encoding.encode(generator, images))
    photo = torch.rand(1, 3, generator.resolution, generator.resolution, device=device) * 2 - 1
    for steps in (encoding.STEPS, 10):
        rows[f"encoder, {steps} steps"] = (1, lambda steps=steps: answer(generator, photo, steps))
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(options.runs + 1):
        for name, (_, function) in rows.items():
            times[name].append(timed(function, device))
    render = statistics.median(times["render 1024x1024"][1:])
    print(f"{device}, {torch.get_num_threads()} threads, median of {options.runs}\n")
    print("| | s | pictures a second | of one render |\n|---|---|---|---|")
    for name, (count, _) in rows.items():
        seconds = statistics.median(times[name][1:])  # the first round warms up
        print(f"| {name} | {seconds:.3f} | {count / seconds:.1f} | {seconds / render:.2f} |")


if __name__ == "__main__":
    main()
