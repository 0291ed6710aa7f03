"""The paper's objective around the published point: weights of the terms, width, batch size."""

from dfsae.experiments.codes import probed_metrics as evaluate
from dfsae.experiments.protocol import fit, with_seeds

FACTORS = (0.25, 0.5, 2, 4)

CONFIGURATIONS = {"as published": {}} | {
    f"lambda_{name} = {factor}": {"lambdas": [*[1] * at, factor, *[1] * (2 - at), 0]}
    for at, name in enumerate(("lse", "var", "tc")) for factor in FACTORS} | {
    f"K = {K}": {"K": K} for K in (16, 32, 128, 256)} | {
    f"batch of {size}": {"batch_size": size} for size in (32, 64, 256, 512)}
"""What differs from the published protocol; activations, eps and the reduction are among the variants."""


def specs(profile: str) -> list[dict]:
    """One setting changed at a time, each with five seeds, for a fifth of the epochs of the profile."""
    return with_seeds({name: {"model": "DecoderFreeSAE", "lambdas": [1, 1, 1, 0], **change}
                       for name, change in CONFIGURATIONS.items()}, profile, seeds=5, part=5)
