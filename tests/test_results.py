"""The committed results at the published scale: complete, and made by the code as it stands."""

import json

import pytest

from dfsae import experiments, records

RENEW = ("renew results/paper and results/full on a clean checkout with: rm -rf results/.runs/paper, make book PROFILE=paper, "
         "make full, make lm; see CONTRIBUTING.md")
EVERY = [(name, profile) for profile, found in (("paper", experiments.EXPERIMENTS), ("full", experiments.FULL)) for name in found]


@pytest.mark.parametrize("experiment, profile", EVERY)
def test_results_come_from_this_code(experiment, profile):
    about = records.load(experiment, profile)["provenance"]
    assert about["code"] == records.code_fingerprint(experiment), RENEW
    assert not about["uncommitted_changes"] and len(about["commit"]) == 40, RENEW


@pytest.mark.parametrize("experiment, profile", EVERY)
def test_results_hold_every_run_of_the_protocol(experiment, profile):
    runs = records.load(experiment, profile)["runs"]
    assert [run["spec"] for run in runs] == (experiments.EXPERIMENTS | experiments.FULL)[experiment].specs("paper"), RENEW
    assert all(len(term) == run["spec"]["epochs"] for run in runs for term in run["history"].values())


def test_the_published_scale_was_one_execution_in_three_gibibytes():
    times = json.loads((records.RESULTS / "paper" / "times.json").read_text())
    for name in experiments.EXPERIMENTS:
        about = records.load(name, "paper")["provenance"]
        assert about["commit"] == times["provenance"]["commit"], RENEW
        assert 0 <= times["stages"]["experiments"] - about["call"]["wall_seconds"] < 10, RENEW
    assert times["peak_mib"] < 3 * 1024


def test_lse_only_ends_at_the_known_loss():
    # 60,000 samples at -log 64 each over 469 steps; float32 sums of 128 terms keep six digits.
    runs = [run for run in records.load("ablation", "paper")["runs"] if run["spec"]["name"] == "LSE only"]
    assert [run["history"]["total"][-1] for run in runs] == pytest.approx([-60_000 / 469 * 4.1588830834] * 3, rel=1e-5)
