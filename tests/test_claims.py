"""The ledger: what its schema refuses, and verdicts as a function of outcomes."""

from copy import deepcopy

import pytest

from dfsae import claims
from dfsae.claims import NOT_DECIDABLE, criteria_hash, criteria_hashes, criterion, entry, validated, verdict

CLAIM = {"id": "5.2 B", "place": "5.2", "quote": "No dead units", "covers": ["5.2:10"], "kind": "empirical",
         "criterion": "No unit is dead.", "tolerance": "A count.", "criteria": {"redundancy": {"at_least": 9}, "dead units, most": {"equals": 0}},
         "results": ["ablation", "variants"], "verdict": "reproduced", "evidence": ["thm-x"]}
OTHER = {"id": "Eq. 1", "place": "2.1", "quote": "words", "covers": [], "kind": "identity",
         "criterion": "They agree.", "tolerance": "Rounding.", "verdict": "holds"}
FINDING = {"id": "thm-x", "statement": "It is so.", "place": "2.1", "results": ["ablation"]}
CORRECTED = {"correction": "Instead.", "corrected_by": ["thm-x"], "consequence": "So."}
MISSING = object()


def content(claim=CLAIM, **changes):
    """A valid ledger whose first claim has some fields changed, or taken away."""
    changed = {name: value for name, value in {**claim, **changes}.items() if value is not MISSING}
    return deepcopy({"sentences": {"5.2": {"total": 14, "plan": [7]}}, "claims": [changed, OTHER], "findings": [FINDING]})


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(claims, "ledger", content)


# The schema

@pytest.mark.parametrize("changes", [
    {}, {"hindsight": True, "results": ["ablation", "benchmark", "reconstruction", "variants"], "place": "Figure 2"},
    {"kind": "inequality", "verdict": "holds", "covers": [], "criteria": MISSING}, {"verdict": "not reproduced", **CORRECTED}, {"verdict": "partly reproduced", "correction": "x", "consequence": "y"},
    {"kind": "asymptotic", "verdict": "holds under conditions", "condition": "K = 1"},
    {"kind": "identity", "verdict": "does not hold as written", **CORRECTED},
    {"kind": "interpretive", "verdict": NOT_DECIDABLE, "why": "x", "criteria": MISSING, "criterion": MISSING,
     "tolerance": MISSING, "bears": ["Eq. 1", "thm-x"]},
])
def test_what_the_schema_accepts(changes):
    assert validated(content(**changes)) == content(**changes)


@pytest.mark.parametrize("changes, problem", [
    *[({field: MISSING}, f"5.2 B: '{field}' is a required property")
      for field in ("place", "quote", "covers", "kind", "verdict", "criterion", "tolerance")],
    ({"id": MISSING}, "claims, entry 1: 'id' is a required property"),
    ({"kind": "lemma", "verdict": "holds"}, "5.2 B / kind: 'lemma' is not one of"),
    ({"place": "8"}, "5.2 B / place: '8' does not match"),
    ({"covers": ["5.2"]}, "5.2 B / covers / 0: '5.2' does not match"),
    ({"covers": ["5.2:1"] * 2}, "5.2 B / covers: ['5.2:1', '5.2:1'] has non-unique elements"),
    *[({field: ""}, f"5.2 B / {field}: '' should be non-empty")
      for field in ("quote", "criterion", "tolerance", "condition", "correction", "consequence", "why")],
    ({"verdicts": "holds"}, "5.2 B: Additional properties are not allowed ('verdicts' was unexpected)"),
    ({"results": ["ablations"]}, "5.2 B / results / 0: 'ablations' is not one of"),
    ({"hindsight": False}, "5.2 B / hindsight: True was expected"),
    # Criteria
    ({"criteria": {}}, "5.2 B / criteria: {} should be non-empty"),
    ({"criteria": {"x": {"below": 1}}}, "5.2 B / criteria / x: Additional properties are not allowed ('below' was unexpected)"),
    ({"criteria": {"x": {}}}, "5.2 B / criteria / x: {} should be non-empty"),
    *[({"criteria": {"x": {bound: "1"}}}, f"5.2 B / criteria / x / {bound}: '1' is not of type 'number'")
      for bound in ("at_most", "at_least", "equals")],
    # What each verdict needs
    ({"kind": "numeric", "verdict": "holds under conditions"}, "5.2 B: 'condition' is a required property"),
    *[({"kind": kind, "verdict": word, **CORRECTED, field: MISSING}, f"5.2 B: '{field}' is a required property")
      for kind, word in (("identity", "does not hold as written"), ("empirical", "not reproduced")) for field in CORRECTED],
    *[({"verdict": "partly reproduced", **CORRECTED, field: MISSING}, f"5.2 B: '{field}' is a required property")
      for field in ("correction", "consequence")],
    ({"verdict": NOT_DECIDABLE, "criteria": MISSING}, "5.2 B: 'why' is a required property"),
    ({"verdict": NOT_DECIDABLE, "why": "x"}, "5.2 B: "),
    # Two vocabularies
    ({"verdict": "true"}, "5.2 B / verdict: 'true' is not one of"),
    *[({"verdict": word, "condition": "x", **CORRECTED}, f"5.2 B / verdict: '{word}' is not one of ['reproduced', ")
      for word in ("holds", "holds under conditions", "does not hold as written")],
    *[({"kind": "identity", "verdict": word, **CORRECTED}, "5.2 B / kind: 'empirical' was expected")
      for word in ("reproduced", "partly reproduced", "not reproduced")],
    # Ids
    ({"id": "Eq. 1"}, "Eq. 1: the id occurs twice"),
    ({"id": "thm-x"}, "thm-x: the id occurs twice"),
    *[({field: ["Eq. 1", "Eq. 2"]}, f"5.2 B: {field} names 'Eq. 2', which has no entry")
      for field in ("evidence", "corrected_by", "bears")],
    ({"evidence": []}, "5.2 B / evidence: [] should be non-empty"),
])
def test_a_problem_is_listed_with_the_id_of_its_entry(changes, problem):
    with pytest.raises(ValueError) as error:
        validated(content(**changes))
    first, *lines = str(error.value).splitlines()
    assert first == "book/claims.yml:" and [line for line in lines if line.startswith(f"  {problem}")]
    # A wrong word fails the list of words and, if the claim is empirical, that of its verdicts.
    assert len(lines) == 1 or changes == {"verdict": "true"}


