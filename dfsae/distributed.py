"""Training by several processes, which share every batch: the terms of Eq. 7 are those of all its rows.

Run with ``torchrun``. A rank is one of the processes; where no group of processes was set
up, the functions act as in one process.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, safe_open, save_file
from torch import Tensor
from torch.autograd import Function

from dfsae.encoder import DecoderFreeSAE
from dfsae.objective import Lambdas, NonFiniteError, Reduction, Terms, all_finite, check_lambdas, objective


@contextmanager
def processes(timeout: float = 60.0) -> Iterator[None]:
    """Join the processes that ``torchrun`` started (NCCL on GPUs, else Gloo), and leave them at the end.

    A rank that ends or does not answer within ``timeout`` seconds ends the others with a
    ``RuntimeError`` that says so, in place of a hang.
    """
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(seconds=timeout))
    try:
        yield
    finally:
        dist.destroy_process_group()


def ranks() -> tuple[int, int]:
    """Which process this is, and of how many."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def summed(part: Tensor) -> Tensor:
    """The sum of a tensor over the ranks. Raises ``RuntimeError`` if a rank is lost."""
    total = part.clone()
    if dist.is_initialized():
        try:
            dist.all_reduce(total)
        except RuntimeError as error:
            raise RuntimeError("another rank ended or did not answer in time; start all of them again, and training "
                               "goes on from the last checkpoint") from error
    return total


class _Sum(Function):
    """:func:`summed`. Every rank computes the same loss from it, so the gradient comes back as it is."""

    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        return summed(part)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g


class _Gather(Function):
    """The rows of all ranks, ``(B_r, K) -> (B, K)``, in the order of the ranks; the gradient is that of the rank's own."""

    @staticmethod
    def forward(ctx, E: Tensor, sizes: list[int]) -> Tensor:
        rank = ranks()[0]
        ctx.own = slice(sum(sizes[:rank]), sum(sizes[:rank + 1]))
        mine = E.new_zeros(sum(sizes), E.shape[1])
        mine[ctx.own] = E
        return summed(mine)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None]:
        return g[ctx.own], None


def gathered_objective(E: Tensor, sizes: list[int], *, lambdas: Lambdas, reduction: Reduction, eps: float) -> Terms:
    """:func:`shared_objective` by exchanging energies: B K numbers a step; every rank computes the terms of all rows."""
    return objective(_Gather.apply(E, sizes), E.new_zeros(1, 1), lambdas=lambdas, reduction=reduction, eps=eps)


def reduced_objective(E: Tensor, sizes: list[int], *, lambdas: Lambdas, reduction: Reduction, eps: float) -> Terms:
    """:func:`shared_objective` by summing moments: K (K + 1) + 1 numbers a step; a rank computes the products of its rows.

    The mean is taken as a constant: the derivatives of variances and covariances by it are
    sums of deviations from it, which are zero over all rows.
    """
    n = sum(sizes)
    lse = _Sum.apply(-torch.logsumexp(-E, dim=1).sum()) / (n if reduction == "mean" else 1)
    centred = E - summed(E.detach().sum(dim=0)) / n
    C = _Sum.apply(centred.mT @ centred) / (n - 1)
    variance = C.diagonal() + eps
    correlation = C * variance.rsqrt()[:, None] * variance.rsqrt()
    var, tc = -variance.log().sum(), correlation.square().sum() - correlation.diagonal().square().sum()
    total = sum((weight * term for weight, term in zip(lambdas, (lse, var, tc)) if weight), 0 * lse)
    return Terms(lse, var, tc, torch.zeros_like(var), total)


WAYS: dict[str, Callable[..., Terms]] = {"gather": gathered_objective, "reduce": reduced_objective}


def shared_objective(E: Tensor, *, lambdas: Lambdas, reduction: Reduction, eps: float, way: str = "auto") -> Terms:
    """Eq. 7 of the rows of all ranks; its gradient in E is that for this rank's rows.

    Parameters
    ----------
    E : energies ``(B_r, K)`` of this rank's rows; B_r may be zero, and differ between ranks.
    lambdas : without a weight on Eq. 8, which does not depend on the batch.
    way : "gather", "reduce", or "auto", the one that exchanges fewer numbers.

    Raises
    ------
    ValueError
        On all ranks alike, for bad settings, fewer than two rows in all, or NaN on any rank.
    RuntimeError
        If a rank is lost.
    """
    check_lambdas(lambdas)
    if lambdas.wr or reduction not in ("sum", "mean") or way not in (*WAYS, "auto"):
        raise ValueError("expected lambdas with wr = 0, reduction 'sum' or 'mean', and way 'gather', 'reduce' or 'auto'; "
                         f"got wr = {lambdas.wr}, {reduction!r}, {way!r}")
    rank, world = ranks()
    state = torch.zeros(world + 1, dtype=torch.int64, device=E.device)
    state[rank], state[world] = len(E), not all_finite(E)
    *sizes, bad = summed(state).tolist()
    if bad:
        raise NonFiniteError(f"{bad} of {world} rank(s) hold NaN or infinite energies; clean the data or lower the learning rate")
    if sum(sizes) < 2:
        raise ValueError(f"the ranks hold {sum(sizes)} row(s) together; a variance needs two")
    if way == "auto":
        way = "gather" if sum(sizes) <= E.shape[1] else "reduce"
    return WAYS[way](E, sizes, lambdas=lambdas, reduction=reduction, eps=eps)


