"""Give a display equation labelled ``eq-N`` the number N that it has in the paper.

Sphinx numbers equations from 1 on every page; the paper numbers them through.
"""

import re

from sphinx.domains.math import MathDomain


class PaperMathDomain(MathDomain):
    """Math domain that takes the number of a label ``eq-N`` from the label."""

    def note_equation(self, docname, labelid, location=None):
        super().note_equation(docname, labelid, location)
        if match := re.fullmatch(r"eq-(\d+)", labelid):
            self.equations[labelid] = (docname, int(match[1]))


def setup(app):
    app.add_domain(PaperMathDomain, override=True)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
