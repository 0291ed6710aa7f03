"""From outcomes to verdicts: ``results/<profile>/claims.json`` and the pages that show them.

:func:`judge` computes every verdict of ``book/claims.yml`` and lists what is wrong with
the ledger. The other functions write parts of pages to ``book/generated``.
"""

import re
from collections import Counter
from dataclasses import fields
from html import escape

from dfsae import records
from dfsae.checks import Outcome, legible
from dfsae.claims import NOT_DECIDABLE, criteria_hash, verdict
from dfsae.data import ROOT
from dfsae.experiments import FULL

GENERATED = ROOT / "book" / "generated"
NOTEBOOKS = ROOT / "notebooks"
VERDICTS = ("holds", "holds under conditions", "does not hold as written",
            "reproduced", "partly reproduced", "not reproduced", NOT_DECIDABLE)
TO_CORRECT = {"does not hold as written": "Statements that do not hold as written",
              "not reproduced": "Statements about trained models that are not reproduced",
              "partly reproduced": "Statements about trained models that are reproduced in part"}
COUNTED = {"check": ("check holds", "checks hold"), "rejects": ("wrong variant is rejected", "wrong variants are rejected"),
           "refutes": ("reading of the paper is refuted", "readings of the paper are refuted"),
           "assess": ("assessment", "assessments")}
REASONS = {"definition": "defines a term or a setting", "announcement": "says what a section does",
           "question": "asks", "literature": "attributes something to the literature, which is read and not computed",
           "scope": "says what the paper does or does not do", "plan": "states an aim, a requirement or a plan"}


def judge(ledger: dict, outcomes: list[dict]) -> tuple[list[dict], list[str]]:
    """A row for every claim with its computed verdict and its checks, and every problem found.

    It is a problem when a verdict is not the expected one, a finding or a criterion has
    no check or an unmet one, two outcomes cannot be told apart, a numbered equation has
    no row, or a sentence of the draft has neither a row nor a reason.
    """
    problems = []
    rows = []
    for claim in ledger["claims"]:
        computed = verdict(claim, outcomes)
        names = [claim["id"], *claim.get("evidence", [])]
        checks = [outcome for name in names for outcome in outcomes if outcome["claim"] == name]
        if computed != claim["verdict"]:
            problems.append(f"{claim['id']}: expected \"{claim['verdict']}\", the checks say \"{computed}\"")
        rows.append({**claim, "verdict": computed, "expected": claim["verdict"], "checks": checks,
                     "criterion_fixed": criterion_fixed(claim)})
    for finding in ledger["findings"]:
        own = [outcome for outcome in outcomes if outcome["claim"] == finding["id"]]
        if not any(outcome["kind"] in ("check", "assess") for outcome in own):
            problems.append(f"{finding['id']}: no check supports this finding")
        problems += [f"{finding['id']}: not met: {outcome['statement']}" for outcome in own if not outcome["passed"]]
    for entry in ledger["claims"] + ledger["findings"]:
        assessed = {outcome["statement"] for outcome in outcomes
                    if outcome["claim"] == entry["id"] and outcome["kind"] == "assess"}
        problems += [f"{entry['id']}: never assessed: {name}" for name in sorted(set(entry.get("criteria", {})) - assessed)]
    twice = Counter((outcome["claim"], outcome["statement"]) for outcome in outcomes)
    problems += [f"{claim}: stated twice: {statement}" for (claim, statement), n in twice.items() if n > 1]
    ids = {claim["id"] for claim in ledger["claims"]}
    known = ids | {finding["id"] for finding in ledger["findings"]}
    problems += [f"{name}: a check names this id, which has no entry"
                 for name in sorted({outcome["claim"] for outcome in outcomes} - known)]
    problems += [f"Eq. {n}: this numbered equation has no row" for n in range(1, 13) if f"Eq. {n}" not in ids]
    return rows, problems + uncovered(ledger)


def uncovered(ledger: dict) -> list[str]:
    """Sentences of the draft without a row or a reason, with both, or that do not exist."""
    with_row = {sentence for claim in ledger["claims"] for sentence in claim["covers"]}
    with_reason = [f"{section}:{number}" for section, of in ledger["sentences"].items()
                   for reason in REASONS for number in of.get(reason, [])]
    every = {f"{section}:{number}" for section, of in ledger["sentences"].items()
             for number in range(1, of["total"] + 1)}
    return ([f"sentence {name} of the draft has neither a row nor a reason"
             for name in sorted(every - with_row - set(with_reason))]
            + [f"sentence {name} of the draft has a row and a reason" for name in sorted(with_row & set(with_reason))]
            + [f"sentence {name} has two reasons" for name, n in Counter(with_reason).items() if n > 1]
            + [f"the draft has no sentence {name}" for name in sorted((with_row | set(with_reason)) - every)])


