"""Section 6.3: a reconstruction error in place of the two penalties."""

from dfsae.experiments.codes import probed_metrics as evaluate
from dfsae.experiments.protocol import fit, with_seeds

CONFIGURATIONS = {
    "reconstruction only": {"lse": 0.0, "start": "default"},
    "LSE + reconstruction": {"lse": 1.0, "start": "default"},
    "reconstruction only, tied start": {"lse": 0.0, "start": "tied"},
    "LSE + reconstruction, tied start": {"lse": 1.0, "start": "tied"},
}
"""Section 6.3: a reconstruction error as the only volume control, with and without Eq. 1, from two starts."""


def specs(profile: str) -> list[dict]:
    """Each configuration with three seeds."""
    return with_seeds({name: {"model": "ReconstructedEnergies", **settings} for name, settings in CONFIGURATIONS.items()},
                      profile, seeds=3)
