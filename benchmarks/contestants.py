"""Contestants: each builds models and trains them over mini-batches of x, as a user of its library would.

Run as a worker by ``measure.py``: one process holds one contestant, described by the only
argument, as JSON. It answers with a line of JSON when it is ready, and then to every line of
standard input, a number of epochs. What the libraries print goes to standard error.
"""

import itertools
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from dfsae.baselines import StandardSAE
from dfsae.encoder import DecoderFreeSAE
from dfsae.objective import EPS, Lambdas, objective
from dfsae.training import OPTIMIZERS, _leaves, stack, train_together

LR = 1e-3
TOP_K = 16
NEVER = 10 ** 9
"""A number of steps that no measurement reaches."""
RECORDED = ("torch", "numpy", "sae-lens", "dictionary-learning")


class Contestant(NamedTuple):
    """What a worker runs, and what that changes."""

    run: Callable[[int], None]
    """Trains for a number of epochs; a second call goes on from the weights of the first.

    The contestants of this module then set up their optimizer anew, and in a group their stack; the others keep it.
    """
    parameters: list[Tensor]


def bare_products(x: Tensor, K: int, batch_size: int, models: int) -> Contestant:
    """The encoder's two matrix products: W x^T, and the gradient of W from that of the energies.

    Their outputs are allocated beforehand, a batch is a slice of x, and one epoch has run: a floor for the time of a
    step. The products of Eq. 5 are not part of it.
    """
    W, slope = torch.randn(models * K, x.shape[1]), torch.randn(models * K, batch_size)
    energies, gradient = torch.zeros_like(slope), torch.zeros_like(W)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for batch in x.split(batch_size):
                torch.mm(W, batch.mT, out=energies)
                torch.mm(slope, batch, out=gradient)

    run(1)
    return Contestant(run, [energies, gradient])


GROUPS = {
    1: ([Lambdas()], ["adam"], [LR]),
    4: ([Lambdas(1, 0, 0), Lambdas(1, 1, 0), Lambdas(1, 1, 1), Lambdas(0, 1, 1)], ["adam"] * 4, [LR] * 4),
    8: ([Lambdas()] * 8, ["adam"] * 4 + ["sgd"] * 4, [1e-4, 3e-4, 1e-3, 3e-3] * 2),
}
"""One model; the four of Section 5.2; or Adam and SGD at four learning rates each: weights of the terms, optimizers and rates."""


def group_of(x: Tensor, K: int, models: int) -> list[DecoderFreeSAE]:
    """The models of one of :data:`GROUPS`."""
    return [DecoderFreeSAE(x.shape[1], K, reduction="sum", seed=0, lambdas=weights, dtype=x.dtype) for weights in GROUPS[models][0]]


def decoder_free(x: Tensor, K: int, batch_size: int, models: int) -> Contestant:
    """This module, one of :data:`GROUPS`."""
    return together(group_of(x, K, models), x, batch_size, *GROUPS[models][1:])


def batches_alone(x: Tensor, K: int, batch_size: int, models: int) -> Contestant:
    """A part of "dfsae": the batches of an epoch, gathered as it gathers them."""
    kept = torch.zeros(x.shape[1])

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(batch_size):
                kept.copy_(embedding(rows, x)[0])

    return Contestant(run, [kept])


