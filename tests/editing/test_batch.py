"""The batch runner: names kept, inputs safe, failures collected, and a kill costs nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from editing import batch, provenance, session
from editing.batching import desk, planning
from editing.faces import photo as photos
from editing.types import Recipe
from stylegan2.errors import UsageError
from tests.editing.fakes import write_photo

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def album(tmp_path):
    """Three photos, one in a sub-folder, and one broken file."""
    folder = tmp_path / "in"
    for seed, name in enumerate(("a.png", "b.jpg", "sub/deep/c.png")):
        write_photo(folder / name, seed)
    (folder / "broken.jpg").write_text("not a picture")
    (folder / "notes.txt").write_text("no photo")
    return folder


def go(command, album, out, *args):
    code, stdout, stderr = command(batch.main, album, "--set", "smile=2", "--aligned", "--json", "--out", out, *args)
    return code, json.loads(stdout) if stdout else None, stderr


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every visible result: its bytes and when it was written."""
    found = (path for path in folder.rglob("*") if path.is_file() and desk.STATE not in path.parts)
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def test_a_report_that_is_somebody_elses_and_a_folder_of_inputs_are_refused(command, toy, album, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / desk.REPORT).write_text("my own")
    code, _, stderr = command(batch.main, album, "--set", "smile=2", "--aligned", "--out", out)
    assert code == 2 and "not from a batch" in stderr and (out / desk.REPORT).read_text() == "my own"
    code, _, stderr = command(batch.main, album, "--set", "smile=2", "--aligned", "--format", "webp", "--out", album)
    assert code == 2 and "choose another folder" in stderr


