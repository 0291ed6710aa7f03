"""From outcomes to verdicts and pages: every kind of problem is found, and no outcome can turn unnoticed."""

import json
import re
from copy import deepcopy

import pytest

import execute
import ledger
from dfsae import claims
from dfsae.claims import NOT_DECIDABLE, criteria_hash
from dfsae.data import ROOT

EMPIRICAL = {"id": "5.2 B", "place": "5.2", "quote": "No dead units", "covers": ["5.2:1"], "kind": "empirical",
             "criterion": "No unit is dead.", "tolerance": "A count.", "criteria": {"dead units": {"equals": 0}},
             "verdict": "reproduced", "evidence": ["thm-x"]}


def outcome(claim, statement="a check", kind="check", passed=True):
    return {"claim": claim, "statement": statement, "kind": kind, "passed": passed, "value": 0.0, "bound": "= 0",
            "notebook": "05", "anchor": "check-0"}


@pytest.fixture
def case():
    """A ledger without a problem, and its outcomes."""
    equations = [{"id": f"Eq. {n}", "place": "2.1", "quote": f"$x < {n}$", "covers": [f"2.1:{n}"], "kind": "identity",
                  "criterion": "They agree.", "tolerance": "Rounding.", "verdict": "holds"} for n in range(1, 13)]
    content = {"sentences": {"2.1": {"total": 13, "plan": [13]}, "5.2": {"total": 2, "definition": [2]}},
               "claims": [*equations, EMPIRICAL],
               "findings": [{"id": "thm-x", "statement": "It is so.", "place": "2.1", "criteria": {"least": {"at_least": 1}}}]}
    outcomes = [outcome("thm-x"), outcome("thm-x", "least", "assess"), outcome("5.2 B", "dead units", "assess"),
                outcome("5.2 B", "a wrong variant", "rejects"), *[outcome(f"Eq. {n}") for n in range(1, 13)]]
    return claims.validated(deepcopy(content)), outcomes


def claim_of(content, name):
    return next(entry for entry in content["claims"] if entry["id"] == name)


# Judging

def test_a_ledger_without_a_problem(case):
    rows, problems = ledger.judge(*case)
    assert problems == [] and [row["id"] for row in rows] == [claim["id"] for claim in case[0]["claims"]]
    last = rows[-1]
    assert (last["verdict"], last["expected"], last["criterion_fixed"], last["quote"]) == \
        ("reproduced", "reproduced", "", "No dead units")
    assert [(each["claim"], each["statement"]) for each in last["checks"]] == \
        [("5.2 B", "dead units"), ("5.2 B", "a wrong variant"), ("thm-x", "a check"), ("thm-x", "least")]


def test_a_row_has_the_computed_verdict_beside_the_expected_one(case):
    case[1][2]["passed"] = False
    last = ledger.judge(*case)[0][-1]
    assert (last["verdict"], last["expected"]) == ("partly reproduced", "reproduced")


