"""One thread, reproducible properties, and the random numbers that the tests share."""

import os

# Before any library starts its threads, and for every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("repeatable")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def randn():
    """Normal numbers of a shape, always the same; float64 unless said otherwise."""
    def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
    return draw


@pytest.fixture(scope="module")
def data():
    """Samples of rank 8 whose largest entry decides their label."""
    from dfsae.data import Dataset  # of whichever copy of the package is tested

    generator = torch.Generator().manual_seed(0)
    x = 0.3 + torch.randn(120, 8, generator=generator, dtype=torch.float64)
    y = x.argmax(dim=1) % 3
    return Dataset(x[:80], y[:80], x[80:], y[80:])


@pytest.fixture
def together_as_alone():
    """Assert that two models which train together end, and do not only start, as each of them alone."""
    from dfsae.training import train_together

    def compare(pair, x: torch.Tensor) -> None:
        together, alone, starts = pair(), pair(), pair()
        settings = {"epochs": 3, "batch_size": 16, "progress": False}
        train_together(together, x, order_seeds=[5, 6], optimizers=["adam"] * 2, lrs=[1e-2] * 2, **settings)
        for found, other, start, seed in zip(together, alone, starts, (5, 6), strict=True):
            train_together([other], x, order_seeds=[seed], optimizers=["adam"], lrs=[1e-2], **settings)
            for name, value in found.state_dict().items():
                # Nine steps of 1e-2, each with the rounding of its gradient.
                torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-8, atol=1e-10, msg=name)
                assert not torch.equal(value, start.state_dict()[name])
    return compare
