"""One training loop for every model of the book, for one model or many together."""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from tqdm import tqdm

from dfsae.objective import NonFiniteError, all_finite, check_tensor

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def train(model: nn.Module, x: Tensor, *, epochs: int, order_seed: int, batch_size: int = 128,
          optimizer: str = "adam", lr: float = 1e-3, progress: bool = True) -> dict[str, list[float]]:
    """Minimise ``model.loss`` over shuffled mini-batches of x; the last batch may be smaller.

    Parameters
    ----------
    model : its ``loss(batch)`` returns a named tuple of scalar terms, among them ``total``.
    x : data ``(N, D)``, on the device of the model.
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
    return train_together([model], x, epochs=epochs, order_seeds=[order_seed], batch_size=batch_size,
                          optimizers=[optimizer], lrs=[lr], progress=progress)[0]


def train_together(models: Sequence[nn.Module], x: Tensor, *, epochs: int, order_seeds: Sequence[int],
                   optimizers: Sequence[str], lrs: Sequence[float], batch_size: int = 128,
                   after_epoch: Callable[[], None] | None = None, progress: bool = True) -> list[dict[str, list[float]]]:
    """Train each model as :func:`train` would, all of them in the same, larger matrix products.

    The models are those that :func:`stack` takes; ``order_seeds``, ``optimizers`` and
    ``lrs`` hold one value a model. ``after_epoch`` is called after each; the models then
    hold the weights of that moment. Results equal those of separate training but for
    rounding. Returns one history a model; raises what :func:`train` raises.
    """
    check_tensor("x", x, rows=2)
    if not len(models) == len(order_seeds) == len(optimizers) == len(lrs) > 0:
        raise ValueError(f"{len(models)} models need as many order_seeds, optimizers and lrs, "
                         f"got {len(order_seeds)}, {len(optimizers)} and {len(lrs)}")
    unknown = set(optimizers) - set(OPTIMIZERS)
    if unknown:
        raise ValueError(f"optimizer must be one of {sorted(OPTIMIZERS)}, got {min(unknown)!r}")
    if epochs < 0 or min(lrs) <= 0:
        raise ValueError(f"epochs must be >= 0 and lr > 0, got epochs={epochs}, lr={min(lrs)}")
    if batch_size < 2 or len(x) % batch_size == 1:
        raise ValueError(f"batch_size {batch_size} leaves a batch of one of the {len(x)} samples, "
                         "which has no variance; choose another batch_size")
    group = stack(models) if len(models) > 1 else models[0]
    leaves = list(_leaves(group, optimizers, lrs))
    steps_of = [OPTIMIZERS[kind]([{"params": [view for _, view in pairs], "lr": lr}
                                  for name, lr, _, pairs in leaves if name == kind], fused=True)
                for kind in dict.fromkeys(optimizers)]
    orders = {seed: torch.Generator().manual_seed(seed) for seed in order_seeds}
    histories: list[dict[str, list[float]]] = [{} for _ in models]
    for epoch in tqdm(range(epochs), desc="epochs", disable=not progress, leave=False):
        shuffled = {seed: torch.randperm(len(x), generator=order) for seed, order in orders.items()}
        # Models with the same data order share their batches: (N,); else (models, N).
        samples = torch.stack([shuffled[seed] for seed in (orders if len(orders) == 1 else order_seeds)])
        batches = samples.squeeze(0).to(x.device).split(batch_size, dim=-1)
        history: list[Tensor] = []
        for step, batch in enumerate(batches):
            # embedding(batch, x) is x[batch], in half the time.
            terms, values = _finite_loss(group, embedding(batch, x), f"epoch {epoch}, step {step}", lrs)
            terms.total.backward(torch.ones_like(terms.total))
            for _, _, rows, pairs in leaves:
                for parameter, view in pairs:
                    view.grad = None if parameter.grad is None else parameter.grad[rows]
            for optimizer in steps_of:
                optimizer.step()
            group.zero_grad()
            history.append(values)
        for name, means in zip(terms._fields, torch.stack(history).double().mean(dim=0), strict=True):
            for found, mean in zip(histories, means.tolist(), strict=True):
                found.setdefault(name, []).append(mean)
        if after_epoch:
            after_epoch()
    return histories


def stack(models: Sequence[nn.Module]) -> nn.Module:
    """One model with the parameters of all: a leading dimension, and one loss, per model.

    The models share the memory of the stack, so training the stack trains them. Raises
    ``ValueError`` unless they are of one class, equal in shape and in every setting
    but those that the class lists in ``varied``.
    """
    first = models[0]
    kinds = {(type(model), *((parameter.shape, parameter.dtype) for parameter in model.parameters()))
             for model in models}
    if len(kinds) > 1:
        raise ValueError("models that train together must be of one class, shape and dtype; train them apart")
    group = copy.deepcopy(first)
    settings = [{name: value for name, value in vars(model).items() if not name.startswith("_")}
                for model in models]
    for name, value in settings[0].items():
        if name in first.varied:
            setattr(group, name, [setting[name] for setting in settings])
        elif any(setting.get(name) != value for setting in settings):
            raise ValueError(f"models that train together must have the same {name}; train them apart")
    for name, parameter in first.named_parameters():
        rows = [model.get_parameter(name).detach() for model in models]
        stacked = nn.Parameter(torch.stack(rows))
        setattr(group, name, stacked)
        for model, row in zip(models, stacked.detach(), strict=True):
            model.get_parameter(name).data = row
    return group


def _leaves(group: nn.Module, optimizers: Sequence[str], lrs: Sequence[float]) -> Iterator[tuple]:
    """Every run of models with the same optimizer and learning rate: both, the rows, and their parameters.

    The parameters come as pairs: one of the stack, and a view of its rows to hand to the optimizer.
    """
    start = 0
    for (optimizer, lr), run in itertools.groupby(zip(optimizers, lrs, strict=True)):
        stop = start + len(list(run))
        rows = slice(start, stop) if len(lrs) > 1 else ...
        yield optimizer, lr, rows, [(p, p.detach()[rows]) for p in group.parameters()]
        start = stop


def _finite_loss(model: nn.Module, batch: Tensor, where: str, lrs: Sequence[float]) -> tuple[NamedTuple, Tensor]:
    """The terms of ``model.loss(batch)`` and their values, or a ``NonFiniteError`` that says where."""
    where = f"{where}, lr {', '.join(map(str, dict.fromkeys(lrs)))}"
    remedy = "lower the learning rate, or raise eps of the variance penalty"
    try:
        terms = model.loss(batch)
    except NonFiniteError as error:
        raise NonFiniteError(f"training diverged at {where}: {error}; {remedy}") from error
    with torch.no_grad():
        values = torch.stack(terms).reshape(len(terms), -1)
    if not all_finite(values):
        bad = next(name for name, row in zip(terms._fields, values) if not all_finite(row))
        raise NonFiniteError(f"training diverged at {where} in term {bad}; {remedy}")
    return terms, values
