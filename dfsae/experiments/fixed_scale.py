"""The published objective with the scale of the units fixed at several values."""

from functools import partial

import torch

from dfsae.data import Dataset
from dfsae.experiments import protocol
from dfsae.experiments.codes import probed_metrics as evaluate
from dfsae.experiments.protocol import with_seeds
from dfsae.fixed_scale import FixedScaleSAE
from dfsae.objective import Lambdas

CONFIGURATIONS = {f"norm {radius}{'' if lse else ', without LSE'}": {"radius": radius, "lambdas": [lse, 1, 1, 0]}
                  for lse, radii in ((1, (1, 4, 16, 64)), (0, (16,))) for radius in radii}
"""Norms of the rows of W from the published start to its end. Without Eq. 1 the norm has no effect but through eps."""


def specs(profile: str) -> list[dict]:
    """Five configurations, each with five seeds."""
    return with_seeds({name: {"model": "FixedScaleSAE", **settings} for name, settings in CONFIGURATIONS.items()},
                      profile, seeds=5)


def build(spec: dict, data: Dataset) -> torch.nn.Module:
    """The untrained model of a spec, on the device of the data."""
    model = FixedScaleSAE(data.x_train.shape[1], spec["K"], radius=spec["radius"], lambdas=Lambdas(*spec["lambdas"]),
                          eps=spec["eps"], reduction=spec["reduction"], activation=spec["activation"],
                          seed=spec["seed"], dtype=data.x_train.dtype)
    return model.to(data.x_train.device)


fit = partial(protocol.fit, build=build)
