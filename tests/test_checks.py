"""Checks raise, assessments record, and both carry their outcome as data."""

import json
from math import inf, nan

import pytest
import torch

from dfsae import checks
from dfsae.checks import MIME, CheckFailed, assess, check, check_rejects

WITHIN = [({"at_most": 2}, "<= 2"), ({"at_least": 1}, ">= 1"), ({"equals": 1.5}, "= 1.5"),
          ({"at_most": 1.5}, "<= 1.5"), ({"at_least": 1.5}, ">= 1.5"),
          ({"at_most": 2, "at_least": 1}, "<= 2 and >= 1")]
OUTSIDE = [({"at_most": 1}, "<= 1"), ({"at_least": 2}, ">= 2"), ({"equals": 1.500001}, "= 1.5"),
           ({"at_most": 3, "at_least": 2}, "<= 3 and >= 2"), ({"at_most": 1, "at_least": 0}, "<= 1 and >= 0"),
           ({"equals": 0}, "= 0"), ({"at_most": 0}, "<= 0")]


@pytest.fixture
def shown(monkeypatch):
    outcomes = []
    monkeypatch.setattr(checks, "display", outcomes.append)
    return outcomes


@pytest.mark.parametrize("bound, text", WITHIN)
def test_values_within(bound, text, shown):
    check("Eq. 1", "it holds", 1.5, **bound)
    assess("5.2", "met", 1.5, **bound)
    with pytest.raises(CheckFailed, match="NOT REJECTED"):
        check_rejects("Eq. 1", "too weak", 1.5, **bound)
    assert [(o.kind, o.passed, o.value, o.bound) for o in shown] == \
        [("check", True, 1.5, text), ("assess", True, 1.5, text)]


@pytest.mark.parametrize("bound, text", OUTSIDE)
def test_values_outside(bound, text, shown):
    with pytest.raises(CheckFailed):
        check("Eq. 1", "it fails", 1.5, **bound)
    assess("5.2", "not met", 1.5, **bound)
    check_rejects("Eq. 1", "wrong variant", 1.5, **bound)
    assert [(o.kind, o.passed) for o in shown] == [("assess", False), ("rejects", True)]
    assert all(text in o.bound for o in shown)


@pytest.mark.parametrize("bound", [{"at_most": inf}, {"at_least": -inf}, {"equals": nan}])
def test_nan_is_never_within(bound, shown):
    with pytest.raises(CheckFailed, match="measured nan"):
        check("Eq. 1", "not defined", nan, **bound)
    assess("5.2", "not defined", nan, **bound)
    assert [o.passed for o in shown] == [False]


def test_a_failure_says_claim_statement_value_bound_and_verdict(shown):
    assert issubclass(CheckFailed, AssertionError)
    with pytest.raises(CheckFailed) as error:
        check("Eq. 2", "largest error", 0.123456, at_most=1e-12)
    assert str(error.value) == "✗ Eq. 2 | largest error | measured 0.1235, criterion <= 1e-12 | FAILS"
    with pytest.raises(CheckFailed) as error:
        check_rejects("Eq. 2", "sign flipped", 0.0, at_most=1e-12)
    assert str(error.value) == "✗ Eq. 2 | sign flipped | measured 0, criterion <= 1e-12 | NOT REJECTED"
    assert shown == []


@pytest.mark.parametrize("function", [check, check_rejects, assess])
@pytest.mark.parametrize("bounds", [{}, {"equals": 1, "at_most": 2}, {"equals": 1, "at_least": 0}])
def test_a_missing_or_contradictory_bound_is_an_error(function, bounds):
    with pytest.raises(ValueError, match="give at_most, at_least, both of them, or equals; got at_most="):
        function("Eq. 1", "no bound", 1.0, **bounds)


@pytest.mark.parametrize("value", [torch.tensor(0.5), torch.tensor([0.5]), 0.5])
def test_the_outcome_travels_as_data(value, shown):
    check("Eq. 2", "error", value, at_most=torch.tensor(1.0))
    bundle = shown[0]._repr_mimebundle_()
    assert bundle.keys() == {"text/plain", "text/html", MIME}
    assert json.loads(json.dumps(bundle[MIME])) == {
        "kind": "check", "claim": "Eq. 2", "statement": "error", "value": 0.5, "bound": "<= 1", "passed": True}
    assert bundle["text/plain"] == "✓ Eq. 2 | error | measured 0.5, criterion <= 1 | holds"


@pytest.mark.parametrize("kind, function, passed, verdict", [
    ("check", check, True, "holds"), ("rejects", check_rejects, True, "wrong variant rejected"),
    ("assess", assess, True, "met"), ("assess", assess, False, "not met"),
])
def test_the_html_line_is_escaped_and_styled(kind, function, passed, verdict, shown):
    function("A & B", "a < b", 1.0, at_most=2.0 if passed != (kind == "rejects") else 0.0)
    html = shown[0]._repr_mimebundle_()["text/html"]
    assert f'class="outcome {kind} {"passed" if passed else "unmet"}"' in html and verdict in html
    assert "A &amp; B" in html and "a &lt; b" in html and "criterion &lt;=" in html


def test_the_display_is_ipythons(capsys):
    check("Eq. 1", "shown outside of a notebook as text", 1.0, at_most=2.0)
    assert "✓ Eq. 1 | shown outside of a notebook as text" in capsys.readouterr().out
