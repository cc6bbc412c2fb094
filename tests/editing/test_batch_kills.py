"""Batches whose processes are killed from outside: no orphans, nothing half-written, and nothing is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editing.batching import desk, workers
from editing.batching.work import Setup
from tests.editing import toybatch
from tests.editing.fakes import write_photo
from tests.editing.toycrew import linux, pictures, through, works

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def album(tmp_path):
    for seed in range(5):
        write_photo(tmp_path / "in" / f"{seed}.png", seed)
    return tmp_path / "in"


def descendants(pid: int) -> list[int]:
    """Children of a process and theirs, the living ones."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, front = [], [pid]
    while front:
        front = [child for parent in front for child in parents.get(parent, [])]
        found += front
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(happened, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(album: Path, out: Path, *args, stderr=subprocess.PIPE, **environment) -> subprocess.Popen:
    call = [sys.executable, "-m", "tests.editing.toybatch", str(album), "--aligned", "--set", "smile=0:1:1"]
    return subprocess.Popen(
        [*call, "--workers", "2", "--out", str(out), *args],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"} | environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the suite may run in the background
    )


@linux
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_no_orphans_whatever_ends_the_run(album, tmp_path, signum):
    """As it is started for real, with photos that take a minute: workers end in the middle of one."""
    log = tmp_path / "log"
    process = start(album, tmp_path / "out", TOY_SECONDS="60", TOY_LOG=str(log))
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    family = descendants(process.pid)
    assert {int(line.split()[0]) for line in log.read_text().splitlines()} < set(family)
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # as a terminal does: everybody gets it
    else:
        process.send_signal(signum)
    stderr = process.communicate(timeout=10)[1]
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
    wait_for(lambda: not any(map(alive, family)), 5)
    assert "Traceback" not in stderr
    if signum == signal.SIGINT:
        assert stderr.strip() == "error: Interrupted; nothing half-written was left behind."
    assert not pictures(tmp_path / "out")


KILLED = """
import os, signal, sys
from tests.editing import fakes, toybatch
from editing import batch, session
from editing.faces import saving

replace, end = os.replace, sys.argv.pop(1)

def dies(source, target):
    if str(target).endswith(end):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = dies
session.load_catalogue = lambda *_: fakes.CATALOGUE
batch.make_editor = toybatch.make_editor
batch.main()
"""


@linux
@pytest.mark.parametrize("end", ["report.json", "0.png.inversion", "0.png", "finished.png"])
def test_a_kill_before_any_rename_leaves_nothing_behind(album, tmp_path, end):
    out = tmp_path / "out"
    arguments = [str(album), "--aligned", "--set", "smile=1", "--keep-inversions", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", KILLED, end, *arguments]
    assert subprocess.run(call, env=environment, cwd=ROOT, capture_output=True).returncode == -signal.SIGKILL
    assert not [path for path in out.rglob("*.part") if desk.STATE not in path.parts]
    call[3] = "nothing"
    assert subprocess.run(call, env=environment, cwd=ROOT, capture_output=True).returncode == 0
    assert len(pictures(out)) == 10 and not list(out.rglob("*.part"))


@linux
def test_a_template_that_is_killed_while_it_loads_is_started_again(album, monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "START", "fork")
    once = tmp_path / "once"
    once.write_text("")
    crew_of = workers.Processes(Setup(Mortal(once), {"method": "tune", "seed": 0, "aligned": True}), 1)
    assert len(dict(through(crew_of, works(album)))) == 5 and not once.exists()


class Mortal:
    """make() of a template that is killed the first time."""

    def __init__(self, once: Path) -> None:
        self.once = once

    def __call__(self):
        if self.once.exists():
            self.once.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return toybatch.make_editor()


@linux
def test_twenty_kills_at_random_moments_lose_nothing(tmp_path):
    """Workers, template and the first process are killed while 12 photos become 24 results."""
    album, out = tmp_path / "in", tmp_path / "out"
    for seed in range(12):
        write_photo(album / f"{seed}.png", seed)
    calm = start(album, tmp_path / "calm", TOY_START="fork")
    assert calm.wait(60) == 0
    draw, kills, hit = random.Random(0), 0, {"first": 0, "other": 0}
    for _ in range(60):  # starts: some end before anybody is killed
        if kills == 20:
            break
        with open(tmp_path / "said", "a") as said:
            process = start(album, out, stderr=said, TOY_START="fork", TOY_SECONDS="0.15")
        wait_for(lambda: len(descendants(process.pid)) > 2 or process.poll() is not None)  # noqa: B023
        while process.poll() is None and kills < 20:
            time.sleep(draw.uniform(0.0, 0.25))
            family = descendants(process.pid)
            victim = process.pid if draw.random() < 0.3 or not family else draw.choice(family)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills += 1
            hit["first" if victim == process.pid else "other"] += 1
            if victim == process.pid:
                process.wait(10)
                wait_for(lambda: not any(map(alive, family)), 5)  # noqa: B023
        if process.poll() is None:
            process.wait(60)
        if len(pictures(out)) == 24 and kills < 20:  # all done, and kills left: begin again with some of them gone
            for name in draw.sample(sorted(pictures(out)), 16):
                (out / name).unlink()
    assert kills == 20 and min(hit.values()) >= 4, (hit, (tmp_path / "said").read_text())
    done = start(album, out, TOY_START="fork")
    assert done.wait(60) == 0
    assert pictures(out) == pictures(tmp_path / "calm") and len(pictures(out)) == 24
    assert not list(out.rglob("*.part")) and not list((out / desk.STATE).glob("*finished*"))
    report = json.loads((out / desk.REPORT).read_text())
    assert report["failed"] == report["not_reached"] == 0