@pytest.mark.parametrize("part, changes, problem", [
    ("findings", {"statement": MISSING}, "thm-x: 'statement' is a required property"),
    ("findings", {"place": MISSING}, "thm-x: 'place' is a required property"),
    ("findings", {"id": MISSING}, "findings, entry 1: 'id' is a required property"),
    ("findings", {"place": "0"}, "thm-x / place: '0' does not match"),
    ("findings", {"verdict": "holds"}, "thm-x: Additional properties are not allowed"),
    ("findings", {"criteria": {"x": {"above": 1}}}, "thm-x / criteria / x: Additional properties are not allowed"),
    ("findings", {"results": ["ablations"]}, "thm-x / results / 0: 'ablations' is not one of"),
    ("sentences", {"total": MISSING}, "sentences / 5.2: 'total' is a required property"),
    ("sentences", {"total": 0}, "sentences / 5.2 / total: 0 is less than the minimum of 1"),
    ("sentences", {"joke": [1]}, "sentences / 5.2: Additional properties are not allowed"),
    *[("sentences", {reason: ["1"]}, f"sentences / 5.2 / {reason} / 0: '1' is not of type 'integer'")
      for reason in ("definition", "announcement", "question", "literature", "scope", "plan")],
])
def test_a_problem_of_a_finding_or_a_section_is_listed_too(part, changes, problem):
    wrong = content()
    changed = wrong[part][0 if part == "findings" else "5.2"]
    changed.update(changes)
    for name in [name for name, value in changes.items() if value is MISSING]:
        del changed[name]
    with pytest.raises(ValueError) as error:
        validated(wrong)
    assert str(error.value).startswith(f"book/claims.yml:\n  {problem}") and str(error.value).count("\n") == 1


def test_every_problem_is_listed():
    wrong = content(kind="lemma", verdict="holds", quote=MISSING)
    wrong["sentences"]["5.2"]["total"] = wrong["findings"][0]["place"] = 2.5
    with pytest.raises(ValueError) as error:
        validated(wrong)
    assert sorted(line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]) == \
        ["5.2 B", "5.2 B / kind", "sentences / 5.2 / total", "thm-x / place"]


@pytest.mark.parametrize("wrong, problem", [
    (None, "top level: None is not of type 'object'"), ([], r"top level: \[\] is not of type 'object'"),
    ({}, "top level: 'sentences' is a required property.*'claims' is .*'findings' is "),
    ({**content(), "proofs": []}, "top level: Additional properties are not allowed"), ({**content(), "claims": [7]}, "claims: 7 is not of type 'object'"),
    ({**content(), "findings": None}, "findings: None is not of type 'array'"),
])
def test_what_is_not_a_ledger_is_refused(wrong, problem):
    with pytest.raises(ValueError, match=f"(?s){problem}"):
        validated(wrong)


def test_the_book_has_a_valid_ledger():
    assert validated(claims.ledger())["claims"] and claims.ledger() is claims.ledger(), "read once"


# Entries and criteria

def test_claims_and_findings_are_found_by_id(small):
    assert entry("Eq. 1") == OTHER and entry("thm-x") == FINDING
    for name in ("Eq. 2", "Eq.", ""):
        with pytest.raises(ValueError, match=f"has no claim or finding '{name}'"):
            entry(name)