@pytest.mark.parametrize("change, expected", [
    # A verdict differs
    (lambda content, made: made[2].update(passed=False),
     ['5.2 B: expected "reproduced", the checks say "partly reproduced"']),
    (lambda content, made: made[-1].update(kind="refutes"),
     ['Eq. 12: expected "holds", the checks say "does not hold as written"']),
    (lambda content, made: made.pop(), [f'Eq. 12: expected "holds", the checks say "{NOT_DECIDABLE}"']),
    (lambda content, made: claim_of(content, "Eq. 3").update(verdict=NOT_DECIDABLE),
     [f'Eq. 3: expected "{NOT_DECIDABLE}", the checks say "holds"']),
    # A finding has no support
    (lambda content, made: content["findings"].append({"id": "thm-y"}), ["thm-y: no check supports this finding"]),
    (lambda content, made: content["findings"].append({"id": "thm-y"}) or made.append(outcome("thm-y", kind="rejects")),
     ["thm-y: no check supports this finding"]),
    (lambda content, made: content["findings"].append({"id": "thm-y"}) or made.append(outcome("thm-y", "it", "assess", False)),
     ["thm-y: not met: it"]),
    # A criterion is never assessed
    (lambda content, made: claim_of(content, "5.2 B")["criteria"].update(more={"equals": 1}), ["5.2 B: never assessed: more"]),
    (lambda content, made: made[1].update(kind="check"), ["thm-x: never assessed: least"]),
    (lambda content, made: made[1].update(claim="Eq. 1"), ["thm-x: never assessed: least"]),
    # Two outcomes cannot be told apart
    (lambda content, made: made.append(outcome("Eq. 2", kind="rejects")), ["Eq. 2: stated twice: a check"]),
    # An equation has no row
    (lambda content, made: content["claims"].remove(claim_of(content, "Eq. 12")) or content["sentences"]["2.1"]["plan"].append(12),
     ["Eq. 12: a check names this id, which has no entry", "Eq. 12: this numbered equation has no row"]),
    (lambda content, made: made.append(outcome("Eq. 13")), ["Eq. 13: a check names this id, which has no entry"]),
    # Sentences
    (lambda content, made: content["sentences"]["5.2"].update(definition=[]),
     ["sentence 5.2:2 of the draft has neither a row nor a reason"]),
    (lambda content, made: content["sentences"]["2.1"].update(total=14),
     ["sentence 2.1:14 of the draft has neither a row nor a reason"]),
    (lambda content, made: content["sentences"]["5.2"].update(scope=[1]),
     ["sentence 5.2:1 of the draft has a row and a reason"]),
    (lambda content, made: content["sentences"]["5.2"].update(literature=[2]), ["sentence 5.2:2 has two reasons"]),
    (lambda content, made: claim_of(content, "Eq. 1")["covers"].append("5.2:3"), ["the draft has no sentence 5.2:3"]),
    (lambda content, made: content["sentences"]["5.2"].update(question=[0]), ["the draft has no sentence 5.2:0"]),
])
def test_a_problem_is_found(change, expected, case):
    change(*case)
    assert ledger.judge(*case)[1] == expected


@pytest.mark.parametrize("experiments, criteria, hindsight, expected", [
    ([], {}, False, ""),
    (["ablation"], {}, False, "written after the run"),
    (["ablation", "variants"], {"ablation": "now"}, True, "written after the run"),
    (["ablation"], {"ablation": "0123456789ab"}, True, "changed after the run"),
    (["ablation", "variants"], {"ablation": "now", "variants": "changed between runs"}, False, "changed after the run"),
    (["ablation", "variants"], {"ablation": "now", "variants": "now"}, False, "fixed before the run"),
    (["variants"], {"variants": "now"}, True, "fixed before the run, with earlier results known"),
])
def test_when_a_criterion_was_fixed(experiments, criteria, hindsight, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger.records, "RESULTS", tmp_path)
    (tmp_path / "paper").mkdir()
    claim = EMPIRICAL | {"results": experiments} | ({"hindsight": True} if hindsight else {})
    for name in experiments:
        known = {claim["id"]: criteria_hash(claim) if criteria[name] == "now" else criteria[name]} if name in criteria else {}
        about = {"criteria": {"another claim": "0", **known}} if criteria else {}  # older results have no criteria
        (tmp_path / "paper" / f"{name}.json").write_text(json.dumps({"provenance": {"profile": "paper"} | about}))
    assert ledger.criterion_fixed(claim) == expected


# Pages

@pytest.mark.parametrize("text, expected", [
    ("a < b & c", "a &lt; b &amp; c"), ("*a < b* and *c*", "<em>a &lt; b</em> and <em>c</em>"),
    ("$a * b$ of 2 * 2", r'<span class="math notranslate nohighlight">\(a * b\)</span> of 2 * 2'),
    ("$x < y$ if <i>", r'<span class="math notranslate nohighlight">\(x &lt; y\)</span> if &lt;i&gt;'),
    (r"from $-\log 64$ to $64$.", r'from <span class="math notranslate nohighlight">\(-\log 64\)</span> '
                                  r'to <span class="math notranslate nohighlight">\(64\)</span>.'),
])
def test_html_is_escaped_and_leaves_formulas_to_mathjax(text, expected):
    assert ledger.html(text) == expected