def objective_alone(x: Tensor, K: int, batch_size: int, models: int) -> Contestant:
    """A part of "dfsae": ReLU, Eq. 7 and their gradient, from energies that are there, as many times as there are batches."""
    group = group_of(x, K, models)
    model = stack(group) if models > 1 else group[0]
    W, b = model.W.detach(), model.b.detach()
    # Laid out in memory as the product of the weights with a batch is.
    E = (W @ x[:batch_size].mT + b[..., None]).mT.requires_grad_()
    slope = torch.zeros_like(E)

    def run(epochs: int) -> None:
        for _ in range(epochs * (len(x) // batch_size)):
            terms = objective(torch.relu(E), W, lambdas=model.lambdas, reduction=model.reduction, eps=model.eps)
            slope.copy_(torch.autograd.grad(terms.total.sum(), E)[0])

    return Contestant(run, [slope])


def optimizers_alone(x: Tensor, K: int, batch_size: int, models: int) -> Contestant:
    """A part of "dfsae": its optimizers' steps, with gradients that stay, as many times as there are batches."""
    group = group_of(x, K, models)
    _, kinds, lrs = GROUPS[models]
    leaves = list(_leaves(stack(group) if models > 1 else group[0], kinds, lrs))
    views = [view for *_, pairs in leaves for _, view in pairs]
    for view in views:
        view.grad = torch.randn_like(view)
    steps = [OPTIMIZERS[kind]([{"params": [view for _, view in pairs], "lr": lr} for own, lr, _, pairs in leaves if own == kind],
                              fused=True) for kind in dict.fromkeys(kinds)]

    def run(epochs: int) -> None:
        for _ in range(epochs * (len(x) // batch_size)):
            for optimizer in steps:
                optimizer.step()

    return Contestant(run, views)


def seeds(x: Tensor, K: int, batch_size: int, models: int) -> Contestant:
    """This module: as many seeds of what "autograd" trains, with its optimizer."""
    group = [DecoderFreeSAE(x.shape[1], K, reduction="sum", seed=seed, dtype=x.dtype) for seed in range(models)]
    return together(group, x, batch_size, ["adam"] * models, [LR] * models)


def l1_sae(x: Tensor, K: int, batch_size: int, models: int) -> Contestant:
    """This module's standard SAE, with as many L1 coefficients as models."""
    group = [StandardSAE(x.shape[1], K, seed=0, data_mean=x.mean(dim=0), l1=0.5 * 2.0 ** i) for i in range(models)]
    return together(group, x, batch_size, ["adam"] * models, [LR] * models)


def together(group: list, x: Tensor, batch_size: int, optimizers: list[str], lrs: list[float]) -> Contestant:
    """Models of this module that train in the same matrix products."""
    def run(epochs: int) -> None:
        train_together(group, x, epochs=epochs, order_seeds=[0] * len(group), optimizers=optimizers, lrs=lrs,
                       batch_size=batch_size, progress=False)

    return Contestant(run, [parameter for model in group for parameter in model.parameters()])


def plain_objective(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Eq. 9, 1, 4 and 5 as they are written; the pairs of Eq. 5 are the entries off the diagonal of a K x K matrix."""
    E = torch.relu(x @ W.T + b)
    variance = E.var(dim=0)
    Z = (E - E.mean(dim=0)) / torch.sqrt(variance + EPS)
    corr = Z.T @ Z / (len(x) - 1)
    lse = -torch.logsumexp(-E, dim=1).sum()
    var = -torch.log(variance + EPS).sum()
    tc = corr.square().sum() - corr.diagonal().square().sum()
    return lse + var + tc


def autograd(x: Tensor, K: int, batch_size: int, loader: bool = False) -> Contestant:
    """The formulas in plain PyTorch, differentiated by it; batches are x[rows], or come from a DataLoader.

    Adam is the fused one, as in this module.
    """
    model = DecoderFreeSAE(x.shape[1], K, reduction="sum", seed=0, dtype=x.dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    batches = DataLoader(TensorDataset(x), batch_size=batch_size, shuffle=True)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for batch in (rows for rows, in batches) if loader else shuffled(x, batch_size):
                optimizer.zero_grad()
                plain_objective(batch, model.W, model.b).backward()
                optimizer.step()

    return Contestant(run, list(model.parameters()))


def shuffled(x: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The batches of one epoch."""
    return (x[rows] for rows in torch.randperm(len(x)).split(batch_size))


def sae_lens(x: Tensor, K: int, batch_size: int, top_k: int | None = None) -> Contestant:
    """SAELens: ``SAETrainer.fit``, which goes on to a number of samples; nothing is logged, as is its default."""
    from sae_lens import (SAETrainer, StandardTrainingSAE, StandardTrainingSAEConfig, TopKTrainingSAE,
                          TopKTrainingSAEConfig)
    from sae_lens.config import SAETrainerConfig

    if top_k:
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=K, k=top_k))
    else:
        sae = StandardTrainingSAE(StandardTrainingSAEConfig(d_in=x.shape[1], d_sae=K))
    # lr_end is the default of its runner; a constant learning rate does not use it, but the trainer asks for it.
    # TopK's auxiliary loss on dead units is kept out: its cost would depend on their number.
    config = SAETrainerConfig(total_training_samples=0, train_batch_size_samples=batch_size, lr=LR, lr_end=LR / 10,
                              dead_feature_window=NEVER)
    batches = itertools.chain.from_iterable(shuffled(x, batch_size) for _ in itertools.count())
    trainer = SAETrainer(config, sae, batches)

    def run(epochs: int) -> None:
        config.total_training_samples += epochs * len(x)
        trainer.fit()

    return Contestant(run, list(sae.parameters()))


def dictionary_learning(x: Tensor, K: int, batch_size: int, top_k: int | None = None) -> Contestant:
    """dictionary_learning: ``update`` of a trainer, once a step; it resamples no units, as is its default."""
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    common = {"steps": NEVER, "activation_dim": x.shape[1], "dict_size": K, "layer": 0, "lm_name": "none",
              "lr": LR, "device": "cpu"}
    # The threshold is updated from the first step on, and not from step 1000, so that all repeats cost the same.
    trainer = TopKTrainer(k=top_k, threshold_start_step=0, **common) if top_k else StandardTrainer(**common)
    steps = itertools.count()

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for batch in shuffled(x, batch_size):
                trainer.update(next(steps), batch)

    return Contestant(run, list(trainer.ae.parameters()))


CONTESTANTS: dict[str, Callable[..., Contestant]] = {
    "dfsae": decoder_free,
    "batches": batches_alone,
    "objective": objective_alone,
    "optimizers": optimizers_alone,
    "dfsae, seeds": seeds,
    "dfsae L1": l1_sae,
    "autograd": lambda x, K, batch_size, models: autograd(x, K, batch_size),
    "autograd, DataLoader": lambda x, K, batch_size, models: autograd(x, K, batch_size, loader=True),
    "sae-lens L1": lambda x, K, batch_size, models: sae_lens(x, K, batch_size),
    "sae-lens TopK": lambda x, K, batch_size, models: sae_lens(x, K, batch_size, TOP_K),
    "dictionary-learning L1": lambda x, K, batch_size, models: dictionary_learning(x, K, batch_size),
    "dictionary-learning TopK": lambda x, K, batch_size, models: dictionary_learning(x, K, batch_size, TOP_K),
}
"""By name: from data, width, batch size and number of models."""


def resident(field: str) -> float:
    """Resident memory of this process in MiB: "VmRSS" now, "VmHWM" at its peak (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


def timed(run: Callable[[int], None], epochs: int) -> float:
    """Seconds of so many epochs."""
    start = time.perf_counter()
    run(epochs)
    return time.perf_counter() - start


def turn(run: Callable[[int], None], products: Callable[[int], None] | None, epochs: int) -> dict[str, float | None]:
    """Seconds of so many epochs of a contestant, and of the bare products: the mean of before and after it."""
    before = timed(products, epochs) if products else None
    seconds = timed(run, epochs)
    return {"seconds": seconds, "floor": (before + timed(products, epochs)) / 2 if products else None}


def multiply_adds(run: Callable[[int], None]) -> int:
    """Multiply-adds of the dense matrix products of one epoch, by PyTorch's counter: two operations each."""
    with FlopCounterMode(display=False) as counter:
        run(1)
    return counter.get_total_flops() // 2


def blas() -> str:
    """The library that computes PyTorch's matrix products on a CPU."""
    found = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return found[1] if found else "unknown"


def work(contestant: str, models: int, batch_size: int, batches: int, D: int, K: int, floor: bool) -> None:
    """Build a contestant on uniform data, warm it up, say with which versions, and time what is asked for.

    With ``floor`` the bare products of its models are timed too, before and after it, and its own are counted.
    Raises ``RuntimeError`` if the warm-up leaves the parameters as they were, or not finite.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(batches * batch_size, D)
    build = CONTESTANTS[contestant]
    # A small one loads what is loaded on first use, which is not memory of the model.
    build(x[:batch_size], 64, batch_size, models).run(1)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    trained = build(x, K, batch_size, models)
    start = sums(trained.parameters)
    trained.run(1)
    if sums(trained.parameters) == start or not all(map(math.isfinite, sums(trained.parameters))):
        raise RuntimeError(f"{contestant} did not train: the sums of its parameters were {start} and are "
                           f"{sums(trained.parameters)}")
    products = bare_products(x, K, batch_size, models).run if floor else None
    installed = {found.name: found.version for found in distributions() if found.name in RECORDED}
    print(json.dumps({"threads": torch.get_num_threads(), "versions": installed, "blas": blas(),
                      "multiply_adds": multiply_adds(trained.run) if floor else None}), file=answers, flush=True)
    for line in sys.stdin:
        answer = turn(trained.run, products, json.loads(line))
        peak = resident("VmHWM")
        print(json.dumps({**answer, "peak_mib": peak, "model_mib": peak - before}), file=answers, flush=True)


def sums(parameters: list[Tensor]) -> list[float]:
    """One number a parameter: a copy of each would be counted as memory of the model."""
    return [float(parameter.detach().sum()) for parameter in parameters]


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
