"""The ledger ``book/claims.yml``: what the paper claims, what would decide it, and what did.

A "claim" is a statement of the paper, a "finding" one of this book (a theorem, or the
corrected form of a claim). Every check of the notebooks names one of them. A verdict
is a function of recorded outcomes; see :func:`verdict`.
"""

import hashlib
import json
from functools import lru_cache

import yaml

from dfsae.data import ROOT

CLAIMS = ROOT / "book" / "claims.yml"
SCHEMA = ROOT / "book" / "claims.schema.json"
NOT_DECIDABLE = "not decidable as stated"


@lru_cache(maxsize=1)
def ledger() -> dict:
    """The content of ``book/claims.yml``, read once a process; ``make book`` and the tests validate it."""
    return yaml.safe_load(CLAIMS.read_text())


def validated(content: dict) -> dict:
    """``content`` if it follows ``book/claims.schema.json`` and its ids are unique and known.

    Raises ``ValueError`` that lists every problem with the id of the entry.
    """
    import jsonschema  # takes seconds, and chapters do without

    problems = []
    for error in jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(content):
        where = list(error.absolute_path)
        if len(where) > 1 and isinstance(where[1], int):
            entry = content[where[0]][where[1]]
            where[:2] = [entry.get("id", f"{where[0]}, entry {where[1] + 1}") if isinstance(entry, dict) else where[0]]
        problems.append(f"{' / '.join(map(str, where)) or 'top level'}: {error.message}")
    if not problems:
        entries = content["claims"] + content["findings"]
        ids = [entry["id"] for entry in entries]
        problems += [f"{name}: the id occurs twice" for name in sorted({n for n in ids if ids.count(n) > 1})]
        problems += [f"{entry['id']}: {field} names {name!r}, which has no entry" for entry in entries
                     for field in ("evidence", "corrected_by", "bears", "seen_in") for name in entry.get(field, [])
                     if name not in ids]
    if problems:
        raise ValueError("book/claims.yml:\n  " + "\n  ".join(problems))
    return content


def entry(name: str) -> dict:
    """The claim or finding of this id, or a ``ValueError``."""
    for found in ledger()["claims"] + ledger()["findings"]:
        if found["id"] == name:
            return found
    raise ValueError(f"book/claims.yml has no claim or finding {name!r}; add it, or correct the id")


def criterion(name: str, statement: str) -> dict[str, float]:
    """The bound of an assessment, written in the ledger before the run: "at_most", "at_least", "equals"."""
    criteria = entry(name).get("criteria", {})
    if statement not in criteria:
        raise ValueError(f"{name!r} has no criterion {statement!r} in book/claims.yml; it has {sorted(criteria)}")
    return criteria[statement]


def criteria_hashes(experiment: str) -> dict[str, str]:
    """By id, a hash of what will judge the results of an experiment; part of their provenance."""
    return {judged["id"]: criteria_hash(judged) for judged in ledger()["claims"] + ledger()["findings"]
            if experiment in judged.get("results", [])}


def criteria_hash(judged: dict) -> str:
    """Hash of the criterion, its tolerance and its bounds."""
    parts = [judged.get(field) for field in ("criterion", "tolerance", "criteria")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def verdict(claim: dict, outcomes: list[dict]) -> str:
    """What the outcomes say of a claim as it is written.

    A passed check and a met assessment speak for it, a passed refutation and an unmet
    assessment against it; rejected wrong variants only show that a check can fail.
    All for it: it holds, or is reproduced if the claim is empirical. None: it does not.
    Some: it holds under conditions, or is reproduced in part. No outcome: not decidable.
    """
    names = {claim["id"], *claim.get("evidence", [])}
    speaks_for = [outcome["passed"] != (outcome["kind"] == "refutes") for outcome in outcomes
                  if outcome["claim"] in names and outcome["kind"] != "rejects"]
    if not speaks_for:
        return NOT_DECIDABLE
    every, some = all(speaks_for), any(speaks_for)
    if claim["kind"] == "empirical":
        return "reproduced" if every else "partly reproduced" if some else "not reproduced"
    return "holds" if every else "holds under conditions" if some else "does not hold as written"