@pytest.mark.parametrize("changes, source, words", [
    ({}, "Paper, Section 5.2", "<q>“No dead units”</q>"),
    ({"place": "Figure 2"}, "Paper, Figure 2", "<q>“No dead units”</q>"),
    ({"origin": "predicted here"}, "Predicted here, Section 5.2", "No dead units"),
    ({"origin": "predicted here", "place": "8"}, "Predicted here, Chapter 8", "No dead units"),
    ({"origin": "published later"}, "Published later, Section 5.2", "No dead units"),
])
def test_only_words_of_the_draft_are_quoted(changes, source, words, case):
    row = ledger.judge(*case)[0][-1] | changes
    assert (ledger.source(row), ledger.words(row)) == (source, words)
    whose = f' <span class="elsewhere">({changes["origin"]})</span>' if "origin" in changes else ""
    assert f"</a> {words}{whose}</li>" in ledger.section_list([row], row["place"])
    assert f"<td>{words}</td>" in ledger.ledger_table([row], case[0], [])
    assert changes.get("origin", "empirical") in ledger.ledger_table([row], case[0], [])
    wrong = row | {"verdict": "not reproduced", "correction": "Some die.", "consequence": "None."}
    text = ledger.corrections([wrong], case[0], [])
    assert (f"\n:::{{admonition}} {ledger.linked(source)}\n:class: paper\nNo dead units\n:::\n" in text) == ("origin" not in changes)
    assert (f"\n**{ledger.linked(source)}: not reproduced.** No dead units\n" in text) == ("origin" in changes)


def test_a_lone_formula_may_break_into_lines_outside_brackets():
    parts = [r"f(x - \mu)", r"{}= -\frac{1}{2}(x - \mu)", r"{}- \log x", r"{}+ \text{const}"]
    spans = "".join(f'<span class="math notranslate nohighlight">\\({part}\\)</span>' for part in parts)
    formula = r"$f(x - \mu) = -\frac{1}{2}(x - \mu) - \log x + \text{const}$"
    assert ledger.words({"quote": formula}) == f'<q class="formula">{spans}</q>'
    assert ledger.words({"quote": "if $x = 1$"}) == r'<q>“if <span class="math notranslate nohighlight">\(x = 1\)</span>”</q>'


@pytest.mark.parametrize("value, bound, shown", [
    (375000.0, ">= 1e-06", '375000 <span class="bound">(as written: ≥ 1e−06)</span>'),
    (-0.063391, "<= -2", '−0.06339 <span class="bound">(as written: ≤ −2)</span>')])
def test_a_line_of_evidence_has_counts_and_signs(value, bound, shown):
    line = ledger.check_line(outcome("Eq. 1", "a <= -1 & b", "refutes") | {"value": value, "bound": bound})
    assert line == f'<li class="refutes">✗ <a href="../notebooks/05.html#check-0">a ≤ −1 &amp; b</a>: {shown}</li>'


def test_rows_come_by_section_and_own_predictions_last():
    rows = [{"place": "2"}, {"place": "2.1"}, {"place": "5.2"}, {"place": "Figure 2"}, {"place": "5.5", "origin": "published later"},
            {"place": "5.5", "origin": "predicted here"}, {"place": "6.1"}, {"place": "11", "origin": "predicted here"}]
    assert sorted(reversed(rows), key=ledger.position) == rows


@pytest.mark.parametrize("text, expected", [
    ("Paper, Section 2.4", "Paper, [Section 2.4](/notebooks/02_a.md)"), ("Chapter 12.", "[Chapter 12](/notebooks/12_c.md)."),
    ("Paper, Figure 2", "Paper, [Figure 2](/notebooks/05_2_b.md)"), ("Section 5.3", "Section 5.3"),
    ("as in 2.4. It; see 5.2.", "as in [2.4](/notebooks/02_a.md). It; see [5.2](/notebooks/05_2_b.md)."),
    ("in 2.4 of 2.4.", "in 2.4 of 2.4."), ("Equation 1, not Eq. 4 and 5", "{eq}`eq-1`, not {eq}`eq-4` and {eq}`eq-5`"),
])
def test_references_become_links(text, expected, tmp_path, monkeypatch):
    for name in ("02_a.md", "05_1_a.md", "05_2_b.md", "12_c.md"):
        (tmp_path / name).touch()
    monkeypatch.setattr(ledger, "NOTEBOOKS", tmp_path)
    assert ledger.linked(text) == expected


