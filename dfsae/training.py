"""One training loop for every model of the book: tensors in memory, explicit seeds."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dfsae.objective import NonFiniteError, check_tensor

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def train(model: nn.Module, x: Tensor, *, epochs: int, order_seed: int, batch_size: int = 128,
          optimizer: str = "adam", lr: float = 1e-3, progress: bool = True) -> dict[str, list[float]]:
    """Minimise ``model.loss`` over shuffled mini-batches of x; the last batch may be smaller.

    Parameters
    ----------
    model : its ``loss(batch)`` returns a named tuple of scalar terms, among them ``total``.
    x : data ``(N, D)``.
    order_seed : of the data order; the seed of the weights is the model's own.
    optimizer : "adam" or "sgd", with PyTorch's defaults but for ``lr``.

    Returns
    -------
    dict
        For every term a list with its mean over the steps of each epoch.

    Raises
    ------
    ValueError
        For bad data, an unknown optimizer, or a batch that would hold a single sample.
    NonFiniteError
        As soon as the energies or a term are NaN or infinite, with step, term and remedy.
    """
    check_tensor("x", x, rows=2)
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {sorted(OPTIMIZERS)}, got {optimizer!r}")
    if epochs < 0 or lr <= 0:
        raise ValueError(f"epochs must be >= 0 and lr > 0, got epochs={epochs}, lr={lr}")
    if batch_size < 2 or len(x) % batch_size == 1:
        raise ValueError(f"batch_size {batch_size} leaves a batch of one of the {len(x)} samples, "
                         "which has no variance; choose another batch_size")
    step_of = OPTIMIZERS[optimizer](model.parameters(), lr=lr, fused=True)
    order = torch.Generator().manual_seed(order_seed)
    history: dict[str, list[float]] = {}
    for epoch in tqdm(range(epochs), desc="epochs", disable=not progress, leave=False):
        batches = torch.randperm(len(x), generator=order).split(batch_size)
        sums: dict[str, Tensor] = {}
        for step, rows in enumerate(batches):
            terms = _finite_loss(model, x[rows], f"epoch {epoch}, step {step}, lr {lr}")
            step_of.zero_grad()
            terms.total.backward()
            step_of.step()
            for name, value in terms._asdict().items():
                sums[name] = sums.get(name, 0.0) + value.detach().double()
        for name, value in sums.items():
            history.setdefault(name, []).append(float(value) / len(batches))
    return history


def _finite_loss(model: nn.Module, batch: Tensor, where: str) -> NamedTuple:
    """``model.loss(batch)``, or a ``NonFiniteError`` that says where and what to do."""
    remedy = "lower the learning rate, or raise eps of the variance penalty"
    try:
        terms = model.loss(batch)
    except NonFiniteError as error:
        raise NonFiniteError(f"training diverged at {where}: {error}; {remedy}") from error
    bad = [name for name, value in terms._asdict().items() if not torch.isfinite(value)]
    if bad:
        raise NonFiniteError(f"training diverged at {where} in term {bad[0]}; {remedy}")
    return terms
