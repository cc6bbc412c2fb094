"""Batches by several processes: the same files, one copy of the weights, and whoever is killed costs nothing."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from editing import batch
from editing.batching import workers
from editing.batching.work import Order, Setup, Work
from editing.faces import photo as photos
from tests.editing import fakes, toybatch
from tests.editing.fakes import write_photo
from tests.editing.test_batch import go
from tests.editing.toycrew import linux, pictures, threads, through, trap, works


@pytest.fixture
def forked(toy, monkeypatch):
    """Workers with toys, as forks of this process: no second of waiting for a fresh interpreter."""
    monkeypatch.setattr(workers, "START", "fork")
    monkeypatch.setattr(batch, "make_editor", toybatch.make_editor)


@pytest.fixture
def album(tmp_path):
    for seed in range(5):
        write_photo(tmp_path / "in" / f"{seed}.png", seed)
    return tmp_path / "in"


# ------------------------------------------------------------------------------------------- the same files


@linux
def test_two_workers_make_the_same_files(command, forked, album, tmp_path):
    (album / "broken.png").write_text("no picture")
    args = ("--set", "age=-1:1:1", "--keep-inversions")
    reports = {}
    for count in (1, 2):  # the suite may run with several threads: one for each worker, and one here
        batch_threads = count
        with threads(batch_threads):
            code, report, _ = go(command, album, tmp_path / f"out{count}", *args, "--workers", count)
        assert code == 1 and (report["workers"], report["threads"]) == (count, 1)
        reports[count] = [{k: v for k, v in r.items() if k not in ("seconds", "output")} for r in report["results"]]
    assert pictures(tmp_path / "out1") == pictures(tmp_path / "out2")
    assert len(pictures(tmp_path / "out1")) == 5 * 4
    assert reports[1] == reports[2]
    assert [r["threads"] for r in reports[2] if r["status"] == "done"] == [1] * 15
    code, report, _ = go(command, album, tmp_path / "out2", *args, "--workers", 3)
    assert (report["skipped"], report["done"], report["failed"]) == (15, 0, 3)


class Pull:
    """In the mapper's place, for toys of four numbers: every thing wanted shifts one of them."""

    sha256 = "0" * 64

    def __call__(self, ws, wants, strength=1.0, age=None):
        moved = ws.clone()
        moved[..., 0] += 0.2 * strength * sum(wants.values()) + 0.001 * (age or 0)
        return moved


@linux
def test_a_sentence_is_read_once_whoever_draws_it(command, forked, album, tmp_path, monkeypatch):
    from editing.text import mapper, reading

    reader, pull, texts = reading.load(), Pull(), []
    monkeypatch.setattr(reading, "load", lambda: SimpleNamespace(read=lambda t: texts.append(t) or reader.read(t)))
    monkeypatch.setattr(mapper, "load", lambda: pull)
    said = ("--text", "give her red hair")
    for count in (1, 2):
        with threads(count):
            code, report, stderr = go(command, album, tmp_path / f"out{count}", *said, "--workers", count)
        assert code == 0, stderr
        assert [s["parameters"]["wants"] for s in report["recipe"]["steps"] if s["op"] == "text"] == [{"red_hair": 1.0}]
    assert pictures(tmp_path / "out1") == pictures(tmp_path / "out2")
    assert texts == ["give her red hair"] * 2
    go(command, album, tmp_path / "plain")
    assert not pictures(tmp_path / "plain").items() & pictures(tmp_path / "out1").items()
    code, report, _ = go(command, album, tmp_path / "out2", *said, "--workers", 2)
    assert (report["skipped"], report["done"]) == (5, 0)
    code, report, _ = go(command, album, tmp_path / "out2", "--text", "give her a beard", "--workers", 2)
    assert code == 0 and report["skipped"] == 0  # another sentence is another batch


BROKEN = {
    "empty.jpg": b"",
    "text.png": b"not a picture",
    "video.webp": b"\x00\x00\x00\x20ftypisom" + bytes(64),
    "zeros.tif": bytes(4096),
    "html.jpeg": b"<html><body>404</body></html>",
    "header.png": b"\x89PNG\r\n\x1a\n" + bytes(20),
    "gif.gif": b"GIF89a",
}


