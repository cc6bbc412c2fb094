"""What the tests of the kernels share: the host build, environments and stand-ins for tools."""

import os
import subprocess
from pathlib import Path

from stylegan2.ops import build


def compile_for_the_host(target, *flags):
    """The sources of csrc/ as a library that runs on the CPU; 16-bit types where CUDA's headers are at hand."""
    roots = [Path("/usr/local/cuda")] if build.nvcc() is None else [build.nvcc().parent.parent, Path("/usr/local/cuda")]
    headers = [f"-I{root / 'include'}" for root in roots if (root / "include" / "cuda_fp16.h").exists()]
    command = ["g++", "-x", "c++", "-std=c++17", "-shared", "-fPIC", *headers, *flags]
    subprocess.run([*command, *map(str, build.sources()), "-o", str(target)], check=True)
    return target


def environment(**changes):
    return {name: value for name, value in {**os.environ, **changes}.items() if value is not None}


def script(file: Path, text: str) -> Path:
    """An executable that stands in for a tool."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n" + text)
    file.chmod(0o755)
    return file
