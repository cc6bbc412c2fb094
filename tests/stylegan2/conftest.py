"""The kernels compiled as ordinary C++, so that every index they compute is tested on a machine without a GPU."""

import shutil

import pytest
import torch

from stylegan2.ops import library
from tests.stylegan2.ops.toolkit import compile_for_the_host


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    return library.Library(compile_for_the_host(tmp_path_factory.mktemp("host") / "wplus_ops.so", "-O1"))


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """A device with compiled kernels in use: the CPU with the host build, and the GPU where there is one."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU")
        assert library.get("cuda") is not None
        yield "cuda"
    else:
        with library.using("cpu", request.getfixturevalue("host")):
            yield "cpu"


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache of this test's own, and nothing known of libraries."""
    monkeypatch.setenv("WPLUS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "_libraries", {})
    return tmp_path / "cache"
