"""Training by one and by two processes: what they exchange in a step, and how long it takes.

``python benchmarks/scaling.py`` starts ``torchrun`` for each shape and number of ranks, in turns,
and writes ``results/scaling.json``. Every rank has one thread, so there have to be two cores.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from dfsae import distributed
from dfsae.data import ROOT
from dfsae.encoder import DecoderFreeSAE
from dfsae.records import RESULTS, provenance, write_json

B, D, STEPS, REPEATS = 512, 768, 4, 5
WIDTHS = {"gather": (256, 1024, 4096, 16384), "reduce": (256, 1024, 4096)}
"""Widths by the way in which the objective is shared; K x K matrices are no larger than these."""
RANKS = (1, 2)


def time_steps(K: int, way: str) -> dict:
    """Seconds of a step, the largest over the ranks, and the numbers that a rank hands to all-reduce in it."""
    x = torch.rand(B * STEPS, D, generator=torch.Generator().manual_seed(0))
    model = DecoderFreeSAE(D, K, reduction="sum", seed=0)
    all_reduce, exchanged = dist.all_reduce, []
    dist.all_reduce = lambda tensor, *rest, **options: (exchanged.append(tensor.numel()), all_reduce(tensor, *rest, **options))[1]
    seconds = []
    for _ in range(REPEATS + 1):  # the first warms up
        exchanged.clear()
        dist.barrier()
        start = time.perf_counter()
        distributed.train(model, x, epochs=1, order_seed=0, batch_size=B, way=way)
        dist.barrier()
        seconds.append((time.perf_counter() - start) / STEPS)
    return {"K": K, "way": way, "ranks": dist.get_world_size(), "seconds": seconds[1:], "numbers": sum(exchanged) / STEPS}


def main() -> None:
    """In every rank: measure one shape and let the first rank write it."""
    torch.set_num_threads(1)
    K, way, path = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    with distributed.processes():
        found = time_steps(K, way)
        if dist.get_rank() == 0:
            path.write_text(json.dumps(found))


def measure() -> None:
    """Every shape with every number of ranks, and the file of results."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for way, widths in WIDTHS.items():
            for K in widths:
                for ranks in RANKS:
                    path = Path(folder) / f"{way}-{K}-{ranks}.json"
                    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}",
                                    __file__, str(K), way, str(path)], cwd=ROOT, check=True)
                    found.append(json.loads(path.read_text()))
                    print(f"{way}, K = {K}, {ranks} rank(s): {1000 * median(found[-1]['seconds']):.1f} ms", flush=True)
    write_json(RESULTS / "scaling.json", {"provenance": provenance("scaling"), "shape": {"B": B, "D": D, "steps": STEPS}, "runs": found})


if __name__ == "__main__":
    main() if len(sys.argv) > 1 else measure()
