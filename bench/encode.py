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
from stylegan2 import checkpoints, preview, zoo  # noqa: E402


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    with torch.inference_mode():
        function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


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
    rows: dict[str, tuple[int, Callable[[], object]]] = {"render 1024x1024": (1, lambda: generator.synthesis(ws))}
    look = preview.load(generator)
    rows["preview 128x128"] = (1, lambda: look(ws))
    for batch in options.batches:
        images = torch.rand(batch, 3, generator.resolution, generator.resolution, device=device) * 2 - 1
        for passes in (1, encoding.PASSES, encoding.MOST_PASSES):
            named = f"{passes} pass{'es' * (passes > 1)}, batch {batch}"
            rows[named] = (batch, lambda images=images, passes=passes: encoding.encode(generator, images, passes))
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
