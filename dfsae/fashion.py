"""Fashion-MNIST in memory, where the reader has it."""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from dfsae.data import ROOT, Dataset

PLACES = (ROOT / "data" / "FashionMNIST" / "raw", Path("/usr/share/datasets/fashion-mnist"))
"""Folders in which the four files are looked for. Torchvision downloads them to the first, Debian installs them in the second."""

FILES = {"train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a", "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
         "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a", "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965"}
"""MD5 of the unpacked files; those of the packed ones depend on who packed them."""


def find_fashion(places: Sequence[Path] = PLACES) -> Path:
    """The first place that has the four ``.gz`` files.

    Raises
    ------
    FileNotFoundError
        If there is none, with the ways to get them.
    """
    for place in places:
        if all((place / f"{name}.gz").is_file() for name in FILES):
            return place
    raise FileNotFoundError(
        f"Fashion-MNIST is in none of {', '.join(map(str, places))}; get it with: python -c \"from torchvision.datasets import "
        "FashionMNIST; FashionMNIST('data', download=True)\", or on Debian: apt install dataset-fashion-mnist")


@lru_cache(maxsize=1)
def load_fashion(places: Sequence[Path] = PLACES, dtype: torch.dtype = torch.float32) -> Dataset:
    """60,000 and 10,000 images as rows of 784 pixels in [0, 1], with their labels; read once a process.

    Raises
    ------
    FileNotFoundError, ValueError
        For missing files as :func:`find_fashion`; for a corrupt one, naming the file and the remedy.
    """
    parts = []
    for name, md5 in FILES.items():
        path = find_fashion(places) / f"{name}.gz"
        try:
            content = gzip.decompress(path.read_bytes())
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is damaged; delete it and get it again") from error
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise ValueError(f"{path} is not the known file (the MD5 of its content is not {md5}); delete it and get it again")
        parts.append(_images(content, dtype) if "images" in name else _labels(content))
    return Dataset(*parts)


def _images(content: bytes, dtype: torch.dtype) -> Tensor:
    """Pixels after the 16 bytes of the header."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=16).reshape(-1, 28 * 28).to(dtype).div_(255)


def _labels(content: bytes) -> Tensor:
    """Labels after the 8 bytes of the header."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=8).long()