def test_names_and_folders_are_kept_and_failures_collected(command, toy, album, tmp_path):
    before = files(album)
    code, report, stderr = go(command, album, tmp_path / "out")
    assert code == 1 and "1 of 4 photos failed" in stderr
    assert set(files(tmp_path / "out")) == {"a.png", "b.jpg", "sub/deep/c.png", "report.json"}
    assert (report["done"], report["failed"], report["skipped"]) == (3, 1, 0)
    (failed,) = [result for result in report["results"] if result["status"] == "failed"]
    assert failed["photo"] == "broken.jpg" and "broken.jpg is not a picture" in failed["error"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert files(album) == before
    recipe = provenance.load_recipe(tmp_path / "out" / "b.jpg")
    assert recipe.steps[0].strength == 2 and recipe.photo_sha256 == photos.load(album / "b.jpg").sha256


def test_a_strength_outside_the_safe_range_gets_a_note(command, toy, album, tmp_path):
    _, report, stderr = go(command, album, tmp_path / "out", "--set", "age=9")
    assert report["done"] == 3 and "note: age=9 is outside" in stderr


def test_the_same_pixels_as_the_editor(command, toy, album, tmp_path):
    from editing.session import Editor

    go(command, album, tmp_path / "out")
    editor = Editor()
    editor.set_photo(album / "a.png", aligned=True)
    assert np.array_equal(editor.edit({"smile": 2}).photo.rgb, photos.load(tmp_path / "out" / "a.png").rgb)


def test_a_second_run_does_nothing_again(command, toy, album, tmp_path):
    (album / "broken.jpg").unlink()
    out = tmp_path / "out"
    assert go(command, album, out)[0] == 0
    first = files(out)
    code, report, _ = go(command, album, out)
    assert code == 0 and report["skipped"] == 3 and report["done"] == 0
    second = files(out)
    assert {n: f for n, f in first.items() if n != "report.json"} == {
        n: f for n, f in second.items() if n != "report.json"
    }


def test_only_what_changed_is_done_again(command, toy, album, tmp_path):
    out = tmp_path / "out"
    go(command, album, out)
    write_photo(album / "a.png", seed=77)
    (out / "b.jpg").unlink()
    write_photo(album / "broken.jpg", seed=78)
    code, report, _ = go(command, album, out)
    status = {result["photo"]: result["status"] for result in report["results"]}
    assert code == 0
    assert status == {"a.png": "done", "b.jpg": "done", "broken.jpg": "done", "sub/deep/c.png": "skipped"}
    code, report, _ = go(command, album, out, "--seed", "1")  # other settings: everything again
    assert report["done"] == 4


def test_reports_and_journals_hold_nothing_of_a_face(command, toy, album, tmp_path):
    go(command, album, tmp_path / "out")
    for path in (tmp_path / "out" / "report.json", tmp_path / "out" / desk.STATE / "journal.jsonl"):
        text = path.read_text()
        assert not any(word in text for word in ('"ws"', "quad", "landmarks", "descriptor"))
    assert not list((tmp_path / "out").rglob("*.inversion"))
    go(command, album, tmp_path / "kept", "--keep-inversions")
    assert len(list((tmp_path / "kept").rglob("*.inversion"))) == 3


def test_an_inversion_is_never_written_over_a_file_of_somebody_else(command, toy, album, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png.inversion").write_text("mine")
    code, report, _ = go(command, album, tmp_path / "out", "--keep-inversions")
    failed = [result for result in report["results"] if result["status"] == "failed" and "a.png" in result["photo"]]
    assert code == 1 and "not from this batch" in failed[0]["error"]
    assert (tmp_path / "out" / "a.png.inversion").read_text() == "mine" and not (tmp_path / "out" / "a.png").exists()


def test_inversions_that_an_older_version_kept_are_known_by_their_photo(command, toy, album, tmp_path):
    out = tmp_path / "out"
    go(command, album, out, "--keep-inversions")
    journal = out / desk.STATE / "journal.jsonl"
    kept = [line for line in journal.read_text().splitlines() if ".inversion" not in line]
    journal.write_text("\n".join(kept) + "\n")
    _, report, _ = go(command, album, out, "--keep-inversions", "--seed", "1")
    assert not [result for result in report["results"] if "not from this batch" in result.get("error", "")]
    assert report["done"] == 3


def test_inputs_are_never_written_over(command, toy, album):
    before = files(album)
    code, _, stderr = go(command, album, album)
    assert code == 2 and "choose another folder" in stderr
    code, _, stderr = go(command, album, album / "sub" / "..")
    assert code == 2 and "choose another folder" in stderr
    assert files(album) == before


def test_out_inside_of_in_is_not_searched(command, toy, album):
    out = album / "results"
    assert go(command, album, out)[1]["photos"] == 4
    code, report, _ = go(command, album, out)
    assert report["photos"] == 4 and report["skipped"] == 3


def test_in_inside_of_out_and_a_link_back_are_safe(command, toy, album, tmp_path):
    nested = tmp_path / "in" / "in" / "a.png"  # in/in/a.png would be the result of in/a.png with --out in
    write_photo(nested, 5)
    content = nested.read_bytes()
    go(command, album / "in", album)
    assert nested.read_bytes() == content
    (tmp_path / "link").symlink_to(album, target_is_directory=True)
    code, _, stderr = go(command, album, tmp_path / "link")
    assert code == 2 and "choose another folder" in stderr


def test_strange_files_in_out_are_left_alone(command, toy, album, tmp_path):
    mine = write_photo(tmp_path / "out" / "a.png", 42)
    content = mine.read_bytes()
    code, report, _ = go(command, album, tmp_path / "out")
    failed = {result["photo"]: result["error"] for result in report["results"] if result["status"] == "failed"}
    assert code == 1 and "not from this batch" in failed["a.png"]
    assert mine.read_bytes() == content


def test_names_that_would_collide_are_kept_apart(tmp_path):
    for name in ("a.png", "a.jpg", "b.gif", "B.bmp", "c.heic"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"any")
    places = planning.find_places(tmp_path / "in", tmp_path / "out", "png")
    names = [place.target.name for place in places]
    assert len({name.lower() for name in names}) == len(places) == 5
    assert {"a.png", "a.jpg.png", "c.png"} <= set(names)
    (tmp_path / "in" / "a.jpg.png").write_bytes(b"any")
    with pytest.raises(UsageError, match="2 photos would become"):
        planning.plan_jobs(planning.find_places(tmp_path / "in", tmp_path / "out", "png"), Recipe())


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["{tmp}/nowhere", "--set", "smile=1"], "no folder"),
        (["{tmp}/empty", "--set", "smile=1"], "no photos"),
        (["{tmp}/in"], "Nothing to do"),
        (["{tmp}/in", "--set", "smlie=1"], "did you mean smile"),
        (["{tmp}/in", "--set", "smile=nan"], "finite"),
        (["{tmp}/in", "--set", "smile=1", "--method", "tume"], "did you mean tune"),
        (["{tmp}/in", "--set", "smile=1", "--detector", "cmm"], "cnn"),
        (["{tmp}/in", "--set", "smile=1", "--format", "pngg"], "did you mean png"),
        (["{tmp}/in", "--recipe", "{tmp}/in/notes.txt"], "neither a recipe"),
        (["{tmp}/in", "--set", "smile=1", "--out", "{tmp}/in/notes.txt"], "is a file"),
    ],
)
def test_bad_calls(command, toy, album, tmp_path, args, says):
    (tmp_path / "empty").mkdir()
    code, _, stderr = command(batch.main, *[arg.format(tmp=tmp_path) for arg in args], "--aligned")
    assert code == 2 and says in stderr and len(stderr.strip().splitlines()) == 1