@linux
@pytest.mark.parametrize("count", [1, 2])
def test_two_hundred_photos_of_which_ten_are_broken(command, forked, tmp_path, count):
    album = tmp_path / "in"
    for index in range(190):
        write_photo(album / f"{index:03d}.png", index, size=64)
    for name, content in BROKEN.items():
        (album / name).write_bytes(content)
    whole = (album / "000.png").read_bytes()
    (album / "cut.png").write_bytes(whole[: len(whole) // 2])
    wide = photos.from_rgb(photos.load(album / "001.png").rgb[:40])  # no aligned face: not square
    photos.save(wide, album / "wide.png")
    (album / "folder.png").symlink_to(tmp_path / "nowhere")
    code, report, stderr = go(command, album, tmp_path / "out", "--workers", count)
    assert code == 1 and "10 of 200 photos failed" in stderr
    assert (report["done"], report["failed"], report["not_reached"]) == (190, 10, 0)
    failures = [result for result in report["results"] if result["status"] == "failed"]
    assert {failure["photo"] for failure in failures} == {*BROKEN, "cut.png", "wide.png", "folder.png"}
    assert all("\n" not in f["error"] and "unexpected" not in f["error"] and len(f["error"]) > 10 for f in failures)
    assert len(pictures(tmp_path / "out")) == 190


# ------------------------------------------------------------------------------------------ workers that end


@linux
def test_a_photo_whose_worker_was_killed_goes_to_another(command, forked, album, tmp_path, monkeypatch):
    trap(monkeypatch, tmp_path, album / "2.png", times=1)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    code, report, _ = go(command, album, tmp_path / "out", "--workers", 2)
    assert code == 0 and report["done"] == 5
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 6 and len({red for _, red in lines}) == 5
    assert len({pid for pid, _ in lines}) == 3  # two, and the replacement
    monkeypatch.delenv("TOY_DEADLY")
    go(command, album, tmp_path / "calm", "--workers", 2)
    assert pictures(tmp_path / "calm") == pictures(tmp_path / "out")


@linux
@pytest.mark.parametrize("count", [1, 2])
def test_a_photo_that_kills_two_workers_has_failed_and_the_others_have_not(album, tmp_path, monkeypatch, toy, count):
    trap(monkeypatch, tmp_path, album / "2.png", times=9)
    setup = Setup(toybatch_editor, {"method": "tune", "seed": 0, "aligned": True})
    monkeypatch.setattr(workers, "START", "fork")
    crew_of = workers.Processes(setup, count)
    got = dict(through(crew_of, works(album)))
    assert sorted(got) == [f"{index}.png" for index in range(5)]
    assert [name for name, answer in got.items() if answer.error] == ["2.png"]
    assert got["2.png"].error == "2.png ended its worker 2 times: too large?"


def toybatch_editor():
    return toybatch.make_editor()


@linux
def test_results_that_came_before_the_worker_ended_are_not_made_again(album, monkeypatch):
    """Two of three answers came: the next worker gets an order for the third alone."""
    from editing.batching import crew
    from editing.batching.work import Answer

    class Script:
        """A crew whose first worker ends after two answers."""

        hired, given, queue = 0, [], []

        def hire(self, count=None):
            self.hired += 1
            return [f"worker {self.hired}"]

        def give(self, worker, work):
            self.given.append([order.number for order in work.orders])
            answers = [Answer(order.number, b"x") for order in work.orders]
            self.queue += [(worker, a) for a in (answers if worker == "worker 2" else [*answers[:2], None])]

        def wait(self):
            return [self.queue.pop(0)]

    order = [Order(number, None, ".png") for number in range(3)]
    script = Script()
    done = [answer.number for _, answer in crew.together([Work("a", b"", "", tuple(order), {})], script)]
    assert done == [0, 1, 2] and script.given == [[0, 1, 2], [2]] and script.hired == 2


@linux
def test_a_worker_that_cannot_start_says_why_in_one_line(command, forked, album, tmp_path, monkeypatch):
    from stylegan2.errors import WeightsMissing

    def missing(*_):
        raise WeightsMissing("The weights are not on this machine yet.")

    class Lazy(fakes.FakeGenerator):
        synthesis = missing

    editor = toybatch.make_editor()
    calls = []

    def make(*_):  # the first is the command line's own, which loads no weights
        calls.append(1)
        return editor if len(calls) == 1 else missing()

    monkeypatch.setattr(batch, "make_editor", make)
    code, _, stderr = go(command, album, tmp_path / "out", "--workers", 2)
    assert code == 1 and stderr.strip() == "error: The weights are not on this machine yet."


@linux
def test_nobody_is_started_when_all_is_done(command, forked, album, tmp_path, monkeypatch):
    go(command, album, tmp_path / "out", "--workers", 2)
    monkeypatch.setattr(workers.Processes, "hire", lambda *_: pytest.fail("hired"))
    code, report, _ = go(command, album, tmp_path / "out", "--workers", 2)
    assert code == 0 and report["skipped"] == 5


# ------------------------------------------------------------------------------------------- shared memory


def megabytes(pid: int, kinds: str) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


class Heavy(fakes.FakeGenerator):
    """A toy with 256 MB of weights that every render reads."""

    def __init__(self):
        import torch

        self.weights = torch.rand(64 << 20)

    def synthesis(self, ws, **options):
        return super().synthesis(ws, **options) + 0 * self.weights.sum()


def heavy_editor():
    editor = toybatch.make_editor()
    editor._generator = Heavy()
    return editor


def measured(setup: Setup, album: Path, shared: bool) -> list[float]:
    """Private megabytes of two workers that have each done a photo or more."""
    crew_of = workers.Processes(setup, 2, shared)
    private = []
    try:
        for _ in through_open(crew_of, works(album)):
            private = [megabytes(worker.pid, ("Private_",)) for worker in crew_of.crew]
    finally:
        crew_of.close()
    return private


def through_open(crew_of, photos_to_do):
    from editing.batching import crew

    yield from crew.together(photos_to_do, crew_of)


@linux
def test_workers_share_one_copy_of_the_weights(album, monkeypatch):
    monkeypatch.setenv("TOY_SECONDS", "0.05")
    setup = Setup(heavy_editor, {"method": "tune", "seed": 0, "aligned": True})
    shared, alone = measured(setup, album, shared=True), measured(setup, album, shared=False)
    print(f"private megabytes of two workers, sharing {shared}, alone {alone}")
    assert len(shared) == len(alone) == 2
    assert max(shared) < 100 and min(alone) > 256