def criterion_fixed(claim: dict) -> str:
    """When the criterion of a claim was fixed, seen from the results that it judges."""
    found = []
    for experiment in claim.get("results", []):
        about = records.load(experiment, "full" if experiment in FULL else "paper")["provenance"]
        found.append(about.get("criteria", {}).get(claim["id"]))
    if not found:
        return ""
    if None in found:
        return "written after the run"
    if set(found) != {criteria_hash(claim)}:
        return "changed after the run"
    return "fixed before the run" + (", with earlier results known" if claim.get("hindsight") else "")


def score(rows: list[dict]) -> str:
    """One sentence: how many claims, and how many of each verdict."""
    rows = [row for row in rows if "origin" not in row]
    n = Counter(row["verdict"] for row in rows)
    theory = sum(n[name] for name in VERDICTS[:3])
    empirical = sum(n[name] for name in VERDICTS[3:6])
    return (f"The paper makes {len(rows)} statements that this book judges. Of {theory} that mathematics or a count decides, "
            f"{n['holds']} hold, {n['holds under conditions']} hold under conditions and "
            f"{n['does not hold as written']} do not hold as written. Of {empirical} about trained models, "
            f"{n['reproduced']} are reproduced, {n['partly reproduced']} in part and {n['not reproduced']} not. "
            f"{n[NOT_DECIDABLE]} are not decidable as stated.")


def html(text: str) -> str:
    """Text of the ledger as HTML, with its *emphasis*, and its $formulas$ left to MathJax."""
    parts = re.split(r"\$([^$]+)\$", text)
    return "".join(f'<span class="math notranslate nohighlight">\\({escape(part)}\\)</span>' if odd % 2
                   else re.sub(r"\*([^*]+)\*", r"<em>\1</em>", escape(part)) for odd, part in enumerate(parts))


def slug(name: str) -> str:
    """Id of a claim in the ledger page."""
    return "claim-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def badge(row: dict, link: str = "") -> str:
    """The verdict as a coloured word, linked to the ledger."""
    kind = row["verdict"].replace(" ", "-")
    return (f'<a class="verdict {kind}" href="{link}#{slug(row["id"])}">{row["verdict"]}</a>' if link
            else f'<span class="verdict {kind}">{row["verdict"]}</span>')


def chapter(row: dict) -> str:
    """The first number of the place, or "Figures"."""
    return "Figures" if row["place"].startswith("Figure") else row["place"].split(".")[0]


def section_of(place: str) -> str:
    """The place itself, and for the paper's Figure n, which shows its Experiment n, Section 5.n."""
    return place.replace("Figure ", "5.")


def position(row: dict) -> tuple:
    """Where a row comes in lists: by section, a figure after its section, own predictions last."""
    numbers = [int(number) for number in section_of(row["place"]).split(".")]
    return numbers, row["place"].startswith("Figure"), row.get("origin") == "predicted here"


def source(row: dict) -> str:
    """Whose statement it is, and where it stands: "Paper, Section 2.4", "Predicted here, Chapter 12"."""
    place = row["place"]
    if not place.startswith("Figure"):
        place = f"{'Chapter' if float(place) >= 8 else 'Section'} {place}"
    return f"{row.get('origin', 'paper').capitalize()}, {place}"


def linked(text: str) -> str:
    """Markdown whose references to equations, sections, chapters and figures of the paper are links."""
    def to_chapter(found: re.Match) -> str:
        place = section_of(re.sub("Section |Chapter ", "", found[0]))
        first, _, second = place.partition(".")
        name = f"{int(first):02d}_" + (f"{second}_" if first == "5" else "")
        pages = sorted(NOTEBOOKS.glob(f"{name}*.md"))
        return f"[{found[0]}](/notebooks/{pages[0].name})" if pages else found[0]

    text = re.sub(r"\b(?:Section|Chapter|Figure) \d+(?:\.\d)?\b|((?<=\bin )|(?<=\bsee ))\d\.\d(?=[.,;])", to_chapter, text)
    text = re.sub(r"\b(Eq\. \d+ and )(\d+)\b", r"\1Eq. \2", text)
    return re.sub(r"\b(?:Eq\.|Equation) (\d+)", r"{eq}`eq-\1`", text)


