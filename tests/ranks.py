"""What test_distributed.py runs in several processes: forked, or by ``torchrun tests/ranks.py <scenario> <folder>``."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from dfsae import distributed
from dfsae.encoder import DecoderFreeSAE
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import Lambdas

LAMBDAS = Lambdas(0.7, 1.3, 0.4, 0)


def energies(B, K):
    return torch.randn(B, K, generator=torch.Generator().manual_seed(B + K), dtype=torch.float64).relu()


def data(N=53, D=6):
    return torch.randn(N, D, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def models():
    """One with fewer units than a batch has rows, one with more, and one of fixed norms."""
    common = {"reduction": "sum", "seed": 1, "lambdas": LAMBDAS, "dtype": torch.float64}
    return {"few": DecoderFreeSAE(6, 4, **common), "many": DecoderFreeSAE(6, 20, **common),
            "fixed": FixedScaleSAE(6, 5, radius=3.0, **common)}


SETTINGS = {"epochs": 3, "order_seed": 2, "batch_size": 16, "lr": 1e-2}


def objectives(folder, rank, world):
    """Value and gradient of the shared objective, in both ways, of rows that are shared out unevenly."""
    found = {}
    for B, K in ((11, 5), (11, 20), (3, 4)):
        for way in ("gather", "reduce", "auto"):
            for reduction in ("sum", "mean"):
                E = energies(B, K)
                own = (E[: B - 1] if rank == 0 else E[B - 1:] if rank == 1 else E[:0]).clone().requires_grad_()
                terms = distributed.shared_objective(own, lambdas=LAMBDAS, reduction=reduction, eps=1e-3, way=way)
                terms.total.backward()
                found[f"{B} {K} {way} {reduction}"] = torch.stack(terms).detach()
                found[f"{B} {K} {way} {reduction} gradient"] = own.grad
    save_file({name: value.contiguous() for name, value in found.items()}, folder / f"{rank}.safetensors")


def training(folder, rank, world):
    """Models trained by all ranks, from memory and from a file on disk."""
    stored = np.memmap(folder / f"{rank}.npy", dtype=np.float64, mode="w+", shape=(53, 6))
    stored[:] = data().numpy()
    found = {}
    for name, model in models().items():
        for way in ("gather", "reduce"):
            trained = models()[name]
            history = distributed.train(trained, stored if name == "few" else data(), way=way, **SETTINGS)
            found |= {f"{name} {way} {part}": value.detach().clone() for part, value in trained.named_parameters()}
            found[f"{name} {way} total"] = torch.tensor(history["total"])
    save_file(found, folder / f"{rank}.safetensors")


def refusals(folder, rank, world):
    """Every rank is told of what is wrong with one of them."""
    E = energies(6, 4)[rank::world]
    bad = E.clone()
    if rank == 1:
        bad[0, 0] = float("nan")
    common = {"lambdas": LAMBDAS, "reduction": "sum", "eps": 1e-3}
    words = []
    for values in (bad, E[:1] if rank == 0 else E[:0]):
        try:
            distributed.shared_objective(values, **common)
        except ValueError as error:
            words.append(f"{type(error).__name__}: {error}")
    try:
        distributed.train(models()["few"], data(49), **SETTINGS)
    except ValueError as error:
        words.append(str(error))
    (folder / f"{rank}.txt").write_text("\n".join(words))


def lost(folder, rank, world):
    """The last rank ends in the middle; the others must not wait for ever."""
    if rank == world - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        distributed.train(models()["few"], data(), **SETTINGS)
    except RuntimeError as error:
        (folder / f"{rank}.txt").write_text(str(error))
        raise


def killed(folder, rank, world):
    """Training that ends without warning after some steps, unless it did so before."""
    model, where = models()["many"], folder / "model.safetensors"
    steps = 0

    def step(E, **options):
        nonlocal steps
        steps += 1
        if steps == 7 and not (folder / "once").exists():
            if rank == 0:
                (folder / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shared(E, **options)

    shared, distributed.shared_objective = distributed.shared_objective, step
    history = distributed.train(model, data(), checkpoint=where, every=5, **SETTINGS)
    save_file({name: value.detach().clone() for name, value in model.named_parameters()} | {"total": torch.tensor(history["total"])},
              folder / f"{rank}.safetensors")
    (folder / f"{rank}.steps").write_text(str(steps))


def take_part(scenario, folder, rank, world, port):
    """One rank of a scenario, as torchrun would start it."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    run(scenario, folder)


def run(scenario, folder):
    torch.set_num_threads(1)
    with distributed.processes(timeout=20.0):
        globals()[scenario](Path(folder), *distributed.ranks())


if __name__ == "__main__":
    run(*sys.argv[1:])
