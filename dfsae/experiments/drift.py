"""Controls of the drift law: widths, with Eq. 1 and without, one learning rate for each optimizer."""

from itertools import product

from dfsae.experiments.codes import probed_metrics as evaluate
from dfsae.experiments.dynamics import fit
from dfsae.experiments.protocol import with_seeds

OPTIMIZERS = {"sgd": 1e-2, "adam": 1e-3}
"""Learning rates from the middle of the published sweep; Adam's is the published one."""

CONFIGURATIONS = {f"{optimizer}, K = {K}{'' if lse else ', without LSE'}":
                  {"K": K, "optimizer": optimizer, "lr": lr, "lambdas": [lse, 1, 1, 0]}
                  for K, (optimizer, lr), lse in product((16, 32, 64), OPTIMIZERS.items(), (1, 0))}


def specs(profile: str) -> list[dict]:
    """Twelve configurations, each with five seeds."""
    return with_seeds({name: {"model": "DecoderFreeSAE", **settings} for name, settings in CONFIGURATIONS.items()},
                      profile, seeds=5)
