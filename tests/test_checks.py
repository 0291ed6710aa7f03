"""Checks raise, assessments record, and both carry their outcome as data."""

import json
from math import inf, nan

import numpy as np
import pytest
import torch

from dfsae import checks
from dfsae.checks import MIME, CheckFailed, assess, check, check_refutes, check_rejects, relative_error

WITHIN = [({"at_most": 2}, "<= 2"), ({"at_least": 1}, ">= 1"), ({"equals": 1.5}, "= 1.5"),
          ({"at_most": 1.5}, "<= 1.5"), ({"at_least": 1.5}, ">= 1.5"),
          ({"at_most": 2, "at_least": 1}, "1 to 2"), ({"at_most": 1.5 + 1e-9, "at_least": 1.5 - 1e-9}, "= 1.5 ± 1e-09")]
OUTSIDE = [({"at_most": 1}, "<= 1"), ({"at_least": 2}, ">= 2"), ({"equals": 1.500001}, "= 1.5"),
           ({"at_most": 3, "at_least": 2}, "2 to 3"), ({"at_most": 1, "at_least": 0.2}, "0.2 to 1"),
           ({"equals": 0}, "= 0"), ({"at_most": 0}, "<= 0")]


@pytest.fixture(autouse=True)
def criteria(monkeypatch):
    """The criteria of "5.2" and of "A & B" in a ledger of four entries; a test writes its own into them."""
    written = {}
    claims = [{"id": "Eq. 1"}, {"id": "5.2", "criteria": written}, {"id": "A & B", "criteria": written}]
    monkeypatch.setattr(checks.claims, "ledger", lambda: {"claims": claims, "findings": [{"id": "thm-x"}]})
    return written


@pytest.fixture
def shown(monkeypatch):
    outcomes = []
    monkeypatch.setattr(checks, "display", outcomes.append)
    return outcomes


@pytest.mark.parametrize("bound, text", WITHIN)
def test_values_within(bound, text, shown, criteria):
    criteria["met"] = bound
    check("Eq. 1", "it holds", 1.5, **bound)
    assess("5.2", "met", 1.5)
    with pytest.raises(CheckFailed, match="NOT REJECTED"):
        check_rejects("Eq. 1", "too weak", 1.5, **bound)
    with pytest.raises(CheckFailed, match="NOT REFUTED"):
        check_refutes("Eq. 1", "it stands", 1.5, **bound)
    assert [(o.kind, o.passed, o.value, o.bound) for o in shown] == \
        [("check", True, 1.5, text), ("assess", True, 1.5, text)]


@pytest.mark.parametrize("bound, text", OUTSIDE)
def test_values_outside(bound, text, shown, criteria):
    criteria["not met"] = bound
    with pytest.raises(CheckFailed):
        check("Eq. 1", "it fails", 1.5, **bound)
    assess("5.2", "not met", 1.5)
    check_rejects("Eq. 1", "wrong variant", 1.5, **bound)
    check_refutes("Eq. 1", "as written", 1.5, **bound)
    assert [(o.kind, o.passed) for o in shown] == [("assess", False), ("rejects", True), ("refutes", True)]
    assert all(text in o.bound and o.value == 1.5 for o in shown)


@pytest.mark.parametrize("bound", [{"at_most": inf}, {"at_least": -inf}, {"equals": nan}])
def test_nan_is_never_within_and_refutes_nothing(bound, shown, criteria):
    criteria["not defined"] = bound
    with pytest.raises(CheckFailed, match="measured nan"):
        check("Eq. 1", "not defined", nan, **bound)
    with pytest.raises(CheckFailed, match="measured nan.* NOT REFUTED"):
        check_refutes("Eq. 1", "not defined", nan, **bound)
    check_rejects("Eq. 1", "not defined", nan, **bound)
    assess("5.2", "not defined", nan)
    assert [(o.kind, o.passed) for o in shown] == [("rejects", True), ("assess", False)]


def test_a_failure_says_claim_statement_value_bound_and_verdict(shown):
    assert issubclass(CheckFailed, AssertionError)
    for function, value, line in [
            (check, 0.123456, "✗ thm-x | an error | measured 0.1235, criterion <= 1e-12 | FAILS"),
            (check_rejects, 0.0, "✗ thm-x | an error | measured 0, criterion <= 1e-12 | NOT REJECTED"),
            (check_refutes, 0.0, "✗ thm-x | an error | measured 0, criterion <= 1e-12 | NOT REFUTED")]:
        with pytest.raises(CheckFailed) as error:
            function("thm-x", "an error", value, at_most=1e-12)
        assert str(error.value) == line
    assert shown == []


@pytest.mark.parametrize("bounds", [{}, {"equals": 1, "at_most": 2}, {"equals": 1, "at_least": 0}])
def test_a_missing_or_contradictory_bound_is_an_error(bounds, criteria):
    criteria["no bound"] = bounds
    for function, given in ((check, bounds), (check_rejects, bounds), (check_refutes, bounds), (assess, {})):
        with pytest.raises(ValueError, match="give at_most, at_least, both of them, or equals; got at_most="):
            function("5.2", "no bound", 1.0, **given)


