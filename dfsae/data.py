"""MNIST in memory, from the four original files in ``data/MNIST/raw``."""

from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
"""The root of the checkout."""


class Dataset(NamedTuple):
    """Training and test samples in memory."""

    x_train: Tensor
    """``(N, D)``, in [0, 1]."""
    y_train: Tensor
    """``(N,)``, integer labels."""
    x_test: Tensor
    """``(M, D)``, in [0, 1]."""
    y_test: Tensor
    """``(M,)``, integer labels."""


def load_mnist(root: Path = ROOT / "data", *, n_train: int | None = None, n_test: int | None = None,
               dtype: torch.dtype = torch.float32) -> Dataset:
    """Images as rows of 784 pixels in [0, 1], not centred, with their labels.

    Checksums are verified first, so nothing is ever downloaded. ``n_train`` and
    ``n_test`` keep the first samples of each split; by default all 60,000 and 10,000.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing or a corrupt file, naming the file and the remedy.
    """
    # Takes seconds to import, and most chapters do without data.
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import check_integrity

    raw = Path(root) / "MNIST" / "raw"
    for name, md5 in MNIST.resources:
        remedy = f"restore it with: git checkout -- data/MNIST/raw/{name}"
        if not (raw / name).is_file():
            raise FileNotFoundError(f"{raw / name} is missing; {remedy}")
        if not check_integrity(str(raw / name), md5):
            raise ValueError(f"{raw / name} is corrupt (its MD5 is not {md5}); {remedy}")
    with FileLock(raw / ".lock"):
        try:
            train, test = (MNIST(root, train=flag, download=True) for flag in (True, False))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(f"an unpacked file in {raw} is damaged; delete {raw}/*-ubyte and "
                             "run again: they are unpacked anew from the .gz files") from error
    parts = []
    for split, count in ((train, n_train), (test, n_test)):
        pixels = split.data[:count].reshape(-1, 28 * 28)
        parts += [pixels.to(dtype).div_(255), split.targets[:count]]
    return Dataset(*parts)
