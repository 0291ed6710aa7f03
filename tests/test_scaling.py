"""What is measured of training by several processes."""

import json
import subprocess
import sys

import pytest

from dfsae.data import ROOT

SCALING = json.loads((ROOT / "results" / "scaling.json").read_text())


def test_every_shape_was_measured_with_one_and_with_two_ranks():
    found = {(run["K"], run["way"], run["ranks"]) for run in SCALING["runs"]}
    assert found == {(K, way, ranks) for K, way, _ in found for ranks in (1, 2)} and len(found) == 14
    assert all(len(run["seconds"]) == 5 and min(run["seconds"]) > 0 for run in SCALING["runs"])
    assert not SCALING["provenance"]["uncommitted_changes"]


@pytest.mark.parametrize("way, numbers", [("gather", 512 * 8), ("reduce", 8 * 8 + 8 + 1)])
def test_what_is_exchanged_is_counted(way, numbers, tmp_path):
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1",
                           ROOT / "benchmarks" / "scaling.py", "8", way, tmp_path / "found.json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["numbers"] == numbers + 8 * 769 + 2 and found["ranks"] == 1
