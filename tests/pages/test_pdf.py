"""The book as one PDF; run by ``make pdf``."""

import re

import pdf
import pytest
from pypdf import PdfReader

if not pdf.PDF.exists():
    pytest.skip("make pdf has not been run", allow_module_level=True)


@pytest.fixture(scope="module")
def book():
    return PdfReader(pdf.PDF)


@pytest.fixture(scope="module")
def texts(book):
    """The text of every eighth page; all would take minutes."""
    return {number: text(book, number) for number in range(0, len(book.pages), 8)}


def text(book, number):
    return " ".join(book.pages[number].extract_text().split())


def outline(items):
    """Entries of the outline with those below them."""
    for item in items:
        if isinstance(item, list):
            yield from outline(item)
        else:
            yield item


def test_every_chapter_is_there_in_order_and_starts_a_page(book):
    chapters = [page for _, pages in pdf.parts() for page in pages]
    starts = [book.get_destination_page_number(book.named_destinations["/" + pdf.anchor(page)]) for page in chapters]
    assert starts == sorted(set(starts)) and len(book.pages) > 5 * len(chapters)
    listed = {book.get_destination_page_number(item) for item in outline(book.outline)}
    for page, start in zip(chapters, starts, strict=True):
        title = " ".join(pdf.article(page, set()).h1.get_text().split())
        assert title.replace(" ", "") in text(book, start).replace(" ", "").replace("ﬁ", "fi")
    assert set(starts) <= listed, "a chapter is not in the outline"


def test_the_outline_has_the_headings_of_the_pages(book):
    titles = [item.title for item in outline(book.outline)]
    chapters = [" ".join(pdf.article(page, set()).h1.get_text().split()) for _, pages in pdf.parts() for page in pages]
    assert [title for title in titles if title in chapters] == chapters and len(titles) > 5 * len(chapters)
    doubled = [title for title in titles if re.search(r"(\b\w{4,}\b.*) \1$", title)]
    assert not doubled and not any(re.search(r"[\\{}$]", title) for title in titles)


def test_pages_are_numbered(texts):
    assert all(found.endswith(f" {number + 1}") or found == str(number + 1) for number, found in texts.items())


def test_equations_are_drawings_and_none_is_raw(book, texts):
    assert not any(re.search(r"(?<!\\)\\(frac|sum|log|begin)\b|\$\$|\\\(", found) for found in texts.values())
    fonts = {font.get_object()["/BaseFont"] for page in book.pages for font in page["/Resources"].get("/Font", {}).values()}
    assert fonts and not any("MathJax" in name or "MJX" in name for name in fonts)


def test_links_lead_to_pages_of_the_book(book):
    names = book.named_destinations
    inside, files = 0, []
    for page in book.pages:
        for note in page.get("/Annots", []):
            link = note.get_object()
            if "/Dest" in link:
                inside += 1
                assert not isinstance(link["/Dest"], str) or link["/Dest"] in names
            elif "/A" in link and str(link["/A"].get("/URI", "")).startswith("file:"):
                files.append(link["/A"]["/URI"])
    assert inside > 500 and not files
