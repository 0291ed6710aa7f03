"""What the paper leaves open, one choice at a time."""

from dfsae.experiments.codes import code_metrics as evaluate
from dfsae.experiments.protocol import fit, with_seeds
from dfsae.objective import Lambdas

CONFIGURATIONS = {
    "as published": {}, "mean reduction": {"reduction": "mean"},
    "eps = 1e-3": {"eps": 1e-3}, "eps = 1e-9": {"eps": 1e-9},
    "batches of 32": {"batch_size": 32}, "batches of 512": {"batch_size": 512},
    "weights start at a tenth": {"init_scale": 0.1}, "lambda_tc = 1/2": {"lambdas": [1, 1, 0.5, 0]},
    "softplus": {"activation": "softplus"}, "identity": {"activation": "identity"},
}
"""What the paper leaves open, one choice at a time."""


def specs(profile: str) -> list[dict]:
    """The full objective with one choice changed at a time, for a fifth of the epochs, with three seeds."""
    return with_seeds({name: {"model": "DecoderFreeSAE", "lambdas": list(Lambdas()), **change}
                       for name, change in CONFIGURATIONS.items()}, profile, seeds=3, part=5)