def test_a_full_disk_stops_the_run_in_one_line(command, toy, album, tmp_path, monkeypatch):
    from editing.faces import saving

    real = os.fsync
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) == 3:  # the second photo's picture
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(saving.os, "fsync", full)
    code, _, stderr = go(command, album, tmp_path / "out")
    assert code == 1 and "disk is full: stopped at b.jpg" in stderr and len(stderr.strip().splitlines()) == 1
    assert set(files(tmp_path / "out")) == {"a.png", "report.json"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["done"] == 1 and report["not_reached"] == 3
    monkeypatch.undo()


def test_two_batches_into_one_folder(album, tmp_path):
    first = desk.working_folder(tmp_path / "out")
    second = desk.working_folder(tmp_path / "out")
    with first, pytest.raises(UsageError, match="Another batch"), second:
        pass


SLOW_BATCH = """
import json, sys, time
from pathlib import Path
from editing import batch, directions, session
from editing.batching import planning
from editing.batching.work import Setup
from editing.steps import pin
from tests.editing import fakes
directions.apply = fakes.fake_apply
log = Path(sys.argv[3])

def slow(generator, image, **options):
    with open(log, 'a') as stream:
        stream.write('x')
    time.sleep(float(sys.argv[4]))
    return fakes.fake_strategy(generator, image, **options)

from editing.types import Recipe
editor = session.Editor(fakes.FakeGenerator(), catalogue=fakes.CATALOGUE, strategies={'fake': slow})
recipe = pin(Recipe.from_strengths({'smile': 2}), fakes.CATALOGUE)
jobs = planning.plan_jobs(planning.find_places(Path(sys.argv[1]), Path(sys.argv[2])), recipe)
setup = Setup(lambda: editor, {'method': 'fake', 'seed': 0, 'aligned': True})
report = batch.run(jobs, Path(sys.argv[2]), recipe, setup)
print(json.dumps(report))
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_kill_minus_nine_loses_nothing_and_redoes_nothing(tmp_path):
    for index in range(8):
        write_photo(tmp_path / "in" / f"{index}.png", index)
    out, log = tmp_path / "out", tmp_path / "log"
    call = [sys.executable, "-c", SLOW_BATCH, str(tmp_path / "in"), str(out), str(log)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*call, "0.15"], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.png"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = {name: kept for name, kept in files(out).items() if name.endswith(".png")}
    assert 3 <= len(survived) < 8
    for name in survived:
        photos.load(out / name)  # whole pictures, all of them
    inverted_before = len(log.read_text())

    done = subprocess.run([*call, "0"], env=environment, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["skipped"] == len(survived) and report["done"] == 8 - len(survived) and report["failed"] == 0
    assert len(log.read_text()) - inverted_before == 8 - len(survived)
    after = files(out)
    assert {name: after[name] for name in survived} == survived
    assert {name for name in after if name.endswith(".png")} == {f"{index}.png" for index in range(8)}
    assert not list(out.rglob("*.part")) and not list((out / desk.STATE).glob("*finished*"))


def test_a_journal_line_cut_short_only_costs_its_own_photo(command, toy, album, tmp_path):
    out = tmp_path / "out"
    go(command, album, out)
    journal = out / desk.STATE / "journal.jsonl"
    lines = journal.read_text().rstrip().splitlines()
    journal.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][: len(lines[-1]) // 2])
    (out / "sub" / "deep" / "c.png").unlink()  # as if the kill came before the rename
    _, report, _ = go(command, album, out)
    assert report["skipped"] == 2 and report["done"] == 1
    _, report, _ = go(command, album, out)
    assert report["skipped"] == 3


def test_faces_are_found_ahead_in_a_thread_and_once(command, toy, album, tmp_path, monkeypatch):
    threads, find = [], session.find

    def watched(*args, **options):
        threads.append(threading.get_ident())
        return find(*args, **options)

    monkeypatch.setattr(session, "find", watched)
    _, report, _ = go(command, album, tmp_path / "out")
    assert report["done"] == 3 and len(threads) == 3 and threading.get_ident() not in threads
