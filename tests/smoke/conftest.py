"""How nbval compares a notebook's new outputs with its stored ones.

Text and integers must be equal. Floats may differ by rtol 1e-5, which float64
arithmetic keeps on any CPU, or by atol 1e-6, below which a number is rounding error:
such errors are bounded by the checks themselves, which raise when they grow.
Images and mime bundles made for the browser are not compared; what a figure shows
is compared through the numbers that the checks and tables print.
"""

import math
import re

from nbval.plugin import IPyNbCell

# A measured value may be printed as 0 on one CPU and as 1e-16 on another.
FLOAT = re.compile(r"(?<=measured )[-+]?\d+(?![\d.e])|[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)")
NOT_COMPARED = ("image/svg+xml", "text/html", "application/vnd.dfsae.outcome+json",
                "application/papermill.record/image/svg+xml", "stderr")


class TolerantText(str):
    """A string whose equality compares text exactly and floats within tolerance."""

    def __eq__(self, other):
        mine, theirs = FLOAT.findall(self), FLOAT.findall(other)
        return FLOAT.sub("#", self) == FLOAT.sub("#", other) and all(
            math.isclose(float(a), float(b), rel_tol=1e-5, abs_tol=1e-6)
            for a, b in zip(mine, theirs, strict=True))

    def __ne__(self, other):
        return not self == other

    __hash__ = str.__hash__


def _sanitize(self, text):
    return TolerantText(text) if isinstance(text, str) else text


IPyNbCell.sanitize = _sanitize


def pytest_collection_modifyitems(items):
    for notebook in {item.parent for item in items if isinstance(item, IPyNbCell)}:
        notebook.skip_compare += NOT_COMPARED
