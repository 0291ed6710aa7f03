"""The fair comparison: every contestant trained on the whole training set and measured on the test set."""

from itertools import product

from dfsae.experiments.contestants import evaluate, fit
from dfsae.experiments.protocol import with_seeds

RATES = {"decoder-free": 1e-3, "log-determinant": 1e-3, "hinge": 3e-4, "fixed scale": 3e-4, "fixed scale, log-determinant": 3e-4,
         "L1 SAE": 1e-3, "tied SAE": 1e-3, "TopK SAE": 3e-4}
"""Learning rates from a first run of :mod:`dfsae.experiments.rates`; its results have to confirm them."""

TERMS = {"decoder-free": [1, 1, 1, 0], "decoder-free, without LSE": [0, 1, 1, 0],
         "decoder-free, without variance": [1, 0, 1, 0], "decoder-free, without decorrelation": [1, 1, 0, 0]}
VOLUMES = {"tc 0.5": {"model": "FixedScaleSAE", "lr": RATES["fixed scale"]},
           "log-det": {"model": "VolumeSAE", "volume": "log-det", "lr": RATES["fixed scale, log-determinant"]}}

FAMILIES = {
    "decoder-free": {name: {"model": "DecoderFreeSAE", "lambdas": lambdas} for name, lambdas in TERMS.items()},
    "log-determinant": {f"log-det{words}": {"model": "VolumeSAE", "volume": "log-det", "lambdas": [lse, 1, 0, 0]}
                        for words, lse in (("", 1), (", without LSE", 0))},
    "hinge": {f"hinge {weight}": {"model": "VolumeSAE", "volume": "hinge", "lambdas": [1, weight, 1, 0]}
              for weight in (10, 100, 1000)},
    "fixed scale": {f"norm {radius}, {words}, LSE {lse}": {**settings, "radius": radius, "lambdas": [lse, 1, 0 if words == "log-det" else 0.5, 0]}
                    for radius, (words, settings), lse in product((4, 16), VOLUMES.items(), (0.25, 1, 4))},
    "published SAE": {"published SAE": {"model": "PublishedSAE", "l1": 0.01}},
    "L1 SAE": {f"L1 {l1}": {"model": "StandardSAE", "l1": l1} for l1 in (0.1, 0.25, 0.5, 1, 2)},
    "tied SAE": {f"tied, L1 {l1}": {"model": "TiedSAE", "l1": l1} for l1 in (0.1, 0.25, 0.5, 0.75, 1)},
    "TopK SAE": {f"TopK {k}": {"model": "TopKSAE", "k": k} for k in (4, 8, 16, 32)},
}
"""Configurations by family; the published autoencoder keeps its rate."""

CONFIGURATIONS = {name: {"lr": RATES[family], **settings} if family in RATES else settings
                  for family, members in FAMILIES.items() for name, settings in members.items()}


def specs(profile: str) -> list[dict]:
    """All contestants, each with five seeds, for half the epochs of the profile."""
    return with_seeds(CONFIGURATIONS, profile, seeds=5, part=2)
