"""Building the kernels: nvcc and ninja, into the user's cache, once for each state of the sources, compiler and GPU.

Nothing here runs at import or needs PyTorch's headers: the sources have plain C entry points, so a build depends on
the CUDA compiler and the GPU's architecture alone, and takes half a minute.  Processes that want the same build wait
for the first of them.  WplusError, with the compiler's last lines, if it cannot be had.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock

from stylegan2 import zoo
from stylegan2.errors import WplusError

CSRC = Path(__file__).parent / "csrc"
FLAGS = ("-std=c++17", "-O3")
NAME = "wplus_ops.dll" if sys.platform == "win32" else "wplus_ops.so"
LINES = 8  # of the compiler's output, in an error


def sources() -> list[Path]:
    return sorted(CSRC.glob("*.cu"))


def nvcc() -> Path | None:
    """The CUDA compiler: $CUDA_HOME or $CUDA_PATH, the path, the usual place, a wheel (nvidia-cuda-nvcc)."""
    name = "nvcc.exe" if sys.platform == "win32" else "nvcc"
    folders = [Path(os.environ[v]) / "bin" for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    if not folders:
        found = shutil.which("nvcc")
        folders = [Path(found).parent] if found else [Path("/usr/local/cuda/bin")]
        spec = importlib.util.find_spec("nvidia")
        folders += [p for root in (spec.submodule_search_locations or () if spec else ())
                    for p in (*Path(root).glob("cu[0-9]*/bin"), Path(root) / "cuda_nvcc" / "bin")]  # fmt: skip
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def ninja() -> Path | None:
    """The ninja of this environment's wheel, or the system's."""
    beside = shutil.which("ninja", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("ninja")
    return Path(found) if found else None


def release(compiler: Path) -> str:
    """'13.0', of the compiler."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    except OSError as error:
        raise WplusError(f"{compiler} does not run: {error.strerror or error}") from None
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    if done.returncode or not found:
        raise WplusError(f"{compiler} does not run: {_last(done.stderr or done.stdout)}")
    return found[1]


def here() -> list[str]:
    """The architectures of the GPUs in this machine: ['90'].  WplusError if this PyTorch sees none."""
    if not torch.cuda.is_available():
        raise WplusError("This PyTorch sees no CUDA device.")
    return sorted({"{}{}".format(*torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())})


def folder(architectures: Sequence[str], version: str) -> Path:
    """Where a build lies in the cache, by all that it depends on."""
    digest = hashlib.sha256(" ".join((*FLAGS, sys.platform, platform.machine())).encode())
    for file in sorted(CSRC.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return zoo.home() / zoo.KERNELS / f"sm{'-'.join(architectures)}-cuda{version}-{digest.hexdigest()[:12]}"


def script(architectures: Sequence[str], compiler: Path) -> str:
    """The build.ninja that compiles every source beside itself and links them."""
    targets = " ".join(f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures)
    host = "" if sys.platform == "win32" else "-Xcompiler -fPIC,-fvisibility=hidden"
    suffix = "obj" if sys.platform == "win32" else "o"

    def quoted(path: Path) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    lines = [
        f"nvcc = {compiler}",
        f"flags = {' '.join(FLAGS)} {targets} {host}",
        'rule compile\n  command = "$nvcc" $flags -c $in -o $out',
        'rule link\n  command = "$nvcc" -shared $flags $in -o $out',
        *(f"build {file.stem}.{suffix}: compile {quoted(file)}" for file in sources()),
        f"build {NAME}: link {' '.join(f'{file.stem}.{suffix}' for file in sources())}",
        f"default {NAME}",
    ]
    return "\n".join(lines) + "\n"


def ready(architectures: Sequence[str], version: str) -> Path | None:
    """A finished build of these sources that covers them, made for more GPUs perhaps; version '*': any compiler's."""
    for file in sorted((zoo.home() / zoo.KERNELS).glob(f"{folder('*', version).name}/{NAME}")):
        if set(architectures) <= set(file.parent.name.split("-cuda")[0].removeprefix("sm").split("-")):
            return file
    return None


def build(*architectures: str) -> Path:
    """The library for these architectures ('80', '90'), from the cache or built now."""
    compiler, maker = nvcc(), ninja()
    found = ready(architectures, release(compiler) if compiler else "*")
    if found is not None:
        return found
    if compiler is None:
        wheels = "nvidia-cuda-nvcc, nvidia-cuda-runtime and nvidia-cuda-cccl"
        raise WplusError(f"No CUDA compiler (nvcc) was found: install the CUDA toolkit, or {wheels} with pip.")
    target = folder(architectures, release(compiler)) / NAME
    if maker is None:
        raise WplusError("ninja was not found: `pip install ninja`.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent.with_suffix(".lock")):
            if not target.exists():  # another process may have been quicker
                _make(target, architectures, compiler, maker)
    except OSError as error:
        text = f"The kernels cannot be written to {target.parent}: {error.strerror or error}."
        raise WplusError(f"{text} WPLUS_HOME names another folder.") from None
    return target


def _make(target: Path, architectures: Sequence[str], compiler: Path, maker: Path) -> None:
    for left in target.parent.glob(".build-*"):  # by a process that was killed: nobody else is here
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as work:
        Path(work, "build.ninja").write_text(script(architectures, compiler))
        done = subprocess.run([maker, "-C", work], capture_output=True, text=True)
        if done.returncode:
            raise WplusError(f"The CUDA compiler failed: {_last(done.stdout + done.stderr)}")
        os.replace(Path(work, NAME), target)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-LINES:])