def words(row: dict) -> str:
    """The statement as HTML: the draft's words as a quotation, others plainly; a lone formula may break into lines."""
    if "origin" in row:
        return html(row["quote"])
    if not re.fullmatch(r"\$[^$]+\$", row["quote"]):
        return f"<q>“{html(row['quote'])}”</q>"
    # At relations, and at signs before a command, outside brackets; {} gives a sign its space.
    parts = re.sub(r" (?== |[-+] \\)(?![^(]*\))", "$${}", row["quote"])
    return f'<q class="formula">{html(parts)}</q>'


def check_line(outcome: dict) -> str:
    """One check as a list item, linked to the cell that made it."""
    made = Outcome(**{field.name: outcome[field.name] for field in fields(Outcome)})
    word = {"check": "✓", "refutes": "✗", "assess": "✓" if made.passed else "✗"}[made.kind]
    return (f'<li class="{made.kind}">{word} <a href="{target(outcome)}">'
            f'{legible(made.statement)}</a>: {legible(made.measured)} '
            f'<span class="bound">({"as written: " if made.kind == "refutes" else ""}{legible(made.bound)})</span></li>')


def section_list(rows: list[dict], section: str) -> str:
    """The claims of one section with their verdicts, and those of others that say the same, for its chapter."""
    own = [row for row in rows if row["place"] == section]
    also = [row for row in rows if row not in own and any(name.startswith(f"{section}:") for name in row["covers"])]
    items = [f'<li>{badge(row, "../book/ledger.html")} {words(row)}'
             + (f' <span class="elsewhere">({source(row) if row in also else row["origin"]})</span>'
                if row in also or "origin" in row else "")
             + (f' <span class="condition">{html(row["condition"])}</span>' if "condition" in row else "") + "</li>"
             for row in own + also]
    return raw(f'<ul class="claims">{"".join(items)}</ul>') if items else ""


def ledger_table(rows: list[dict], ledger: dict, outcomes: list[dict]) -> str:
    """The table of all claims."""
    body = []
    for row in rows:
        deciding = [outcome for outcome in row["checks"] if outcome["kind"] != "rejects"]
        rejected = len(row["checks"]) - len(deciding)
        why = [f"<p>{html(row[field])}</p>" for field in ("condition", "correction", "why") if field in row]
        bears = (f'<p class="bears">What bears on it:</p><ul class="evidence">'
                 f'{"".join(bearing(name, rows, ledger, outcomes) for name in row["bears"])}</ul>' if "bears" in row else "")
        evidence = "".join(map(check_line, deciding[:4]))
        if len(deciding) > 4:
            rest = "".join(map(check_line, deciding[4:]))
            evidence += f"<li><details><summary>{len(deciding) - 4} more</summary><ul>{rest}</ul></details></li>"
        fixed = f'<p class="fixed">Criterion {row["criterion_fixed"]}.</p>' if row["criterion_fixed"] else ""
        criterion = (f'<p>{html(row["criterion"])}</p><p class="tolerance">Tolerance: {html(row["tolerance"])}</p>{fixed}'
                     if "criterion" in row else "")
        variants = f'<p class="tolerance">{rejected} wrong variant{"s" * (rejected > 1)} rejected.</p>' if rejected else ""
        body.append(
            f'<tr id="{slug(row["id"])}" data-section="{chapter(row)}" '
            f'data-verdict="{row["verdict"]}"><th scope="row">{escape(row["id"])}<span class="kind">{row.get("origin", row["kind"])}</span></th>'
            f'<td>{words(row)}</td><td>{badge(row)}{"".join(why)}{bears}</td>'
            f'<td>{criterion}<ul class="evidence">{evidence}</ul>{variants}</td></tr>')
    return raw('<table class="ledger"><thead><tr><th scope="col">claim</th><th scope="col">the paper’s words, or ours</th>'
               '<th scope="col">verdict</th><th scope="col">criterion and checks</th></tr></thead>'
               f'<tbody>{"".join(body)}</tbody></table>')


