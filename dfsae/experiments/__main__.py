"""``python -m dfsae.experiments PROFILE``: make the results of a profile, without notebooks."""

import sys

from dfsae.experiments import run_experiments

if __name__ == "__main__":
    run_experiments(*sys.argv[1:2])
