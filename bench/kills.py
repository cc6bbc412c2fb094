"""A batch that is killed again and again ends with the same files as one that is not.

    python -m bench.kills work/ --photos 190 --broken 10 --kills 20

Draws generated faces as photos and adds files that are none, runs `editing.batch` on them undisturbed, then in a second
folder with kill -9 of its whole process group at random moments, resumed every time, and compares both, byte for byte.
Exit code 1 if they differ, if not every good photo has a result, or the report's lines are not the broken ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator

SIZE = 512
EARLIEST, LATEST = 4.0, 25.0  # seconds after a start at which it is killed


def photos(folder: Path, good: int, broken: int) -> None:
    if folder.exists():
        return
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    for seed, _, picture in engine.faces(generator, range(5000, 5000 + good)):
        small = engine.to_uint8(engine.area_resize(engine.to_float(picture), SIZE))[0]
        Image.fromarray(small).save(unfinished / f"{seed}.jpg", quality=92)
    for number in range(broken):
        content = [b"", b"no picture", (unfinished / "5000.jpg").read_bytes()[:700]][number % 3]
        (unfinished / f"broken{number}.jpg").write_bytes(content)
    unfinished.rename(folder)


def command(folder: Path, out: Path, method: str) -> list[str]:
    arguments = [str(folder), "--set", "smile=1", "--method", method, "--out", str(out), "--json"]
    return [sys.executable, "-m", "editing.batch", *arguments]


def results(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.glob("[0-9]*.jpg"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--photos", type=int, default=190)
    parser.add_argument("--broken", type=int, default=10)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--method", default="encoder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tune_allocator()
    folder, calm, killed = (options.work / name for name in ("photos", "calm", "killed"))
    photos(folder, options.photos, options.broken)
    started = time.monotonic()
    done = subprocess.run(command(folder, calm, options.method), capture_output=True, text=True)
    report = json.loads(done.stdout)
    failed = [row for row in report["results"] if row["status"] == "failed"]
    print(f"undisturbed: {len(results(calm))} results, {len(failed)} failed, exit code {done.returncode}, "
          f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    rng, when = random.Random(options.seed), []
    while len(when) < options.kills:
        process = subprocess.Popen(command(folder, killed, options.method), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        moment = rng.uniform(EARLIEST, LATEST)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            when.append(len(results(killed)))
            continue
        print(f"finished before kill {len(when) + 1}", flush=True)
        break
    last = subprocess.run(command(folder, killed, options.method), capture_output=True, text=True)
    same = results(calm) == results(killed)
    print(f"killed {len(when)} times, with {when} results there; then {len(results(killed))} results, exit code "
          f"{last.returncode}; {'the same bytes' if same else 'OTHER BYTES'}")  # fmt: skip
    right = len(results(calm)) == options.photos and len(failed) == options.broken and done.returncode == 1
    raise SystemExit(0 if same and right and last.returncode == 1 else 1)


if __name__ == "__main__":
    main()
