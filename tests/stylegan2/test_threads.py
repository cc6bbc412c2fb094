"""Idle threads sleep soon: every package says so before torch is loaded, which reads it once."""

import os
import subprocess
import sys

import pytest

PROBE = """
import importlib, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""
ENTRIES = ("stylegan2.generator", "encoders.train", "hyperstyle.train", "editing.types", "editing.session", "ui.engine")


def policy(module, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("module", ENTRIES)
def test_it_is_set_before_torch_is_loaded(module):
    assert policy(module) == ["passive", "1000"]


def test_what_the_user_chose_stays():
    assert policy("stylegan2.generator", OMP_WAIT_POLICY="active") == ["active", "None"]
    assert policy("stylegan2.generator", OMP_WAIT_POLICY="passive") == ["passive", "None"]
    assert policy("stylegan2.generator", GOMP_SPINCOUNT="5") == ["passive", "5"]
