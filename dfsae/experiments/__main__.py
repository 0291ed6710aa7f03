"""``python -m dfsae.experiments PROFILE [EXPERIMENT ...]``: make the results of a profile, all or some, without notebooks."""

import sys

from dfsae.experiments import run_experiments

if __name__ == "__main__":
    run_experiments(sys.argv[1], sys.argv[2:] or None)
