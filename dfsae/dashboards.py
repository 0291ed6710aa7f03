"""Pages that show units: in which contexts they are active, how often, and what they write. HTML without scripts or network."""

import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = """
.unit { margin: 1.5rem 0; }
.unit .context { margin: 0.2rem 0; padding: 0.15rem 0; border-bottom: 1px solid #8884; white-space: pre-wrap; overflow-wrap: anywhere;
  font-family: monospace; font-size: 0.8rem; line-height: 1.7; }
.unit .token { background: rgb(0 114 178 / var(--strength)); }
.unit .peak { outline: 2px solid currentColor; outline-offset: -1px; }
.unit .break { font-size: 1.3em; line-height: 1; }
.unit code { white-space: pre; }
.unit svg { display: block; max-width: 16rem; height: 3rem; margin-bottom: 0.5rem; }
.unit svg rect { fill: currentColor; }
.unit .bars { margin: 0 0 1rem; font-size: 0.85em; }
details:has(> .unit) { margin: 0.8rem 0; }
"""

BREAK = '<span class="break">⏎</span>'
"""What is shown in place of a line break."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>:root {{ color-scheme: light dark; }} body {{ max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font-family: sans-serif; }}{style}</style>
</head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def _token(text: str, activation: float, largest: float, peak: bool) -> str:
    """A token on a ground that is the bluer the more active the unit is, the strongest with a frame."""
    shown = escape(text).replace("\n", BREAK)
    if activation <= 0 and not peak:
        return shown
    classes = "token peak" if peak else "token"
    return f'<span class="{classes}" style="--strength: {0.1 + 0.4 * activation / largest:.2f}" title="{activation:g}">{shown}</span>'


def _word(token: str) -> str:
    """A token of a list, with line breaks and leading spaces to be seen, and what cannot be printed escaped."""
    shown = re.sub("^ +", lambda spaces: "␣" * len(spaces[0]), token, flags=re.MULTILINE).replace("\n", "⏎")
    return f"<code>{escape(repr(shown)[1:-1]).replace('⏎', BREAK)}</code>"


def _bars(counts: Sequence[int]) -> str:
    """The histogram, in the square root of the counts, with a line that says so."""
    top = max(max(counts), 1) ** 0.5
    bars = "".join(f'<rect x="{10 * i}" y="{60 - 60 * count ** 0.5 / top:.1f}" width="9" height="{60 * count ** 0.5 / top:.1f}"/>'
                   for i, count in enumerate(counts))
    return (f'<svg viewBox="0 0 {10 * len(counts)} 60" role="img" aria-label="histogram of the activations">{bars}</svg>'
            '<p class="bars">Histogram of the activations above zero, counts on a square-root scale.</p>')


def card(unit: dict) -> str:
    """A unit of :func:`dfsae.units.describe_unit` as HTML; "promoted" and "suppressed", lists of tokens, if it has them."""
    parts = [f"<p>Active on {100 * unit['density']:.2f} % of the rows, at most {unit['largest']:g}.</p>", _bars(unit["histogram"])]
    for name in ("promoted", "suppressed"):
        if name in unit:
            parts.append(f"<p>Next tokens {name}: {', '.join(map(_word, unit[name]))}</p>")
    for context in unit["contexts"]:
        tokens = "".join(_token(text, activation, unit["largest"], i == context["peak"])
                         for i, (text, activation) in enumerate(zip(context["tokens"], context["activations"], strict=True)))
        parts.append(f'<p class="context">{tokens}</p>')
    return f'<div class="unit">{"".join(parts)}</div>'


def write_pages(units: dict[str, dict], folder: Path | str) -> None:
    """A page ``<name>.html`` for each unit and ``index.html`` with links to them.

    Raises ``ValueError`` for a name that is not letters, digits, dots, dashes or underscores,
    before anything is written.
    """
    bad = [name for name in units if not re.fullmatch(r"[\w.-]+", name) or name == "index"]
    if bad:
        raise ValueError(f"{bad[0]!r} cannot name a page; use letters, digits, dots, dashes and underscores, and not 'index'")
    links = "".join(f'<li><a href="{name}.html">{name}</a>, active on {100 * unit["density"]:.2f} %</li>' for name, unit in units.items())
    pages = {name: card(unit) for name, unit in units.items()} | {"index": f"<ul>{links}</ul>"}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, body in pages.items():
        part = Path(folder) / f"{name}.part"
        part.write_text(PAGE.format(title=escape(name) if name != "index" else "Units", style=STYLE, body=body))
        os.replace(part, Path(folder) / f"{name}.html")
