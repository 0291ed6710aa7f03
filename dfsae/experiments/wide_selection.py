"""Contestants with more units than the data have dimensions, trained on a part of the training set to choose among them by the rest."""

from dfsae.experiments.comparison import RATES
from dfsae.experiments.contestants import evaluate_on_part as evaluate
from dfsae.experiments.contestants import fit_on_part as fit
from dfsae.experiments.protocol import with_seeds

K = 1024

FAMILIES = {
    "decoder-free": {f"decoder-free, tc 1/{part}": {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1 / part, 0]} for part in (1, 16)},
    "fixed scale": {f"norm {radius}, tc 1/{part}": {"model": "FixedScaleSAE", "radius": radius, "lambdas": [1, 1, 1 / part, 0]}
                    for radius in (4, 16) for part in (2, 32)},
    "L1 SAE": {f"L1 {l1}": {"model": "StandardSAE", "l1": l1} for l1 in (0.25, 0.5, 1)},
    "tied SAE": {f"tied, L1 {l1}": {"model": "TiedSAE", "l1": l1} for l1 in (0.25, 0.5, 1)},
    "TopK SAE": {f"TopK {k}": {"model": "TopKSAE", "k": k} for k in (8, 16, 32)},
}
"""Configurations by family. Pairs grow with K^2 and units with K, so a weight of Eq. 5 sixteen times less is tried."""

CONFIGURATIONS = {name: {"K": K, "lr": RATES[family], **settings} for family, members in FAMILIES.items()
                  for name, settings in members.items()}


def specs(profile: str) -> list[dict]:
    """All contestants, each with one seed, for a tenth of the epochs of the profile."""
    return with_seeds(CONFIGURATIONS, profile, seeds=1, part=10)
