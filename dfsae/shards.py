"""Rows of files that may be larger than memory: read when they are asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dfsae.objective import check_tensor


class MissingShardsError(ValueError):
    """Some shards of a set are not there."""


class Rows:
    """Rows ``(N, D)`` of tensors, as a rule of memory-mapped files; some of them, in any order, over a scale.

    ``rows[at]`` with a slice or integer indices ``(B,)`` is a float32 tensor ``(B, D)``; only
    what is asked for is read.
    """

    def __init__(self, parts: Sequence[Tensor], *, order: Tensor | None = None, scale: float = 1.0):
        self.parts, self.scale = parts, scale
        self.starts = torch.tensor([0] + [len(part) for part in parts]).cumsum(0)
        self.order = torch.arange(self.starts[-1]) if order is None else order

    def __len__(self) -> int:
        return len(self.order)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width."""
        return len(self), self.parts[0].shape[1]

    def __getitem__(self, at: slice | Tensor | np.ndarray) -> Tensor:
        rows = self.order[at]
        found = torch.empty(len(rows), self.shape[1])
        where = torch.bucketize(rows, self.starts[1:], right=True)
        for i in where.unique().tolist():
            found[where == i] = self.parts[i][rows[where == i] - self.starts[i]].to(found)
        return found / self.scale

    def take(self, at: Tensor, *, scale: float = 1.0) -> "Rows":
        """The rows ``at (M,)``, over a further scale; nothing is read."""
        return Rows(self.parts, order=self.order[at], scale=self.scale * scale)

    def norms(self) -> Tensor:
        """The norm of every row, ``(N,)``, reading a part at a time. Raises ``ValueError`` for NaN or infinity."""
        return torch.cat([check_tensor("activations", self[start:start + 65_536]).norm(dim=1)
                          for start in range(0, len(self), 65_536)])


def open_parts(path: Path | str, name: str = "activations") -> list[Tensor]:
    """A tensor of a ``.npy`` or ``.safetensors`` file, or of all shards ``*.safetensors`` of a folder, memory-mapped.

    Shards count in the order of their names; ``name`` is that of the tensor in them.

    Raises
    ------
    FileNotFoundError, ValueError
        For a path that is not there, another kind of file, or a shard without the tensor.
    MissingShardsError
        For shards of which some are missing.
    """
    path = Path(path)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise FileNotFoundError(f"{path} is not there" + (" or holds no *.safetensors" if not files else ""))
    if path.suffix == ".npy":
        return [torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))]
    if {file.suffix for file in files} != {".safetensors"}:
        raise ValueError(f"{path} is neither .npy nor .safetensors nor a folder of shards")
    expected = files[0].stem.partition("-of-")[2]
    if expected.isdecimal() and int(expected) != len(files):
        raise MissingShardsError(f"{path} holds {len(files)} of {int(expected)} shards; run what makes them again, it goes on where it stopped")
    parts = []
    for file in files:
        tensors = load_file(file)
        if name not in tensors:
            raise ValueError(f"{file} has no tensor {name!r}; it has {sorted(tensors)}")
        parts.append(tensors[name])
    return parts


def open_rows(path: Path | str, name: str = "activations") -> Rows:
    """:func:`open_parts` as one :class:`Rows`. Raises ``ValueError`` unless all parts are ``(n, D)`` of one width too."""
    parts = open_parts(path, name)
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1 or parts[0].ndim != 2 or not all(part.is_floating_point() for part in parts):
        raise ValueError(f"{path} must hold floats of shape (samples, D), got {parts[0].dtype} with trailing shapes {sorted(shapes)}")
    return Rows(parts)