def test_corrections_say_a_finding_once_and_own_predictions_last(case):
    row = ledger.judge(*case)[0][-1] | {"verdict": "not reproduced", "correction": "Some.", "consequence": "None.", "corrected_by": ["thm-x"]}
    rows = [row | {"id": "own", "origin": "predicted here"}, row, row | {"id": "again"}, row | {"id": "part", "verdict": "partly reproduced"}]
    text = ledger.corrections(rows, *case)
    assert re.findall("^##+ (.*)$", text, flags=re.M) == [
        "Statements about trained models that are not reproduced", "5.2 B", "again",
        "Statements about trained models that are reproduced in part", "part", "Predictions of this book that missed", "own"]
    assert text.count("It is so. Proof: {prf:ref}`thm-x`.") == text.count("1 more in the chapter") == 1
    assert text.count("As under {ref}`5.2 B <correction-5-2-b>`.") == 3
    assert text.index("(correction-5-2-b)=\n### 5.2 B\n") < text.index("It is so.") < text.index("(correction-again)=\n### again\n")


@pytest.mark.parametrize("place, expected", [("5.2", "5"), ("11", "11"), ("Figure 2", "Figures")])
def test_the_chapter_of_a_claim_is_the_first_number_of_its_place(place, expected):
    assert ledger.chapter({"place": place}) == expected


def test_a_criterion_of_the_full_profile_is_looked_up_there(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger.records, "RESULTS", tmp_path)
    claim = EMPIRICAL | {"results": ["drift"]}
    ledger.records.write_json(tmp_path / "full" / "drift.json", {
        "provenance": {"profile": "full", "criteria": {claim["id"]: criteria_hash(claim)}}})
    assert ledger.criterion_fixed(claim) == "fixed before the run"


def test_theorems_are_found_with_their_proofs():
    text = """# Title

:::{prf:theorem} When {eq}`eq-1` holds
:label: thm-one
It holds, see [](02_implicit_em).

In two paragraphs.
:::

:::{prf:proof}
By [Section 3](03_infomax#x) and [](https://x.org/03_infomax).
:::

:::{prf:definition} Not a theorem
:label: def-two
:::

:::{prf:theorem} Another
:label: thm-two
$x$
:::
:::{prf:proof}
Trivial.
:::
"""
    assert ledger.theorem_blocks(text) == [
        ("When {eq}`eq-1` holds", "thm-one", "It holds, see [](/notebooks/02_implicit_em.md).\n\nIn two paragraphs.",
         "By [Section 3](/notebooks/03_infomax.md#x) and [](https://x.org/03_infomax)."),
        ("Another", "thm-two", "$x$", "Trivial.")]


def test_the_score_counts_every_verdict():
    numbers = dict(zip(ledger.VERDICTS, range(11, 18), strict=True))
    rows = [{"verdict": name} for name, n in numbers.items() for _ in range(n)]
    text = ledger.score(rows + [{"verdict": "reproduced", "origin": "predicted here"}])  # not the paper's
    assert text == ("The paper makes 98 statements that this book judges. Of 36 that mathematics or a count decides, "
                    "11 hold, 12 hold under conditions and 13 do not hold as written. Of 45 about trained models, "
                    "14 are reproduced, 15 in part and 16 not. 17 are not decidable as stated.")


def test_coverage_counts_sentences(case):
    lines = ledger.coverage(case[0]).splitlines()
    assert lines[0] == "| section | sentences | with a row | definition | announcement | question | literature | scope | plan |"
    assert lines[1] == "|---|" + 8 * "---:|"
    assert lines[2:5] == ["| 2.1 | 13 | 12 |  |  |  |  |  | 1 |", "| 5.2 | 2 | 1 | 1 |  |  |  |  |  |",
                          "| all | 15 | 13 | 1 | 0 | 0 | 0 | 0 | 1 |"]


