"""The whole book as one PDF, ``_build/decoder-free.pdf``, printed by Chromium from the built html.

The articles of all pages go into one page, in the order of ``_toc.yml``, each behind a
prefix for its ids, so that links between chapters lead to pages of the PDF.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "decoder-free.pdf"
# What needs a screen, and code that is folded on the pages; folded proofs are printed.
DROP = ".headerlink, script, button, .ledger-filters, details.hide.above-input"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
FOOTER = ('<div style="font: 8px sans-serif; color: #444; width: 100%; text-align: center">'
          '<span class="pageNumber"></span></div>')


def parts() -> list[tuple[str, list[str]]]:
    """Caption and pages of every part of the book; a page as "notebooks/01_introduction"."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [("", [toc["root"]])] + [(part["caption"], [chapter["file"] for chapter in part["chapters"]])
                                    for part in toc["parts"]]


def anchor(page: str, fragment: str = "") -> str:
    """Id, in the whole book, of a page or of something on it."""
    return page.replace("/", "-") + (f"--{fragment}" if fragment else "")


def article(page: str, pages: set[str]) -> BeautifulSoup:
    """The content of a page, with ids, links and images as the whole book needs them."""
    soup = BeautifulSoup((HTML / f"{page}.html").read_text(), "html.parser").select_one("article")
    for tag in soup.select(DROP):
        tag.decompose()
    for tag in soup.find_all(id=True):
        tag["id"] = anchor(page, tag["id"])
    for tag in soup.find_all("details"):
        tag["open"] = ""
    for tag in soup.find_all(src=True):
        if not tag["src"].startswith("data:"):
            tag["src"] = os.path.relpath((HTML / page).parent / tag["src"], PDF.parent)
    for tag in soup.find_all("a", href=True):
        link = urlsplit(tag["href"])
        if link.scheme:
            continue
        target = os.path.normpath(Path(page).parent / unquote(link.path)).removesuffix(".html") if link.path else page
        if target in pages:
            tag["href"] = "#" + anchor(target, unquote(link.fragment))
        else:  # a file beside the book
            del tag["href"]
    soup.name, soup["id"] = "section", anchor(page)
    return soup


def whole_book() -> str:
    """One html page with a title page, a table of contents and all chapters."""
    head = BeautifulSoup((HTML / "index.html").read_text(), "html.parser").head
    mathjax = next(tag for tag in head.find_all("script") if "window.MathJax" in tag.text)
    source = next(tag["src"] for tag in head.find_all("script", src=True) if "tex-svg" in tag["src"]).split("?")[0]
    styles = "".join(f'<link rel="stylesheet" href="html/{tag["href"].split("?")[0]}">'
                     for tag in head.find_all("link", rel="stylesheet") if not urlsplit(tag["href"]).scheme)
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    listed = parts()
    pages = {page for _, chapters in listed for page in chapters}
    contents, chapters = [], []
    for caption, names in listed:
        contents.append(f"<p>{caption}</p>")
        for name in names:
            section = article(name, pages)
            title = section.h1.decode_contents()
            contents.append(f'<div><a href="#{anchor(name)}">{title if caption else "About this book"}</a></div>')
            chapters.append(str(section))
    profile = (ROOT / "book" / "generated" / "profile.md").read_text().replace("**", "").replace("`", "")
    return f"""<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{config["title"]}</title>{styles}
<style>{Path(__file__).with_suffix(".css").read_text()}</style>{mathjax}<script defer src="html/{source}"></script></head><body class="whole-book">
<header><div class="title">{config["title"]}</div><p>{config["author"]}, {config["copyright"]}</p><p>{profile}</p>
<p>Code that is folded on the pages of the book is left out here.</p></header>
<nav><div class="title">Contents</div>{"".join(contents)}</nav>
<main class="bd-content"><div class="bd-article">{"".join(chapters)}</div></main></body></html>"""


def headings(html: str) -> list[str]:
    """The text of every heading of the chapters, in order, with formulas as plain letters."""
    found = BeautifulSoup(html, "html.parser").main.find_all(re.compile("^h[1-6]$"))
    return [" ".join(re.sub(r"\\[()]|\\(?=[a-z])|[{}$]", "", tag.get_text()).replace("^top", "ᵀ").split()) for tag in found]


def entries(item: DictionaryObject) -> Iterator[DictionaryObject]:
    """The outline below an item, in the order of the pages."""
    below = item.get("/First")
    while below is not None:
        below = below.get_object()
        yield below
        yield from entries(below)
        below = below.get("/Next")


def rename_outline(path: Path, titles: list[str]) -> None:
    """Give the entries of the outline these titles; Chromium writes some words twice."""
    writer = PdfWriter(clone_from=path)
    outline = list(entries(writer.root_object["/Outlines"]))
    if len(outline) != len(titles):
        sys.exit(f"the outline has {len(outline)} entries for {len(titles)} headings")
    for entry, title in zip(outline, titles):
        entry[NameObject("/Title")] = TextStringObject(title)
    writer.write(path)


def main() -> None:
    if not (HTML / "index.html").exists():
        sys.exit("_build/html is missing; build the book first: make book")
    page_file = PDF.with_suffix(".html")
    html = whole_book()
    page_file.write_text(html)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"file://{page_file}")
        page.wait_for_function("MathJax.startup.promise.then(() => true)", polling=50)
        raw = page.evaluate("[...document.querySelectorAll('span.math, div.math')]"
                            ".filter(box => !box.querySelector('mjx-container > svg')).map(box => box.textContent)")
        if raw or page.locator("[data-mjx-error], mjx-merror").count():
            sys.exit(f"equations that are not drawn: {raw[:5]}")
        page.emulate_media(media="print")
        page.pdf(path=PDF, format="A4", print_background=True, outline=True, tagged=True, display_header_footer=True,
                 header_template="<span></span>", footer_template=FOOTER,
                 margin={"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"})
        browser.close()
    rename_outline(PDF, headings(html))
    print(f"{PDF.relative_to(ROOT)}: {PDF.stat().st_size / 2 ** 20:.1f} MiB")


if __name__ == "__main__":
    main()
