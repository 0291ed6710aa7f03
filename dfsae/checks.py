"""The only ways in which the book verifies anything.

Mathematics goes through :func:`check`, which raises when it fails, and through
:func:`check_rejects`, which shows that the same check rejects a wrong variant.
:func:`check_refutes` shows that a statement of the paper fails as it is written.
Empirical outcomes go through :func:`assess`, which records and never raises.

Every call names a claim or a finding of ``book/claims.yml``. It displays one line;
the same display carries the outcome as data (:data:`MIME`), which the runner collects
from the executed notebook and from which :mod:`dfsae.claims` computes the verdicts.
"""

import hashlib
import re
from dataclasses import asdict, dataclass
from html import escape

import torch
from IPython.display import display

from dfsae import claims

MIME = "application/vnd.dfsae.outcome+json"


class CheckFailed(AssertionError):
    """A mathematical statement did not hold; the message has the value and the bound."""


@dataclass(frozen=True)
class Outcome:
    """What a check or an assessment measured."""

    kind: str
    """"check", "rejects", "refutes" or "assess"."""
    claim: str
    """Id of a claim or finding in ``book/claims.yml``, such as "Eq. 2"."""
    statement: str
    value: float
    bound: str
    """Such as "<= 1e-12", "2 to 4", or "= 3 ± 1e-09" for two bounds that lie close together."""
    passed: bool

    @property
    def verdict(self) -> str:
        """In one or two words, for the reader."""
        return {"check": ("holds", "FAILS"), "rejects": ("wrong variant rejected", "NOT REJECTED"),
                "refutes": ("refuted as written", "NOT REFUTED"),
                "assess": ("met", "not met")}[self.kind][not self.passed]

    @property
    def measured(self) -> str:
        """The value, with four significant digits unless it is a count."""
        return f"{self.value:.4g}" if self.value % 1 or abs(self.value) >= 1e6 else f"{self.value:.0f}"

    @property
    def anchor(self) -> str:
        """Id of the displayed line, the same in every run."""
        return "check-" + hashlib.sha256(f"{self.claim}|{self.statement}".encode()).hexdigest()[:10]

    def __str__(self) -> str:
        return (f"{'✓' if self.passed else '✗'} {self.claim} | {self.statement} | "
                f"measured {self.measured}, criterion {self.bound} | {self.verdict}")

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        claim, statement, bound = (legible(text) for text in (self.claim, self.statement, self.bound))
        html = (f'<div id="{self.anchor}" class="outcome {self.kind} {"passed" if self.passed else "unmet"}">'
                f'<span class="verdict">{"✓" if self.passed else "✗"} {self.verdict}</span> '
                f'<span class="claim">{claim}</span> {statement} '
                f'<span class="measured"><span class="number">measured {legible(self.measured)},</span> '
                f'<span class="number">criterion {bound}</span></span></div>')
        return {"text/plain": str(self), "text/html": html, MIME: asdict(self) | {"anchor": self.anchor}}


def legible(text: str) -> str:
    """HTML of a text: signs in place of "<=" and ">=", and minus signs at which no line breaks."""
    signs = text.replace("<=", "≤").replace(">=", "≥")
    return escape(re.sub(r"(?<![\w-])-(?=[\dA-Z])|(?<=\de)-(?=\d)", "\u2212", signs))


def _outcome(kind: str, claim: str, statement: str, value: float, at_most: float | None,
             at_least: float | None, equals: float | None) -> Outcome:
    claims.entry(claim)
    bounds = {"<=": at_most, ">=": at_least, "=": equals}
    given = {sign: float(limit) for sign, limit in bounds.items() if limit is not None}
    if not given or (equals is not None and len(given) > 1):
        raise ValueError("give at_most, at_least, both of them, or equals; "
                         f"got at_most={at_most}, at_least={at_least}, equals={equals}")
    value = float(value) + 0.0  # no minus zero
    within = ((at_most is None or value <= at_most) and (at_least is None or value >= at_least)
              and (equals is None or value == equals))
    if len(given) == 2:
        low, high = given[">="], given["<="]
        narrow = high - low < 1e-3 * abs(high)
        bound = f"= {(low + high) / 2:.6g} ± {(high - low) / 2:.2g}" if narrow else f"{low:.6g} to {high:.6g}"
    else:
        bound = " ".join(f"{sign} {limit:.6g}" for sign, limit in given.items())
    return Outcome(kind, claim, statement, value, bound, within)


def check(claim: str, statement: str, value: float, *, at_most: float | None = None,
          at_least: float | None = None, equals: float | None = None) -> None:
    """Verify that ``value`` is within the bound; NaN never is.

    Raises
    ------
    CheckFailed
        With claim, statement, measured value and bound.
    ValueError
        If no bound is given.
    """
    outcome = _outcome("check", claim, statement, value, at_most, at_least, equals)
    if not outcome.passed:
        raise CheckFailed(str(outcome))
    display(outcome)


def check_rejects(claim: str, statement: str, value: float, *, at_most: float | None = None,
                  at_least: float | None = None, equals: float | None = None) -> None:
    """Verify that the check with this bound would reject ``value``, of a wrong variant.

    Give the bound of the check itself. Raises :class:`CheckFailed` if the wrong
    variant passes: the check is then too weak to mean anything.
    """
    _expect_outside("rejects", claim, statement, value, at_most, at_least, equals)


def check_refutes(claim: str, statement: str, value: float, *, at_most: float | None = None,
                  at_least: float | None = None, equals: float | None = None) -> None:
    """Verify that ``value`` is outside the bound that the paper's statement implies.

    The bound is that of the statement as the paper has it. Raises :class:`CheckFailed`
    if the value meets it: the statement then stands, and the verdict has to change.
    """
    _expect_outside("refutes", claim, statement, value, at_most, at_least, equals)


def _expect_outside(kind: str, claim: str, statement: str, value: float, *bounds: float | None) -> None:
    inner = _outcome(kind, claim, statement, value, *bounds)
    # A wrong variant may come out as NaN; a refutation needs a value.
    outside = not inner.passed and (kind == "rejects" or inner.value == inner.value)
    outcome = Outcome(kind, claim, statement, inner.value, inner.bound, outside)
    if not outcome.passed:
        raise CheckFailed(str(outcome))
    display(outcome)


def assess(claim: str, criterion: str, value: float) -> None:
    """Record whether an empirical ``value`` meets a criterion of ``book/claims.yml``.

    The bound stands in the ledger, under the claim and the words of the criterion, so
    that it is fixed before the run. Never raises for an unmet criterion: an honest
    negative is a result. Raises ``ValueError`` for a criterion that the ledger lacks.
    """
    bound = claims.criterion(claim, criterion)
    display(_outcome("assess", claim, criterion, value, bound.get("at_most"), bound.get("at_least"),
                     bound.get("equals")))


def relative_error(found, expected) -> float:
    """Largest error relative to the largest expected value; tensors, arrays or numbers.

    Raises :class:`CheckFailed` for NaN, which the largest of several errors would hide,
    and ``ValueError`` for two shapes that differ.
    """
    found, expected = (torch.as_tensor(values, dtype=torch.float64) for values in (found, expected))
    if found.shape != expected.shape and 0 not in (found.ndim, expected.ndim):
        raise ValueError(f"found has shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    largest, scale = float((found - expected).abs().max()), float(expected.abs().max())
    error = largest / scale if scale else 0.0 if largest == 0 else float("inf")
    if largest != largest or scale != scale:
        raise CheckFailed(f"the error is not a number: found {found}, expected {expected}")
    return error