def test_a_criterion_is_the_bound_that_was_written(small):
    assert criterion("5.2 B", "dead units, most") == {"equals": 0}
    with pytest.raises(ValueError, match=r"'5.2 B' has no criterion 'dead units' in book/claims.yml; "
                                         r"it has \['dead units, most', 'redundancy'\]"):
        criterion("5.2 B", "dead units")
    for name in ("Eq. 1", "thm-x"):
        with pytest.raises(ValueError, match=rf"{name}' has no criterion 'x' in book/claims.yml; it has \[\]"):
            criterion(name, "x")


@pytest.mark.parametrize("changes, differs", [
    ({"criterion": "Few are dead."}, True), ({"tolerance": "Two units."}, True), ({"criteria": MISSING}, True),
    *[({"criteria": {"redundancy": {"at_least": 9}, **other}}, True)
      for other in ({}, {"dead units, most": {"equals": 1}}, {"dead units, most": {"at_most": 0}}, {"dead units, fewest": {"equals": 0}})],
    ({"quote": "other words", "verdict": "not reproduced", **CORRECTED, "hindsight": True, "id": "x", "kind": "numeric",
      "place": "6.1", "covers": [], "results": ["benchmark"], "evidence": ["Eq. 1"]}, False),
])
def test_the_hash_is_that_of_criterion_tolerance_and_bounds(changes, differs):
    before = criteria_hash(CLAIM)
    assert (criteria_hash(content(**changes)["claims"][0]) != before) == differs
    assert len(before) == 12 and int(before, 16)


def test_the_order_of_criteria_does_not_matter():
    turned = {"dead units, most": {"equals": 0}, "redundancy": {"at_least": 9}}
    assert list(turned) != list(CLAIM["criteria"]) and criteria_hash({**CLAIM, "criteria": turned}) == criteria_hash(CLAIM)


@pytest.mark.parametrize("experiment, judged", [("ablation", [CLAIM, FINDING]), ("variants", [CLAIM]), ("benchmark", [])])
def test_hashes_are_of_what_an_experiment_decides(experiment, judged, small):
    assert criteria_hashes(experiment) == {each["id"]: criteria_hash(each) for each in judged}


# Verdicts

FOR, AGAINST = ("check", True), ("refutes", True)
MET, UNMET, REJECTED = ("assess", True), ("assess", False), ("rejects", True)


@pytest.mark.parametrize("kind, own, expected", [
    ("identity", [FOR, FOR], "holds"),
    ("inequality", [FOR, REJECTED], "holds"),
    ("numeric", [MET], "holds"),
    ("asymptotic", [FOR, AGAINST], "holds under conditions"),
    ("numeric", [MET, UNMET], "holds under conditions"),
    ("identity", [("refutes", False), AGAINST], "holds under conditions"),
    ("identity", [AGAINST], "does not hold as written"),
    ("numeric", [UNMET, AGAINST, REJECTED], "does not hold as written"),
    ("identity", [("check", False)], "does not hold as written"),
    ("empirical", [MET, MET, REJECTED], "reproduced"),
    ("empirical", [MET, FOR], "reproduced"),
    ("empirical", [MET, UNMET], "partly reproduced"),
    ("empirical", [MET, AGAINST], "partly reproduced"),
    ("empirical", [UNMET, UNMET], "not reproduced"),
    ("empirical", [AGAINST, REJECTED], "not reproduced"),
    ("interpretive", [], NOT_DECIDABLE),
    ("empirical", [REJECTED, REJECTED], NOT_DECIDABLE),
])
def test_verdicts(kind, own, expected):
    def outcomes(*names):
        return [{"claim": names[n % len(names)], "kind": made, "passed": passed} for n, (made, passed) in enumerate(own)]

    claim = {"id": "Eq. 1", "kind": kind, "evidence": ["Eq. 2", "thm-x"], "bears": ["Eq. 3"], "corrected_by": ["Eq. 4"]}
    assert verdict(claim, outcomes("Eq. 1")) == expected
    assert verdict(claim, outcomes("Eq. 2", "thm-x", "Eq. 1")) == expected, "evidence counts as its own"
    others = [{"claim": name, "kind": made, "passed": passed} for name in ("Eq. 3", "Eq. 4", "Eq. 10")
              for made in ("check", "assess", "refutes") for passed in (True, False)]
    assert verdict(claim, others) == NOT_DECIDABLE
    assert verdict(claim, others + outcomes("Eq. 1")) == expected, "what others show does not"


def test_a_finding_is_seen_in_known_entries_only():
    wrong = content()
    wrong["findings"][0]["seen_in"] = ["5.2 B", "5.2 Z"]
    with pytest.raises(ValueError, match=f"{wrong['findings'][0]['id']}: seen_in names '5.2 Z', which has no entry"):
        validated(wrong)