def test_the_readme_holds_the_score_between_its_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- score -->\n<!-- /score -->\nafter\n")
    for score in ("1 of 2 hold.", "2 of 2 hold."):
        readme.write_text(ledger.readme_with(score))
        assert readme.read_text() == f"before\n<!-- score -->\n{score}\n<!-- /score -->\nafter\n"


# The ledger of the book, with the outcomes of the stored runs

@pytest.fixture(scope="module")
def stored():
    return [made for path in sorted((ROOT / "tests" / "smoke").glob("*.ipynb")) for made in execute.outcomes(path)]


def test_the_stored_runs_give_the_expected_verdicts(stored):
    assert ledger.judge(claims.ledger(), stored)[1] == []


def test_the_readme_has_the_score_of_the_stored_runs(stored):
    rows, _ = ledger.judge(claims.ledger(), stored)
    assert ledger.score(rows) in (ROOT / "README.md").read_text(), "renew it with: make smoke"


def reported(claim, outcomes, turned, *, to):
    """Whether judge reports the claim when the outcomes ``turned`` speak for it, or against it."""
    changed = [made | {"passed": to != (made["kind"] == "refutes")} if n in turned else made
               for n, made in enumerate(outcomes)]
    alone = {"sentences": {}, "claims": [claim], "findings": []}
    return any(text.startswith(f"{claim['id']}: expected ") for text in ledger.judge(alone, changed)[1])


def test_no_outcome_of_a_claim_can_turn_unnoticed(stored, monkeypatch):
    """All that decides a claim turned one way is reported; so is a single one, unless the verdict is mixed."""
    monkeypatch.setattr(ledger, "criterion_fixed", lambda claim: "")
    unnoticed = []
    for claim in claims.ledger()["claims"]:
        names = {claim["id"], *claim.get("evidence", [])}
        decisive = [n for n, made in enumerate(stored) if made["claim"] in names and made["kind"] != "rejects"]
        if decisive and not any(reported(claim, stored, decisive, to=to) for to in (True, False)):
            unnoticed.append(claim["id"])
        if claim["verdict"] not in ("holds under conditions", "partly reproduced"):
            to = claim["verdict"] in ("does not hold as written", "not reproduced")
            unnoticed += [f"{claim['id']}: {stored[n]['statement']}" for n in decisive
                          if not reported(claim, stored, [n], to=to)]
    assert unnoticed == []


def test_the_theorems_page_has_every_theorem_and_the_experiments_that_show_it():
    findings = [entry for entry in claims.ledger()["findings"] if entry["id"].startswith("thm-")]
    seen = [outcome(name, f"seen in {name}", "assess") for entry in findings for name in entry.get("seen_in", [])]
    first = findings[0]["id"]
    seen += [outcome(first), outcome(first, "wrong", "rejects"), outcome(first, "wrong too", "rejects")]
    page = ledger.theorems(claims.ledger(), seen)
    assert page.count("{prf:theorem}") == page.count("{dropdown} Proof") == len(findings)
    assert all(each["statement"] in page for each in seen if each["kind"] != "rejects")
    in_chapters = re.findall(r"^:::\{prf:theorem\} .+\n:label: (.+)$", "".join(
        path.read_text() for path in sorted((ROOT / "notebooks").glob("[0-9]*.md"))), flags=re.M)
    assert re.findall(r"^## Theorem (\d+)\. |^\{prf:ref\}`(.+)` of", page, flags=re.M) == [
        pair for number, label in enumerate(in_chapters, start=1) for pair in ((str(number), ""), ("", label))]
    assert page.count(": 1 check holds, 2 wrong variants are rejected.\n") == 1


def test_corrections_have_every_row_that_does_not_stand_and_no_broken_reference(stored):
    rows, _ = ledger.judge(claims.ledger(), stored)
    page = ledger.pages(claims.ledger(), rows, stored)["corrections"]
    wrong = [row["id"] for row in rows if row["verdict"] in ledger.TO_CORRECT]
    assert sorted(re.findall("^### (.*)$", page, flags=re.M)) == sorted(wrong)
    assert set(re.findall(r"<(correction-.*?)>`", page)) <= set(re.findall(r"^\((correction-.*)\)=$", page, flags=re.M))
