"""Real processes that fail in real ways: interrupted, terminated, disk full, folder not writable."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.editing.fakes import write_photo

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")

COMMAND = """
import importlib, sys, time
from editing import directions, inversion, session
from tests.editing import fakes

def strategy(generator, image, *, callback=None, **options):
    print('inverting', flush=True)
    time.sleep(float(sys.argv[2]))
    return fakes.fake_strategy(generator, image, callback=callback, **options)

session.load_generator = lambda device='cpu': fakes.FakeGenerator()
session.load_catalogue = lambda *_: fakes.CATALOGUE
directions.apply = fakes.fake_apply
inversion.STRATEGIES = {'tune': strategy}
inversion.Budget = fakes.FakeBudget
importlib.import_module(sys.argv[1]).main(sys.argv[3:])
"""


def start(module: str, seconds: float, *args, limit: int | None = None) -> subprocess.Popen:
    def prepare():
        for each in (signal.SIGINT, signal.SIGHUP):  # a suite run in the background inherits "ignore"
            signal.signal(each, signal.SIG_DFL)
        if limit:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, module, str(seconds), *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare if os.name == "posix" else None,
    )


def arguments(module: str, photo: Path, out: Path) -> list:
    source = [photo.parent] if module == "editing.batch" else ["--img", photo]
    change = [] if module == "editing.invert" else ["--set", "smile=2"]
    return [*source, *change, "--aligned", "--out", out]


@posix
@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("module", ["editing.invert", "editing.edit"])
def test_stopped_in_the_middle_nothing_is_left(tmp_path, module, sent, code):
    photo = write_photo(tmp_path / "in" / "a.png")
    process = start(module, 60, *arguments(module, photo, tmp_path / "out"))
    assert process.stdout.readline() == "inverting\n"
    time.sleep(0.1)
    process.send_signal(getattr(signal, sent))
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr and len(stderr.strip().splitlines()) <= 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.png"]


@posix
@pytest.mark.parametrize("module", ["editing.invert", "editing.edit", "editing.batch"])
def test_a_disk_that_takes_no_more_is_one_line_and_no_half_file(tmp_path, module):
    photo = write_photo(tmp_path / "in" / "a.png")
    assert photo.stat().st_size > 12_000
    process = start(module, 0, *arguments(module, photo, tmp_path / "out"), limit=8_000)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.startswith("error: ") and len(stderr.strip().splitlines()) == 1
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size >= 7_000]
    assert left == []
    assert not any(path.suffix in (".png", ".part") for path in (tmp_path / "out").rglob("*"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc takes no folders, not even from root")
@pytest.mark.parametrize("module", ["editing.invert", "editing.edit", "editing.batch"])
def test_a_folder_that_takes_nothing_is_refused_before_the_slow_part(tmp_path, module):
    photo = write_photo(tmp_path / "in" / "a.png")
    process = start(module, 60, *arguments(module, photo, Path("/proc/wplus-out")))
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1 and "inverting" not in stdout
    assert stderr.startswith("error: Cannot") and len(stderr.strip().splitlines()) == 1
