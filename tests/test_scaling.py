"""What is measured of training by several processes."""

import json
import os
import sys

import pytest
import scaling
from forked import run_forked

from dfsae.data import ROOT

SCALING = json.loads((ROOT / "results" / "scaling.json").read_text())


def test_every_shape_was_measured_with_one_and_with_two_ranks():
    found = {(run["K"], run["way"], run["ranks"]) for run in SCALING["runs"]}
    assert found == {(K, way, ranks) for K, way, _ in found for ranks in (1, 2)} and len(found) == 14
    assert all(len(run["seconds"]) == 5 and min(run["seconds"]) > 0 for run in SCALING["runs"])
    assert not SCALING["provenance"]["uncommitted_changes"]


def only_rank(arguments: list[str]) -> None:
    """The program in the one process of a group, as torchrun would start it."""
    os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    sys.argv[1:] = arguments
    scaling.main()


@pytest.mark.parametrize("way, numbers", [("gather", 512 * 8), ("reduce", 8 * 8 + 8 + 1)])
def test_what_is_exchanged_is_counted(way, numbers, tmp_path):
    assert run_forked(only_rank, [(["8", way, str(tmp_path / "found.json")],)], log=tmp_path / "log") == [0], (tmp_path / "log").read_text()
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["numbers"] == numbers + 8 * 769 + 2 and found["ranks"] == 1
