"""Batches on a Ray cluster: the same files and report as by the workers of this machine, and nothing leaves it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from editing import batch
from editing.batching import cluster, crew, workers
from editing.batching.work import Setup
from stylegan2.errors import UsageError, WeightsMissing
from tests.editing import toybatch
from tests.editing.fakes import write_photo
from tests.editing.test_batch import go
from tests.editing.toycrew import linux, pictures, threads, trap, works

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
connect = cluster.connect  # the fixture puts another in its place
OPTIONS = {"method": "tune", "seed": 0, "aligned": True}


@pytest.fixture
def album(tmp_path):
    for seed in range(5):
        write_photo(tmp_path / "in" / f"{seed}.png", seed)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def started():
    """One Ray of two CPUs for this module; a run that asks for 'local' finds it, and leaves it running."""
    if (
        importlib.util.find_spec("ray") is None
    ):  # not importorskip: what `connect` sets has to be there before the import
        pytest.skip("needs the package ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        ray = cluster.connect("local", 2)
        patch.setattr(cluster, "connect", lambda *_: ray)
        patch.setattr(ray, "shutdown", lambda: None)
        yield ray
    ray.shutdown()


def addresses() -> set[str]:
    """Local addresses of listening TCP sockets of Ray's processes, as /proc writes them."""
    sockets = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray" in (place / "cmdline").read_bytes():
                sockets |= {os.readlink(handle) for handle in (place / "fd").iterdir()}
        except OSError:
            continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].rpartition(":")[0])
    return found


def editor():
    return toybatch.make_editor()


def no_weights():
    raise WeightsMissing("The weights are not on this machine yet.")


def edited(started, album, make=editor, count=2):
    crew_of = cluster.Cluster("local", Setup(make, OPTIONS), count)
    try:
        return {work.name: answer for work, answer in crew.together(works(album), crew_of)}
    finally:
        crew_of.close()


@linux
def test_the_same_files_and_report_as_by_local_workers(command, toy, started, album, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "START", "fork")
    monkeypatch.setattr(batch, "make_editor", toybatch.make_editor)
    (album / "broken.png").write_text("no picture")
    reports = {}
    for name, extra in (("workers", ()), ("ray", ("--ray", "local"))):
        args = ("--set", "age=0:1:1", "--keep-inversions", "--workers", 2, *extra)
        with threads(2):
            code, report, _ = go(command, album, tmp_path / name, *args)
        assert code == 1 and (report["workers"], report["threads"]) == (2, 1)
        reports[name] = [{k: v for k, v in r.items() if k not in ("seconds", "output")} for r in report["results"]]
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "workers") and len(pictures(tmp_path / "ray")) == 15
    assert reports["ray"] == reports["workers"]


def test_a_worker_that_is_killed_is_replaced(started, album, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        trap(patch, tmp_path, album / "2.png", times=1)
        once = edited(started, album, Trapped(os.environ["TOY_DEADLY"]))
    assert len(once) == 5 and not any(answer.error for answer in once.values())
    calm = edited(started, album)
    assert {name: answer.content for name, answer in calm.items()} == {n: a.content for n, a in once.items()}


class Trapped:
    """editor() in a process that has TOY_DEADLY."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self):
        os.environ["TOY_DEADLY"] = self.folder
        return toybatch.make_editor()


def test_a_worker_that_cannot_start_says_why(started, album):
    with pytest.raises(Exception, match="A Ray worker could not start: The weights are not on this machine yet."):
        edited(started, album, no_weights)


@linux
def test_nobody_else_can_reach_it_and_it_does_not_phone_home(started):
    heard = addresses()
    assert heard and heard <= LOOPBACK
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@linux
def test_the_command_finds_a_cluster_that_runs(started, album, tmp_path):
    call = [sys.executable, "-m", "tests.editing.toybatch", str(album), "--set", "smile=1", "--aligned"]
    done = subprocess.run(
        [*call, "--out", str(tmp_path / "out"), "--ray", "auto"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert len(pictures(tmp_path / "out")) == 5
    assert '"workers": "all"' in (tmp_path / "out" / "report.json").read_text()


def test_no_cluster_there_is_one_sentence(monkeypatch):
    class NoRay:
        def init(self, **options):
            raise ConnectionError("Nobody answers.\nMuch more about that.")

    monkeypatch.setitem(sys.modules, "ray", NoRay())
    with pytest.raises(UsageError, match="^There is no Ray cluster at 'auto': Nobody answers.$"):
        connect("auto")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:x"):
        with pytest.raises(UsageError, match=f"^There is no Ray cluster at '{address}': "):
            connect(address)


def test_without_the_package_it_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'wplus\[ray\]'"):
        connect("local")
