"""Learning rates for the families of the fair comparison, chosen on a part of the training set."""

from dfsae.experiments.contestants import evaluate_on_part as evaluate
from dfsae.experiments.contestants import fit_on_part as fit
from dfsae.experiments.protocol import with_seeds

FAMILIES = {
    "decoder-free": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0]},
    "log-determinant": {"model": "VolumeSAE", "volume": "log-det", "lambdas": [1, 1, 0, 0]},
    "hinge": {"model": "VolumeSAE", "volume": "hinge", "lambdas": [1, 100, 1, 0]},
    "fixed scale": {"model": "FixedScaleSAE", "radius": 16, "lambdas": [1, 1, 0.5, 0]},
    "fixed scale, log-determinant": {"model": "VolumeSAE", "volume": "log-det", "radius": 16, "lambdas": [1, 1, 0, 0]},
    "L1 SAE": {"model": "StandardSAE", "l1": 0.5},
    "tied SAE": {"model": "TiedSAE", "l1": 0.5},
    "TopK SAE": {"model": "TopKSAE", "k": 16},
}
"""One configuration from the middle of each family."""

RATES = (3e-4, 1e-3, 3e-3, 1e-2)

CONFIGURATIONS = {f"{family}, lr {lr:g}": {**settings, "lr": lr} for family, settings in FAMILIES.items() for lr in RATES}


def specs(profile: str) -> list[dict]:
    """Four learning rates a family, each with two seeds, for half the epochs of the profile."""
    return with_seeds(CONFIGURATIONS, profile, seeds=2, part=2)
