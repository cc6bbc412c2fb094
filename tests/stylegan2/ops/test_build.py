"""Building: the real compiler where there is one, and everything that can be wrong with it, down to the same pictures.

No GPU is needed: where a tensor on a GPU would ask for kernels, these tests ask.
"""

import ctypes
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from stylegan2 import zoo
from stylegan2.errors import WplusError
from stylegan2.ops import build, library
from tests.stylegan2.ops.toolkit import compile_for_the_host, environment, script

needs_nvcc = pytest.mark.skipif(build.nvcc() is None or build.ninja() is None, reason="no nvcc or no ninja here")
FAKE_NVCC = """
case "$1" in --version) echo "Cuda compilation tools, release 13.0, V13.0.1"; exit 0;; esac
echo run >> "$(dirname "$0")/runs"
sleep 0.2
while [ $# -gt 1 ]; do [ "$1" = -o ] && cp "$LIBRARY" "$2"; shift; done
"""


@pytest.fixture
def toolkit(tmp_path, monkeypatch, host):
    """A CUDA toolkit whose compiler hands out the host build, and counts how often it ran."""
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("LIBRARY", str(host.path))
    return script(tmp_path / "cuda" / "bin" / "nvcc", FAKE_NVCC)


def runs(toolkit):
    file = toolkit.parent / "runs"
    return len(file.read_text().split()) if file.exists() else 0


def first_use(monkeypatch, device="cpu"):
    """What a first tensor on a GPU sets off, on this machine: the library or None, and the warnings."""
    monkeypatch.setattr(build, "here", lambda: ["90"])
    check = library.check
    monkeypatch.setattr(library, "check", lambda found, _: check(found, device))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = library.get("cuda")
        assert library.get("cuda") is found  # asked once
    return found, [str(w.message) for w in caught]


@needs_nvcc
def test_nvcc_compiles_the_kernels_and_the_library_answers(empty_cache):
    path = build.build("75", "90")
    assert path.is_relative_to(empty_cache) and "sm75-90" in path.parent.name
    found = library.Library(path)
    assert found.on_device and torch.bfloat16 in found.types
    entry = ctypes.CDLL(str(path)).wplus_error
    entry.restype, entry.argtypes = ctypes.c_char_p, [ctypes.c_int32]
    assert entry(0) == b"no error" and entry(-1) == b"no kernel for this call" and b"driver" in entry(35)
    assert sorted(p.name for p in path.parent.iterdir()) == [build.NAME]  # no objects, no half-built folders


@needs_nvcc
@pytest.mark.slow
def test_the_kernels_spill_nothing_worth_mentioning(tmp_path):
    """Registers that go to memory would cost the bandwidth that the kernels are there to save."""
    for source in (source for source in build.sources() if source.stem != "device"):  # which has no kernels
        command = [build.nvcc(), *build.FLAGS, "-gencode=arch=compute_90,code=sm_90", "-Xptxas", "-v", "-cubin"]
        done = subprocess.run([*command, source, "-o", tmp_path / "x"], capture_output=True, text=True, check=True)
        spills = re.findall(r"(\d+) bytes spill stores", done.stderr)
        assert spills and max(map(int, spills)) <= 16, f"{source.name}: {max(map(int, spills))} bytes"


def test_a_build_is_kept_and_made_again_when_its_sources_change(empty_cache, toolkit, monkeypatch, tmp_path):
    first = build.build("90")
    once = runs(toolkit)
    assert once == len(build.sources()) + 1  # and a link
    assert build.build("90") == first and runs(toolkit) == once
    assert build.build("80") != first
    both = build.build("70", "75")  # made ahead of time for several: serves each of them, also without a compiler
    assert build.build("75") == both
    with monkeypatch.context() as without:
        without.setattr(build, "nvcc", lambda: None)
        assert build.build("70") == both
    changed = shutil.copytree(build.CSRC, tmp_path / "csrc")
    (changed / "core.h").write_text((changed / "core.h").read_text() + "\n// another\n")
    monkeypatch.setattr(build, "CSRC", changed)
    assert build.build("90") != first


def test_a_kernel_library_from_the_cache_is_used(empty_cache, toolkit, monkeypatch):
    found, said = first_use(monkeypatch)
    assert isinstance(found, library.Library) and found.path.is_relative_to(empty_cache) and said == []


