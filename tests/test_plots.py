"""How numbers and tables are written."""

from math import nan

import pytest

from dfsae import plots
from dfsae.plots import markdown_table, plus_minus, show_cost


@pytest.mark.parametrize("mean, half_width, digits, text", [
    (93.257, 0.351, 2, "93.26 ± 0.35"), (-1.2, 0.19, 2, "−1.20 ± 0.19"), (64.0, nan, 0, "64"),
    (nan, nan, 3, "not defined"), (49_219_698.0, 1_336_463.0, 0, "(4.92 ± 0.13) × 10⁷"),
    (49_219_698.0, nan, 4, "4.92 × 10⁷"), (9_999.0, nan, 0, "9999"), (10_734.8, 1_889.1, 3, "(1.07 ± 0.19) × 10⁴"), (0.0, 0.0, 1, "0.0 ± 0.0"),
])
def test_plus_minus(mean, half_width, digits, text):
    found = plus_minus(mean, half_width, digits)
    assert found.replace("\N{NO-BREAK SPACE}", " ") == text
    assert text == "not defined" or " " not in found, "a number stays on one line"


def test_columns_of_numbers_are_set_to_the_right_and_words_to_the_left():
    found = markdown_table(["name", "n", "what", "mean"], [["a", 1, "x", "\u22121.0 ± 0.2"], ["b", 2, "3 words here", "not defined"], ["c", "", "", "(2 ± 1) × 10⁷"]])
    assert found.splitlines()[:3] == ["| name | n | what | mean |", "| --- | ---: | --- | ---: |", "| a | 1 | x | \u22121.0 ± 0.2 |"]
    assert markdown_table(["a", "b"], [["x", "2 and then a sentence that is longer than a number"]]).splitlines()[1] == "| --- | --- |"


def test_cost_is_the_sum_over_the_runs_with_where_they_ran(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda table: shown.append(table.data))
    about = {"seconds": 150.0, "commit": "0123456789abcdef", "cpu": "a CPU"}
    show_cost({"experiment": "one", "runs": [{}, {}], "provenance": about},
              {"experiment": "other", "runs": [{}], "provenance": {**about, "seconds": 29.0}})
    assert shown[0].splitlines()[1:] == ["| --- | ---: | ---: | --- | --- |", "| one | 2 | 2 | `0123456789ab` | a CPU |", "| other | 1 | < 1 | `0123456789ab` | a CPU |"]
