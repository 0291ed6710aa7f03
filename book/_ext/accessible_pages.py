"""Mend what the theme and its extensions leave: names that hide the words on a control, formulas parted
from the mark beside them, figures that cannot scroll, and a script that fails.

The templates in ``book/_templates`` are part of it: two buttons of the theme whose name is the text they show.
"""

import re

REPLACED = {
    # The summary says "Show code cell source"; a label would hide that from a screen reader.
    '<summary aria-label="Toggle hidden content">': "<summary>",
    # Its children are no list items.
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}

FORMULA = re.compile(r'([(\[]?)(<span class="math notranslate nohighlight">.*?</span>)([.,;:?)\]’”]*)', re.DOTALL)
FIGURE = re.compile(r"(<figure\b[^>]*>\s*)(<img\b[^>]*>)")


def keep_together(found: re.Match) -> str:
    """A formula with the bracket before it and the marks after it."""
    return f'<span class="kept">{found[0]}</span>' if found[1] or found[3] else found[0]


def mend(app, pagename, templatename, context, doctree):
    for found, better in REPLACED.items():
        if "body" in context:
            context["body"] = context["body"].replace(found, better)
    if "body" in context:
        context["body"] = FIGURE.sub(r'\1<div class="sideways">\2</div>', FORMULA.sub(keep_together, context["body"]))
    # Thebe would run the cells on a server elsewhere. The book does not use it, and its script is declared twice.
    context["script_files"] = [script for script in context["script_files"]
                               if "thebe" not in (script.filename or "") + script.attributes.get("body", "")]


def setup(app):
    app.connect("html-page-context", mend, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
