"""Fixtures for the whole test suite."""

import stylegan2  # noqa: F401  before torch: see there

# isort: split
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


class Golden:
    """A reference network as figures: its tensors and inputs are redrawn, its outputs compared at sampled places.

    Every array is offset + scale * N in float32, N standard normal from a PCG64 generator seeded with the
    CRC-32 of salt + name (absolute values of N where the entry says "abs").  Inputs are drawn under the
    name 'input:<argument>'.  Entries may instead carry literal values, be zero counters of an integer
    type, or be an alias of another tensor.  Outputs list values at flat indices, with a tolerance each.
    """

    def __init__(self, name):
        self.figures = json.loads((GOLDEN / f"{name}.json").read_text())

    def _array(self, entry, prefix, known):
        if "alias_of" in entry:
            return known[entry["alias_of"]]
        if "values" in entry:
            return torch.from_numpy(np.array(entry["values"], entry.get("dtype", "float32")).reshape(entry["shape"]))
        if "dtype" in entry:
            return torch.from_numpy(np.zeros(entry["shape"], entry["dtype"]))
        seed = zlib.crc32((self.figures["salt"] + prefix + entry["name"]).encode())
        rng = np.random.Generator(np.random.PCG64(seed))
        drawn = np.asarray(rng.standard_normal(size=tuple(entry["shape"]), dtype=np.float32))
        drawn = np.abs(drawn) if entry.get("abs") else drawn
        return torch.from_numpy(np.asarray(np.float32(entry["offset"]) + np.float32(entry["scale"]) * drawn))

    def shapes(self):
        """Every tensor's name -> shape, without drawing it."""
        return {entry["name"]: tuple(entry["shape"]) for entry in self.figures["tensors"]}

    def state(self, prefix=""):
        """The state dict, or the part of it whose names start with `prefix` (names kept whole)."""
        state = {}
        for entry in self.figures["tensors"]:
            if entry["name"].startswith(prefix):
                state[entry["name"]] = self._array(entry, "", state)
        return state

    @property
    def extra(self):
        return {entry["name"]: self._array(entry, "", {}) for entry in self.figures.get("extra_tensors", [])}

    @property
    def inputs(self):
        return {entry["name"]: self._array(entry, "input:", {}) for entry in self.figures["inputs"]}

    def check(self, output, tensor):
        """Compare with the recorded output within its tolerance; returns the largest difference seen."""
        entry = next(entry for entry in self.figures["outputs"] if entry["name"] == output)
        assert list(tensor.shape) == entry["shape"]
        values = tensor.detach().reshape(-1)[torch.tensor(entry["positions"])].double()
        expected = torch.tensor(entry["values"], dtype=torch.float64)
        rtol = self.figures["tolerance"]["rtol"]
        torch.testing.assert_close(values, expected, atol=entry["atol"], rtol=rtol)
        assert tensor.double().mean().item() == pytest.approx(entry["mean"], abs=entry["atol"])
        assert tensor.double().std(correction=0).item() == pytest.approx(entry["std"], abs=entry["atol"])
        error = (values - expected).abs().max().item()
        print(f"{output}: largest difference {error:.1e}, tolerance {entry['atol']:.0e}")
        return error


@pytest.fixture(scope="session")
def weights():
    """weights(name) -> path of a record's file in the cache; skips the test where it was not fetched."""
    from stylegan2 import zoo
    from stylegan2.errors import WeightsMissing

    def find(name):
        try:
            return zoo.path(name)
        except WeightsMissing as error:
            pytest.skip(str(error))

    return find


@pytest.fixture(scope="session")
def mobile(weights):
    """The real default generator, float32."""
    from stylegan2 import checkpoints

    return checkpoints.load(weights("mobilestylegan-ffhq-1024"))


@pytest.fixture(scope="session")
def generated(mobile):
    """generated(seed) -> a generated face (1024, 1024, 3) uint8 RGB at psi 0.7; each is rendered once."""
    from functools import cache

    from stylegan2 import engine

    return cache(lambda seed: next(engine.faces(mobile, [seed]))[2])


@pytest.fixture(scope="session")
def golden():
    """golden(name) -> Golden."""
    return Golden
