"""The page book/api: one section for every module of ``dfsae`` but the experiments, from the docstrings."""

import re
from pkgutil import iter_modules

import dfsae


SECTION = "\n## {0}\n\n```{{eval-rst}}\n.. automodule:: dfsae.{0}\n```\n"


def add_modules(app, docname, content):
    if docname == "book/api":
        names = [module.name for module in iter_modules(dfsae.__path__) if not module.ispkg]
        content[0] += "".join(map(SECTION.format, names))


def mark_up(app, what, name, obj, options, lines):
    """Formulas of a docstring stay as they are written, and the paper's equations become links."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``|:\w+:`.*?`)", line)
        parts[::2] = [re.sub(r"\bEq\. (\d+)", r":eq:`eq-\1`", re.sub(r"([|*])|(?<=\w)_(?!\w)", r"\\\g<0>", part)) for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app):
    app.connect("source-read", add_modules)
    app.connect("autodoc-process-docstring", mark_up, priority=400)  # before napoleon
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
