"""How much faster a folder goes with more workers of one thread each; prints a Markdown table.

    python -m bench.batch photos/ --workers 1 2 --method encoder --count 24 --runs 3

Every round runs each contestant once, so that a busy machine slows all of them alike, and the ratio is the median of
the rounds' ratios.  Workers are loaded before the clock runs.  `here` is the command without --workers, with one
thread; it opens the next photo in a second one.  Memory is what all workers hold together: each shared page once (PSS).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from stylegan2.allocator import tune_allocator

tune_allocator()  # before anything large is allocated

import torch  # noqa: E402

from editing import session  # noqa: E402
from editing.batching import crew, desk, planning  # noqa: E402
from editing.batching.work import Setup, make_editor, warm  # noqa: E402
from editing.batching.workers import Processes  # noqa: E402
from editing.plans import parse_range  # noqa: E402
from editing.types import Recipe  # noqa: E402


class Ready:
    """A crew whose workers are there already and stay."""

    def __init__(self, processes: Processes) -> None:
        self.processes, self.workers = processes, processes.hire()
        self.give, self.wait = processes.give, processes.wait

    def hire(self, count: int | None = None) -> list:
        return self.workers if count is None else self.processes.hire(count)


def timed(jobs: list, options: dict, answers) -> float:
    """Seconds a photo, results written and journal kept."""
    with tempfile.TemporaryDirectory() as folder:
        results = [
            planning.Job(
                job.place,
                tuple(planning.Result(Path(folder) / r.target.name, r.recipe, r.strengths) for r in job.results),
            )
            for job in jobs
        ]
        with desk.working_folder(Path(folder)) as state:
            books = desk.Desk(results, state, options)
            started = time.perf_counter()
            for work, answer in answers(books.works(options, False)):
                books.take(work, answer)
            seconds = time.perf_counter() - started
        failed = [entry for entry in books.entries.values() if entry["status"] != "done"]
        if failed:
            raise SystemExit(f"{failed[0]['photo']}: {failed[0]['error']}")
    return seconds / len(jobs)


def megabytes(processes: Processes, kind: str) -> float:
    """Sum over the workers and the template of one line of /proc/PID/smaps_rollup."""
    pids = [worker.pid for worker in processes.crew] + ([processes.template[0].pid] if processes.template else [])
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--method", default="encoder")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--values", type=int, default=1, help="Results of every photo.")
    parser.add_argument("--apart", action="store_true", help="Also workers that share nothing, to compare memory.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = {"method": options.method, "seed": 0, "detector": "auto", "aligned": False, "budget": None}
    places = planning.find_places(options.photos, Path("nowhere"))[: options.count]
    jobs = planning.plan_jobs(places, Recipe(), [parse_range(f"smile=1:{options.values}:1")])
    setup = Setup(make_editor, work)
    editor = session.Editor()
    warm(editor, work)
    crews = {f"{count} shared": Processes(setup, count, shared=True) for count in options.workers}
    if options.apart:
        crews |= {f"{count} apart": Processes(setup, count, shared=False) for count in options.workers}
    ready = {name: Ready(processes) for name, processes in crews.items()}
    rows = {"here": lambda works: crew.alone(works, editor)}
    rows |= {name: lambda works, who=who: crew.together(works, who) for name, who in ready.items()}
    times: dict[str, list[float]] = {name: [] for name in rows}
    try:
        for _ in range(options.runs):
            for name, answers in rows.items():
                times[name].append(timed(jobs, work, answers))
        first = f"{options.workers[0]} shared"
        print(f"{options.method}, {len(jobs)} photos, {options.values} results each, one thread a worker, ", end="")
        print(f"median of {options.runs}\n")
        print("| workers | s a photo | times as fast | memory MB | if nothing were shared MB |\n|---|---|---|---|---|")
        for name, seconds in times.items():
            ratio = statistics.median(base / own for base, own in zip(times[first], seconds, strict=True))
            held = [f"{megabytes(crews[name], kind):.0f}" if name in crews else "" for kind in ("Pss", "Rss")]
            print(f"| {name} | {statistics.median(seconds):.2f} | {ratio:.2f} | {held[0]} | {held[1]} |")
    finally:
        for processes in crews.values():
            processes.close()


if __name__ == "__main__":
    main()
