"""What is said of a unit, and the pages that show it."""

import re

import pytest
import torch
from bs4 import BeautifulSoup

from dfsae.dashboards import STYLE, card, write_pages
from dfsae.units import describe_unit

TOKENS = [f"t{i}" for i in range(12)]
A = torch.tensor([0, 0.5, 0, 0, 0, 2.0, 1.0, 0, 0, 0, 0, 0])


def test_a_unit_is_described_by_its_strongest_contexts():
    unit = describe_unit(A, tokens=TOKENS, length=4, before=1, after=1, bins=4)
    assert unit["density"] == pytest.approx(3 / 12) and unit["largest"] == 2
    assert unit["histogram"] == [0, 1, 1, 1]
    assert unit["contexts"] == [{"tokens": ["t4", "t5", "t6"], "activations": [0, 2, 1], "peak": 1},
                                {"tokens": ["t0", "t1", "t2"], "activations": [0, 0.5, 0], "peak": 1}], "none for a unit that is not active"


def test_contexts_do_not_run_over_their_ends():
    a = torch.tensor([0, 0, 0, 3.0, 4.0, 0, 0, 0])
    unit = describe_unit(a, tokens=TOKENS[:8], length=4, before=2, after=2)
    assert [context["tokens"] for context in unit["contexts"]] == [["t4", "t5", "t6"], ["t1", "t2", "t3"]]
    assert [context["peak"] for context in unit["contexts"]] == [0, 2]
    assert len(describe_unit(a, tokens=TOKENS[:8], length=1, contexts=1)["contexts"]) == 1


def test_contexts_before_and_after():
    shown = describe_unit(A, tokens=TOKENS, length=12, before=3, after=1)["contexts"]
    assert shown == [{"tokens": ["t2", "t3", "t4", "t5", "t6"], "activations": [0, 0, 0, 2, 1], "peak": 3}]


def test_a_silent_unit():
    unit = describe_unit(torch.zeros(4), tokens=TOKENS[:4], bins=3)
    assert unit == {"density": 0, "largest": 0, "histogram": [0, 0, 0], "contexts": []}
    assert "Active on 0.00 %" in card(unit)


@pytest.mark.parametrize("a, n, length", [(torch.zeros(4, 1), 4, 1), (torch.zeros(4), 3, 1), (torch.zeros(4), 4, 3)])
def test_other_shapes_are_refused(a, n, length):
    with pytest.raises(ValueError, match=r"a must be \(N,\)"):
        describe_unit(a, tokens=TOKENS[:n], length=length)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="a holds NaN"):
        describe_unit(A * float("nan"), tokens=TOKENS)


def soup(unit):
    return BeautifulSoup(card(unit), "html.parser")


def test_a_card_shows_every_token_once_and_marks_the_strongest():
    unit = describe_unit(A, tokens=TOKENS, length=4, before=1, after=1) | {"promoted": [" a", "<b>"], "suppressed": ["c"]}
    found = soup(unit)
    assert found.p.text == "Active on 25.00 % of the rows, at most 2."
    assert [context.text for context in found.select(".context")] == ["t4t5t6", "t0t1t2"]
    assert [token.text for token in found.select(".peak")] == ["t5", "t1"]
    strengths = [float(re.search(r"[\d.]+", token["style"])[0]) for token in found.select(".token")]
    assert strengths == [0.5, 0.3, 0.2], "as blue as they are active, over the largest of the unit"
    assert [code.text for code in found.select("code")] == ["␣a", "<b>", "c"]
    assert "square-root" in found.select_one(".bars").text
    heights = [float(bar["height"]) for bar in found.select("rect")]
    assert max(heights) == 60 and sum(height > 0 for height in heights) == 3


@pytest.mark.parametrize("token, shown", [(" a", "␣a"), (" ", "␣"), ("   a", "␣␣␣a"), ("a b ", "a b "), ("\n", "⏎"), ("\n   a", "⏎␣␣␣a"),
                                          ("\t", r"\t"), ("<b>", "<b>"), ("'", "'")])
def test_spaces_and_line_breaks_of_words_are_seen(token, shown):
    words = soup(describe_unit(A, tokens=TOKENS) | {"promoted": [token], "suppressed": []}).select("code")
    assert [word.text for word in words] == [shown] and "white-space: pre;" in re.search(r"\.unit code {.*}", STYLE)[0]
    assert len(words[0].select(".break")) == shown.count("⏎")


def test_text_is_escaped_and_lines_are_not_broken():
    found = soup(describe_unit(torch.tensor([1.0, 0]), tokens=["<script>", "\n"], length=2))
    assert not found.find("script") and found.select_one(".context").text == "<script>⏎"
    assert [sign.text for sign in found.select(".context .break")] == ["⏎"]


def test_pages_are_written_with_links_and_need_nothing_else(tmp_path):
    unit = describe_unit(A, tokens=TOKENS, length=4)
    write_pages({"unit-3": unit, "unit-7": unit}, tmp_path / "pages")
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["index.html", "unit-3.html", "unit-7.html"]
    index = BeautifulSoup((tmp_path / "pages" / "index.html").read_text(), "html.parser")
    assert [link["href"] for link in index.select("a")] == ["unit-3.html", "unit-7.html"]
    for page in (tmp_path / "pages").iterdir():
        text = page.read_text()
        assert "http" not in text and "<script" not in text and 'charset="utf-8"' in text and "{" not in BeautifulSoup(text, "html.parser").body.text
    assert len(BeautifulSoup((tmp_path / "pages" / "unit-3.html").read_text(), "html.parser").select(".context")) == 2


@pytest.mark.parametrize("name", ["../up", "a b", "", "index"])
def test_names_that_are_no_file_names_are_refused_before_anything_is_written(name, tmp_path):
    unit = describe_unit(A, tokens=TOKENS)
    with pytest.raises(ValueError, match="cannot name a page"):
        write_pages({"good": unit, name: unit}, tmp_path / "pages")
    assert not (tmp_path / "pages").exists()