def broken(found, said, *parts):
    assert found is None and len(said) == 1
    for part in ("CUDA kernels are not in use", "WPLUS_OPS=reference", *parts):
        assert part in said[0], said[0]


def test_without_nvcc_everything_goes_on_with_one_warning(empty_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nothing"))
    broken(*first_use(monkeypatch), "No CUDA compiler (nvcc) was found", "nvidia-cuda-nvcc")


def test_a_compiler_that_fails_shows_its_last_lines(empty_cache, toolkit, monkeypatch):
    script(toolkit, FAKE_NVCC.replace("sleep 0.2", 'echo "core.h(7): error: unknown architecture" >&2; exit 2'))
    broken(*first_use(monkeypatch), "The CUDA compiler failed", "core.h(7): error: unknown architecture")
    assert not list(empty_cache.rglob(build.NAME)) and not list(empty_cache.rglob(".build-*"))


def test_a_compiler_that_does_not_run(empty_cache, toolkit, monkeypatch):
    script(toolkit, "echo 'cannot open shared object file' >&2\nexit 127\n")
    broken(*first_use(monkeypatch), "does not run", "cannot open shared object file")
    monkeypatch.setattr(library, "_libraries", {})
    toolkit.write_bytes(b"neither a script nor a program")
    broken(*first_use(monkeypatch), "does not run", "Exec format error")


def test_without_ninja(empty_cache, toolkit, monkeypatch):
    monkeypatch.setattr(build, "ninja", lambda: None)
    broken(*first_use(monkeypatch), "pip install ninja")


def test_a_cache_that_cannot_be_written(toolkit, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")  # a folder cannot be made below a file, not even by root
    monkeypatch.setenv("WPLUS_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(library, "_libraries", {})
    broken(*first_use(monkeypatch), "cannot be written", "WPLUS_HOME")


def test_a_library_that_is_none_or_computes_nonsense(empty_cache, toolkit, monkeypatch):
    path = build.build("90")
    path.write_bytes(b"not a library")
    broken(*first_use(monkeypatch), str(path))
    monkeypatch.setattr(library, "_libraries", {})
    path.unlink()
    monkeypatch.setattr(library.Library, "inverse_haar", lambda self, x, gain: x.new_zeros(2, 2, 74, 142))
    broken(*first_use(monkeypatch), "inverse_haar", "something else")


def test_a_torch_without_cuda_says_so(empty_cache, toolkit, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WplusError, match="sees no CUDA device"):
        build.here()


def test_nvcc_of_a_wheel_is_found_where_there_is_no_toolkit(monkeypatch, tmp_path):
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler = script(tmp_path / "site" / "nvidia" / "cu13" / "bin" / "nvcc", "exit 0")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    usual = Path("/usr/local/cuda/bin/nvcc")
    assert build.nvcc() == (usual if usual.exists() else compiler)
    own = script(tmp_path / "nvcc", "exit 0")
    assert build.nvcc() == own  # the path comes first


def test_builds_go_when_the_cache_is_cleared(empty_cache, toolkit):
    path = build.build("90")
    zoo.clear()
    assert not path.parent.exists()


def test_the_switch_leaves_the_kernels_alone(empty_cache, toolkit, monkeypatch):
    monkeypatch.setenv("WPLUS_OPS", "reference")
    assert first_use(monkeypatch) == (None, []) and runs(toolkit) == 0


def test_processes_at_once_build_once(empty_cache, toolkit):
    code = "from stylegan2.ops import build; print(build.build('90'))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate()[0].strip() for process in started}
    assert len(found) == 1 and found.pop().endswith(build.NAME) and all(p.returncode == 0 for p in started)
    assert runs(toolkit) == len(build.sources()) + 1


def test_a_build_that_is_killed_leaves_nothing_in_the_way(empty_cache, toolkit):
    process = subprocess.Popen([sys.executable, "-c", "from stylegan2.ops import build; build.build('90')"])
    while not runs(toolkit):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert build.build("90").exists()


def test_the_command_line(empty_cache, toolkit):
    def command(*arguments, **changes):
        full = [sys.executable, "-m", "stylegan2.ops", *arguments]
        return subprocess.run(full, capture_output=True, text=True, env=environment(**changes))

    done = command("build", "--arch", "90")
    assert done.returncode == 0 and done.stdout.strip().endswith(build.NAME)
    done = command("info")
    assert done.returncode == 0 and "13.0" in done.stdout and "sm90-cuda13.0" in done.stdout
    assert command("build", "--arch", "90", CUDA_HOME="/nowhere").returncode == 0  # it is there already
    done = command("build", "--arch", "80", CUDA_HOME="/nowhere")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "nvcc" in done.stderr
    if not torch.cuda.is_available():
        done = command("bench")
        assert done.returncode == 1 and "GPU" in done.stderr
        done = command("build")
        assert done.returncode == 1 and "sees no CUDA device" in done.stderr


def test_no_thread_reads_or_writes_outside_its_tensors(tmp_path):
    """The kernels' own index arithmetic under an address sanitizer: buffers of exactly the right size, no torch."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    sanitizer = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if "/" not in sanitizer:
        pytest.skip("no address sanitizer here")
    target = compile_for_the_host(tmp_path / "sanitized.so", "-O1", "-g", "-fsanitize=address,undefined")
    (tmp_path / "calls.json").write_text(json.dumps(CALLS))
    settings = environment(LD_PRELOAD=sanitizer, ASAN_OPTIONS="detect_leaks=0")
    program = [sys.executable, "-c", SANITIZED, str(target), str(tmp_path / "calls.json")]
    done = subprocess.run(program, capture_output=True, text=True, env=settings)
    assert done.returncode == 0 and "ERROR" not in done.stderr and "runtime error" not in done.stderr, done.stderr[
        -3000:
    ]
    assert done.stdout.strip() == f"{len(CALLS)} calls"
    broken = subprocess.run([*program, "short"], capture_output=True, text=True, env=settings)
    assert "heap-buffer-overflow" in broken.stderr  # it would have been seen


# type code, batch, channels, height, width, up, down, padding, taps, channels_last
CALLS = [
    [type_code, batch, channels, height, width, up, down, padding, taps, last]
    for type_code in (0, 1, 2)
    for batch, channels, height, width in ((1, 8, 9, 9), (2, 3, 33, 125), (1, 8, 64, 257), (2, 16, 5, 1))
    for up, down in ((1, 1), (2, 1), (1, 2), (3, 2))
    for padding, taps in ((3, 4), (1, 1), (2, 3))
    for last in (0, 1)
]
SANITIZED = """
import ctypes, json, sys
from ctypes import c_double, c_int32, c_int64, c_void_p
library = ctypes.CDLL(sys.argv[1])
call, act = library.wplus_upfirdn2d, library.wplus_bias_act
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, malloc.argtypes, free.argtypes = c_void_p, [ctypes.c_size_t], [c_void_p]
call.argtypes = ([c_int32] + [c_void_p] * 3 + [c_int64] * 6 + [c_int32] * 10 + [c_double, c_int32] + [c_void_p] * 3
                 + [c_int64] + [c_double] * 3 + [c_void_p])
act.argtypes = [c_int32] * 2 + [c_void_p] * 5 + [c_int64] * 3 + [c_int32] + [c_double] * 3 + [c_int32, c_void_p]
done = 0
for kind, batch, channels, height, width, up, down, padding, taps, last in json.load(open(sys.argv[2])):
    size = {0: 4, 1: 8, 2: 2}[kind]
    out_h = (height * up + 2 * padding - taps) // down + 1
    out_w = (width * up + 2 * padding - taps) // down + 1
    ins, outs = batch * channels * height * width, batch * channels * out_h * out_w
    short = len(sys.argv) > 3
    x, y, fir = malloc(ins * size - short), malloc(outs * size), malloc(taps * taps * max(size, 4))
    ctypes.memset(x, 0, ins * size - short), ctypes.memset(fir, 0, taps * taps * max(size, 4))
    sizes = (batch, channels, height, width, out_h, out_w, up, up, down, down, padding, padding, taps, taps)
    code = call(kind, x, fir, y, *sizes, 0, last, 1.0, 0, None, None, None, 0, 0.0, 1.0, -1.0, None)
    b = malloc(channels * size)
    ctypes.memset(b, 0, channels * size)
    step = 1 if last else out_h * out_w
    code2 = act(kind, 0, y, b, None, None, y, outs, step, channels, 2, 0.2, 1.4, -1.0, 0, None)
    for pointer in (x, y, fir, b):
        free(pointer)
    done += code in (0, -1) and code2 in (0, -1)
print(done, "calls")
"""