def test_what_the_ledger_lacks_is_an_error(shown):
    for function, bound in ((check, {"at_most": 2}), (check_rejects, {"at_most": 0}),
                            (check_refutes, {"at_most": 0}), (assess, {})):
        with pytest.raises(ValueError, match="no claim or finding 'Eq. 99'; add it, or correct the id"):
            function("Eq. 99", "it holds", 1.0, **bound)
    with pytest.raises(ValueError, match="'5.2' has no criterion 'made up after the run'"):
        assess("5.2", "made up after the run", 1.0)
    assert shown == []


@pytest.mark.parametrize("value", [torch.tensor(0.5), torch.tensor([0.5]), 0.5])
def test_the_outcome_travels_as_data(value, shown):
    check("Eq. 1", "error", value, at_most=torch.tensor(1.0))
    bundle = shown[0]._repr_mimebundle_()
    assert bundle.keys() == {"text/plain", "text/html", MIME}
    assert json.loads(json.dumps(bundle[MIME])) == {
        "kind": "check", "claim": "Eq. 1", "statement": "error", "value": 0.5, "bound": "<= 1", "passed": True,
        "anchor": shown[0].anchor}
    assert bundle["text/plain"] == "✓ Eq. 1 | error | measured 0.5, criterion <= 1 | holds"


def test_zero_has_no_sign(shown):
    check("Eq. 1", "a difference", -0.0, equals=0)
    assert "measured 0, criterion = 0" in str(shown[0])


def test_the_anchor_is_that_of_claim_and_statement_in_every_run(shown, criteria):
    criteria["error"] = {"at_most": 1}
    check("Eq. 1", "error", 0.5, at_most=1)
    check("Eq. 1", "error", 0.25, at_most=1)
    check("Eq. 1", "another", 0.5, at_most=1)
    assess("5.2", "error", 2.0)
    first, *others = [outcome.anchor for outcome in shown]
    # printf 'Eq. 1|error' | sha256sum
    assert first == "check-b5bae861c7" and [other == first for other in others] == [True, False, False]
    assert all(f'<div id="{o.anchor}" ' in o._repr_mimebundle_()["text/html"] for o in shown)


@pytest.mark.parametrize("kind, function, bound, verdict", [
    ("check", check, {"at_most": 2}, "holds"), ("rejects", check_rejects, {"at_most": 0}, "wrong variant rejected"),
    ("refutes", check_refutes, {"at_most": 0}, "refuted as written"),
    ("assess", assess, {"at_most": 2}, "met"), ("assess", assess, {"at_most": 0}, "not met"),
])
def test_the_html_line_is_escaped_and_styled(kind, function, bound, verdict, shown, criteria):
    criteria["a < b"] = bound
    function("A & B", "a < b", 1.0, **(bound if kind != "assess" else {}))
    html = shown[0]._repr_mimebundle_()["text/html"]
    assert f'class="outcome {kind} {"unmet" if verdict == "not met" else "passed"}"' in html and f" {verdict}<" in html
    assert "A &amp; B" in html and "a &lt; b" in html and "criterion ≤ " in html


def test_numbers_in_the_html_line_do_not_break_at_their_sign(shown):
    check("Eq. 1", "j -> k, to 1e-12, above -3, over -K, K-means, 2-3", -0.5, at_most=1e-3)
    html = shown[0]._repr_mimebundle_()["text/html"]
    assert "j -&gt; k, to 1e\u221212, above \u22123, over \u2212K, K-means, 2-3" in html
    assert '<span class="number">measured \u22120.5,</span> <span class="number">criterion ≤ 0.001</span>' in html
    assert "measured -0.5, criterion <= 0.001" in str(shown[0])


@pytest.mark.parametrize("found, expected, error", [
    ([1.0, -4.5], [1.0, -4.0], 0.125), ([2.0, 0.0], [1.0, -4.0], 1.0), (3, 2, 0.5), (1.0, [1.0, 2.0], 0.5),
    (inf, 1.0, inf),
])
@pytest.mark.parametrize("kind", [lambda values: values, np.array, torch.tensor])
def test_the_relative_error_is_that_of_the_largest_expected_value(found, expected, error, kind):
    assert relative_error(kind(found), kind(expected)) == error
    assert type(relative_error(kind(found), kind(expected))) is float


def test_the_relative_error_is_of_float64():
    third = torch.tensor(1.0, dtype=torch.float64) / 3
    assert 0 < relative_error(third.float(), third) < 1e-7, "a float32 has seven digits"
    assert relative_error([third, 1e-13], [third, 0.0]) == pytest.approx(3e-13)


@pytest.mark.parametrize("found, expected", [([1.0, nan], [1.0, 2.0]), ([1.0, 2.0], [nan, 2.0]), (inf, inf), (nan, 0.0)])
def test_the_relative_error_is_never_nan(found, expected):
    with pytest.raises(CheckFailed, match="the error is not a number: found"):
        relative_error(found, expected)


def test_the_relative_error_without_a_scale_and_of_other_shapes():
    assert relative_error([0.0, 0.0], [0.0, 0.0]) == 0 and relative_error([1e-300], [0.0]) == inf
    assert relative_error([2.0, 2.0], 2.0) == 0, "a number stands for every entry"
    with pytest.raises(ValueError, match=r"found has shape \(2, 1\), expected \(2,\)"):
        relative_error([[1.0], [2.0]], [1.0, 2.0])


def test_the_display_is_ipythons(capsys):
    check("Eq. 1", "shown outside of a notebook as text", 1.0, at_most=2.0)
    assert "✓ Eq. 1 | shown outside of a notebook as text" in capsys.readouterr().out