def filters(rows: list[dict]) -> str:
    """Two menus that filter the table, and a count; they work without a network."""
    sections = sorted({chapter(row) for row in rows}, key=lambda name: (len(name), name))
    n = Counter(row["verdict"] for row in rows)
    menu = '<label>{0} <select id="filter-{1}"><option value="">all</option>{2}</select></label>'
    options = "".join(f'<option value="{name}">{name} ({n[name]})</option>' for name in VERDICTS if n[name])
    places = "".join(f'<option value="{name}">{name}</option>' for name in sections)
    return raw('<form class="ledger-filters">' + menu.format("Section", "section", places)
               + menu.format("Verdict", "verdict", options)
               + f'<output id="filter-count">{len(rows)} claims</output></form>')


def raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```\n"


def bearing(name: str, rows: list[dict], ledger: dict, outcomes: list[dict]) -> str:
    """What bears on a claim, as a list item: another claim with its verdict, or a finding linked to its first check."""
    for row in rows:
        if row["id"] == name:
            return f'<li><a href="#{slug(name)}">{escape(name)}</a> ({row["verdict"]})</li>'
    statement = next(finding["statement"] for finding in ledger["findings"] if finding["id"] == name)
    made = next((outcome for outcome in outcomes if outcome["claim"] == name), None)
    link = f' <a href="{target(made)}">(checks)</a>' if made else ""
    return f"<li>{html(statement)}{link}</li>"


def target(outcome: dict) -> str:
    """Address of the cell that made an outcome, from a page in ``book``."""
    return f'../notebooks/{outcome["notebook"]}.html#{outcome["anchor"]}'


def corrections(rows: list[dict], ledger: dict, outcomes: list[dict]) -> str:
    """Statement, what is true instead, evidence and consequence of every row that does not stand.

    Own predictions come last. A finding that corrects several rows stands under the first of them.
    """
    own = [row for row in rows if row.get("origin") == "predicted here" and row["verdict"] in TO_CORRECT]
    parts = {title: [row for row in rows if row["verdict"] == kind and row not in own] for kind, title in TO_CORRECT.items()}
    told: dict[str, str] = {}  # by finding, the row under which it stands
    text = []
    for title, those in (parts | {"Predictions of this book that missed": own}).items():
        text += [f"## {title}\n"] if those else []
        for row in those:
            against = [outcome for outcome in row["checks"]
                       if outcome["kind"] == "refutes" or (outcome["kind"] == "assess" and not outcome["passed"])]
            said = f":::{{admonition}} {linked(source(row))}\n:class: paper\n{row['quote']}\n:::"
            if "origin" in row:
                said = f"**{linked(source(row))}: {row['verdict']}.** {linked(row['quote'])}"
            text.append(f"({anchor(row['id'])})=\n### {row['id']}\n\n{said}\n\n"
                        f"**Instead.** {linked(row['correction'])}\n\n**Why.**\n")
            text.append(raw(f'<ul class="evidence">{"".join(map(check_line, against))}</ul>'))
            names = row.get("corrected_by", [])
            text += [finding_text(name, ledger, outcomes) for name in names if name not in told]
            before = dict.fromkeys(told[name] for name in names if name in told)
            if before:
                text.append(f"\nAs under {' and '.join(f'{{ref}}`{name} <{anchor(name)}>`' for name in before)}.\n")
            told = dict.fromkeys(names, row["id"]) | told
            text.append(f"\n**Consequence.** {linked(row['consequence'])}\n")
    return "\n".join(text)


def anchor(name: str) -> str:
    """Name of the target before the heading of a claim in the page of corrections."""
    return slug(name).replace("claim", "correction", 1)


def finding_text(name: str, ledger: dict, outcomes: list[dict]) -> str:
    """A finding: its statement, where it is proved, its first check, and how many more the chapter has."""
    statement = next(finding["statement"] for finding in ledger["findings"] if finding["id"] == name)
    proved = f" Proof: {{prf:ref}}`{name}`." if name.startswith("thm-") else ""
    made = [outcome for outcome in outcomes if outcome["claim"] == name and outcome["kind"] in ("check", "assess")]
    evidence = "".join(map(check_line, made[:1]))
    if len(made) > 1:
        evidence += f'<li><a href="{target(made[1])}">{len(made) - 1} more in the chapter</a></li>'
    return f"\n{linked(statement)}{proved}\n\n" + raw(f'<ul class="evidence">{evidence}</ul>')


def theorems(ledger: dict, outcomes: list[dict]) -> str:
    """Every theorem of the chapters with its number and proof, the checks that carry it, and where experiments show it."""
    findings = {finding["id"]: finding for finding in ledger["findings"]}
    blocks = [(path, *block) for path in sorted(NOTEBOOKS.glob("[0-9]*.md")) for block in theorem_blocks(path.read_text())]
    text = []
    for number, (path, title, label, statement, proof) in enumerate(blocks, start=1):
        own = [outcome for outcome in outcomes if outcome["claim"] == label]
        made = Counter(outcome["kind"] for outcome in own)
        done = [outcome for outcome in own if outcome["kind"] != "rejects"]
        first = "".join(map(check_line, done[:3]))
        heading = re.sub(r"\{eq\}`eq-(\d+)`", r"Eq. \1", title)
        counts = ", ".join(f"{made[kind]} {several if made[kind] > 1 else one}" for kind, (one, several) in COUNTED.items() if made[kind])
        text.append(f"## Theorem {number}. {heading}\n\n:::{{prf:theorem}}\n:nonumber:\n{statement}\n:::\n\n"
                    f"::::{{dropdown}} Proof\n{proof}\n::::\n\n"
                    f"{{prf:ref}}`{label}` of [](/notebooks/{path.name}): {counts}.\n")
        text.append(raw(f'<ul class="evidence">{first}</ul>'))
        seen = "".join(check_line(outcome) for name in findings[label].get("seen_in", []) for outcome in outcomes
                       if outcome["claim"] == name and outcome["kind"] == "assess")
        if seen:
            text.append("In the experiments, against the criteria of the ledger:\n\n"
                        + raw(f'<ul class="evidence">{seen}</ul>'))
    return "\n".join(text)


def theorem_blocks(text: str) -> list[tuple[str, str, str, str]]:
    """Title, label, statement and proof of every ``{prf:theorem}`` in the text of a chapter."""
    found = re.findall(r"^:::\{prf:theorem\} (.+?)\n:label: (\S+)\n(.*?)\n:::\n\s*:::\{prf:proof\}\n(.*?)\n:::$",
                       text, flags=re.M | re.S)
    return [(title, label, *(re.sub(r"\]\((\d\d_\w+)", r"](/notebooks/\1.md", part) for part in (statement, proof)))
            for title, label, statement, proof in found]


def coverage(ledger: dict) -> str:
    """Sentences of the draft by section: with a row, or without one and why."""
    with_row = {sentence for claim in ledger["claims"] for sentence in claim["covers"]}
    lines = ["| section | sentences | with a row | " + " | ".join(REASONS) + " |", "|---|" + "---:|" * (2 + len(REASONS))]
    total = Counter()
    for section, of in sorted(ledger["sentences"].items()):
        counts = {"sentences": of["total"], "row": sum(f"{section}:{n}" in with_row for n in range(1, of["total"] + 1)),
                  **{reason: len(of.get(reason, [])) for reason in REASONS}}
        total.update(counts)
        lines.append(f"| {section} | " + " | ".join(str(value or "") for value in counts.values()) + " |")
    lines.append("| all | " + " | ".join(str(total[name]) for name in ("sentences", "row", *REASONS)) + " |")
    meaning = "; ".join(f"*{reason}*: it {says}" for reason, says in REASONS.items())
    return "\n".join(lines) + f"\n\n{meaning}.\n"


def pages(ledger: dict, rows: list[dict], outcomes: list[dict]) -> dict[str, str]:
    """Generated parts of pages, by file name."""
    rows = sorted(rows, key=position)
    parts = {f"claims-{section.replace('.', '-').replace(' ', '-').lower()}": section_list(rows, section)
             for section in {*ledger["sentences"], *(row["place"] for row in rows if "origin" in row)}}
    return parts | {"score": score(rows), "ledger": filters(rows) + "\n" + ledger_table(rows, ledger, outcomes),
                    "coverage": coverage(ledger), "corrections": corrections(rows, ledger, outcomes),
                    "theorems": theorems(ledger, outcomes)}


def readme_with(score_text: str) -> str:
    """The README with the score between its two marks."""
    text = (ROOT / "README.md").read_text()
    return re.sub(r"(<!-- score -->\n).*?(<!-- /score -->)", rf"\g<1>{score_text}\n\g<2>", text, flags=re.S)
