"""The allocator knob: guarded, switchable, and it really changes how large blocks are served."""

import os
import subprocess
import sys

import pytest

PROBE = """
import ctypes, sys
from stylegan2.allocator import tune_allocator
print(tune_allocator())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
block = libc.malloc(200 << 20)
heap = [line for line in open('/proc/self/maps') if line.rstrip().endswith('[heap]')]
low, high = (int(x, 16) for x in heap[0].split()[0].split('-'))
print(low <= block < high)
"""

glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.confstr_names.get("CS_GNU_LIBC_VERSION") is None,
    reason="only glibc has these knobs",
)


def probe(**environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@glibc
def test_large_blocks_come_from_the_heap_instead_of_fresh_mappings():
    assert probe() == ["True", "True"]


@glibc
def test_it_can_be_switched_off():
    assert probe(WPLUS_ALLOCATOR="off") == ["False", "False"]


def test_other_systems_are_left_alone(monkeypatch):
    from stylegan2 import allocator

    monkeypatch.setattr(allocator.sys, "platform", "win32")
    assert allocator.tune_allocator() is False
