"""What a unit responds to: how often, how strongly, and in which contexts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dfsae.objective import check_tensor


def describe_unit(a: Tensor, *, tokens: Sequence[str], length: int = 1, contexts: int = 8, before: int = 12,
                  after: int = 5, bins: int = 20) -> dict:
    """Density, histogram and strongest contexts of one unit, as JSON holds them.

    Parameters
    ----------
    a : activations of the unit on N rows, ``(N,)``
    tokens : N texts, one a row; for rows that are not tokens, what names a row
    length : rows of a context; they follow one another, and N is a multiple of it
    contexts : number of contexts at most, each shown at its strongest row
    before : rows of the context that are shown before that row, at most
    after : rows of the context that are shown after it, at most
    bins : number of steps of the histogram

    Returns
    -------
    dict
        "density", the share of rows above zero; "largest"; "histogram", counts of these rows
        in ``bins`` equal steps up to the largest; "contexts", the strongest first, each with
        "tokens", "activations" and "peak", the place of the strongest among them.

    Raises
    ------
    ValueError
        For activations that are not finite or one-dimensional, or another number of tokens than rows.
    """
    check_tensor("a", a, rank=1)
    if a.ndim != 1 or len(tokens) != len(a) or len(a) % length:
        raise ValueError(f"a must be (N,) with one of {len(tokens)} tokens a row in contexts of {length}, got shape {tuple(a.shape)}")
    active = a[a > 0].double()
    largest = float(a.max())
    strongest, places = a.reshape(-1, length).max(dim=1)
    shown = []
    for i in strongest.argsort(descending=True, stable=True)[:contexts].tolist():
        if strongest[i] > 0:
            peak = int(places[i])
            rows = range(i * length + max(0, peak - before), i * length + min(length, peak + after + 1))
            shown.append({"tokens": [tokens[row] for row in rows], "activations": [round(float(a[row]), 3) for row in rows],
                          "peak": min(peak, before)})
    return {"density": len(active) / len(a), "largest": round(largest, 3),
            "histogram": torch.histc(active, bins, 0, largest).int().tolist() if len(active) else [0] * bins, "contexts": shown}
