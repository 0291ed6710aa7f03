"""The style of the book's figures, its tables, and the figures used more than once."""

import inspect
import math
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

COLOURS = {
    "LSE only": "#D55E00", "LSE + var": "#E69F00", "LSE + var + tc": "#0072B2",
    "var + tc only": "#CC79A7", "decoder-free": "#0072B2", "published SAE": "#009E73",
    "standard SAE": "#56B4E9", "LSE + tc": "#009E73", "var only": "#56B4E9", "tc only": "#F0E442",
    "untrained": "#999999", "reference": "#555555", "published": "#999999",
}
"""One colour-blind-safe colour (Okabe and Ito) per configuration, throughout the book."""


def use_style() -> None:
    """Vector figures in the style of ``dfsae/book.mplstyle``; call once at the top of a notebook."""
    set_matplotlib_formats("svg")
    plt.style.use(Path(__file__).with_name("book.mplstyle"))


def show_source(*functions) -> None:
    """Display the source of the functions that implement the equation at hand."""
    for function in functions:
        display(Markdown(f"```python\n{textwrap.dedent(inspect.getsource(function)).rstrip()}\n```"))


def show_table(header: list[str], rows: list[list]) -> None:
    """Display a table; cells are strings, numbers are formatted by the caller."""
    display(Markdown(markdown_table(header, rows)))


def markdown_table(header: list[str], rows: list[list]) -> str:
    """A table in Markdown; columns of numbers are aligned to the right, but for the first."""
    numbers = [all(re.fullmatch(r"[-+−–(<≤>±*$\d].{,30}|not \w+|", str(row[i])) for row in rows) for i in range(1, len(header))]
    lines = [header, ["---"] + ["---:" if right else "---" for right in numbers], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def show_cost(*results: dict) -> None:
    """Display what the runs of these experiments cost: number, CPU minutes, commit and CPU."""
    abouts = [(result["experiment"], result["runs"], result["provenance"]) for result in results]
    show_table(["experiment", "runs", "CPU minutes, sum over runs", "commit", "CPU"],
               [[name, len(runs), f"{about['seconds'] / 60:.0f}" if about["seconds"] >= 60 else "< 1", f"`{about['commit'][:12]}`",
                 about["cpu"]] for name, runs, about in abouts])


def plus_minus(mean: float, half_width: float, digits: int) -> str:
    """"mean ± half-width", large numbers with a power of ten; only the mean if there is no interval."""
    if mean != mean:
        return "not defined"
    if abs(mean) >= 1e4:
        power = math.floor(math.log10(abs(mean)))
        scaled = plus_minus(mean / 10 ** power, half_width / 10 ** power, 2)
        ten = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10" + str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return (f"({scaled})" if "±" in scaled else scaled) + ten
    text = f"{mean:.{digits}f}" if half_width != half_width else f"{mean:.{digits}f} ± {half_width:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}").replace(" ", "\N{NO-BREAK SPACE}")


def correlation_grid(matrices: dict[str, list], titles: dict[str, str]) -> Figure:
    """A row of K x K correlation matrices on one diverging scale from -1 to 1."""
    fig, axes = plt.subplots(2, (len(matrices) + 1) // 2, figsize=(6.4, 5.8), layout="constrained")
    for ax, (name, matrix) in zip(axes.flat, matrices.items()):
        image = ax.imshow(np.asarray(matrix, dtype=float), vmin=-1, vmax=1, cmap="RdBu_r",
                          interpolation="nearest")
        ax.set(title=titles[name], xlabel="unit", ylabel="unit")
        ax.grid(False)
    fig.colorbar(image, ax=axes, label="correlation", shrink=0.6)
    return fig


def bars_with_intervals(ax: Axes, groups: dict[str, tuple[float, float]], published: dict[str, float],
                        label: str, letters: dict[str, str]) -> None:
    """One bar a configuration with its 95 % interval, above its letter; a diamond marks the published value.

    A mean that is NaN has no bar, but the words "not defined".
    """
    for position, (name, (mean, half_width)) in enumerate(groups.items()):
        if mean == mean:
            ax.bar(position, mean, yerr=half_width, color=COLOURS[name], capsize=3, width=0.7)
        else:
            ax.text(position, 0.02, "not\ndefined", transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)
        if published.get(name) is not None:
            ax.plot(position, published[name], "D", color="black", markerfacecolor="white", zorder=5, clip_on=False)
    ax.set_xticks(range(len(groups)), [letters[name] for name in groups])
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.set_ylabel(label)
    ax.grid(axis="x", visible=False)