def train(model: DecoderFreeSAE, x: Sequence, *, epochs: int, order_seed: int, batch_size: int = 128, lr: float = 1e-3,
          way: str = "auto", checkpoint: Path | None = None, every: int = 100) -> dict[str, list[float]]:
    """:func:`dfsae.training.train` with Adam, by all ranks, from data that may be larger than memory.

    Every batch is that of one process; each rank reads and encodes every world-th of its
    rows. All ranks end with the same model, which differs from that of one process by
    rounding.

    Parameters
    ----------
    model : the same on all ranks; without Eq. 8.
    x : data ``(N, D)``: a tensor, an array or a ``numpy.memmap``; only rows of a batch are read.
    checkpoint : path of a file, or None
        It holds model, optimizer and position, and is written whole by rank 0 after ``every`` steps
        and at the end. If it is there, and of this data and this start, training goes on from it and
        ends as if it had not been interrupted, to the bit for the same number of ranks.

    Raises
    ------
    ValueError
        For a batch with fewer rows than ranks or than two, or a checkpoint of another model, start, data or settings.
    NonFiniteError, RuntimeError
        As :func:`shared_objective`, on all ranks.
    """
    rank, world = ranks()
    smallest = len(x) % batch_size or batch_size
    if smallest < max(2, world):
        raise ValueError(f"batch_size {batch_size} leaves a batch of {smallest} of the {len(x)} samples for {world} rank(s); "
                         "each needs one, and a variance two: choose another batch_size")
    parameters = dict(model.named_parameters())
    start = [*parameters.values(), torch.as_tensor(x[np.arange(min(8, len(x)))])]
    plain = {name: value for name, value in vars(model).items() if not name.startswith("_")}
    settings = json.dumps({"N": len(x), "epochs": epochs, "order_seed": order_seed, "batch_size": batch_size, "lr": lr,
                           "model": type(model).__name__, **plain,
                           "start": sha256(b"".join(part.detach().double().cpu().numpy().tobytes() for part in start)).hexdigest()})
    optimizer = torch.optim.Adam(parameters.values(), lr=lr, fused=True)
    sums = torch.zeros(epochs, len(Terms._fields), dtype=torch.float64)
    done = _load(checkpoint, settings, parameters, optimizer, sums)
    order = torch.Generator().manual_seed(order_seed)
    steps = -(-len(x) // batch_size)
    for epoch in range(epochs):
        batches = torch.randperm(len(x), generator=order).split(batch_size)
        for step in range(max(0, done - epoch * steps), steps):
            rows = torch.as_tensor(x[batches[step][rank::world].numpy()]).to(model.W)
            terms = shared_objective(model.encode(rows), lambdas=model.lambdas, reduction=model.reduction, eps=model.eps, way=way)
            terms.total.backward()
            total = summed(torch.cat([p.grad.flatten() for p in parameters.values()]))
            for p, g in zip(parameters.values(), total.split([p.numel() for p in parameters.values()]), strict=True):
                p.grad = g.reshape(p.shape)
            optimizer.step()
            optimizer.zero_grad()
            sums[epoch] += torch.stack(terms).detach().cpu()
            at = epoch * steps + step + 1
            if checkpoint and rank == 0 and (at % every == 0 or at == epochs * steps):
                _save(checkpoint, settings, parameters, optimizer, sums, at)
    return {name: column.tolist() for name, column in zip(Terms._fields, (sums / steps).T)}


def _save(path: Path, settings: str, parameters: dict, optimizer: torch.optim.Optimizer, sums: Tensor, done: int) -> None:
    """Write a checkpoint beside its place, then put it there."""
    tensors = {"sums": sums, "done": torch.tensor(done)}
    for name, p in parameters.items():
        tensors[name] = p.detach().contiguous()
        tensors |= {f"{name}.{part}": value.contiguous() for part, value in optimizer.state[p].items()}
    part = Path(path).with_suffix(".part")
    save_file(tensors, part, metadata={"settings": settings})
    os.replace(part, path)


def _load(path: Path | None, settings: str, parameters: dict, optimizer: torch.optim.Optimizer, sums: Tensor) -> int:
    """Bring everything to the state of a checkpoint, if there is one; the number of steps that are done."""
    if path is None or not Path(path).exists():
        return 0
    with safe_open(path, "pt") as file:
        found = file.metadata()["settings"]
    if found != settings:
        raise ValueError(f"{path} is the checkpoint of other settings, {found}; not of {settings}: delete it or name another file")
    tensors = load_file(path)
    sums.copy_(tensors["sums"])
    for name, p in parameters.items():
        p.data.copy_(tensors[name])
        optimizer.state[p] = {part: tensors[f"{name}.{part}"].to(p.device)
                              for part in ("step", "exp_avg", "exp_avg_sq")}
    return int(tensors["done"])
