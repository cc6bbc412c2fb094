import pytest
import torch

from hyperstyle.networks import HyperNetwork
from tests.hyperstyle import toys


@pytest.fixture(scope="session")
def hypernet():
    return toys.drawn(HyperNetwork(toys.TINY))


@pytest.fixture(scope="session")
def generator():
    return toys.generator()


@pytest.fixture(scope="session")
def images():
    return torch.rand(2, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
