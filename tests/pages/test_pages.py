"""The built book in a real browser; run after ``make book``."""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Page

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
AXE = Path(__file__).with_name("axe.min.js")
PAGES = sorted(str(path.relative_to(HTML)) for folder in ("", "notebooks", "book")
               for path in (HTML / folder).glob("*.html"))


def test_the_book_is_there():
    assert "index.html" in PAGES and len([page for page in PAGES if page.startswith("notebooks/")]) >= 9


def test_no_page_names_a_path_of_the_machine_that_built_it():
    assert not [page for page in PAGES if str(HTML.parents[1]) in (HTML / page).read_text()]


def test_no_figure_is_larger_than_200_kB():
    sizes = {path.name: path.stat().st_size for path in (HTML / "_images").iterdir()}
    assert len(sizes) > 30 and not [f"{name}: {size}" for name, size in sizes.items() if size > 200_000]


def test_every_numbered_equation_stands_once_under_its_own_number():
    text = "".join((HTML / page).read_text() for page in PAGES)
    found = re.findall(r'id="equation-eq-(\d+)">\s*<span class="eqno">\((\d+)\)', text)
    assert sorted(found, key=lambda pair: int(pair[0])) == [(str(n), str(n)) for n in range(1, 13)]


def test_every_internal_link_leads_somewhere():
    soups = {page: BeautifulSoup((HTML / page).read_text(), "html.parser") for page in PAGES}
    ids = {page: {tag["id"] for tag in soup.find_all(id=True)} for page, soup in soups.items()}
    broken = []
    for page, soup in soups.items():
        for link in soup.select("article a[href]"):
            parts = urlsplit(link["href"])
            if parts.scheme or link["href"] == "#":
                continue
            target = (HTML / page).parent / unquote(parts.path) if parts.path else HTML / page
            name = str(target.resolve().relative_to(HTML.resolve())) if target.exists() else None
            if name is None or (parts.fragment and name in ids and unquote(parts.fragment) not in ids[name]):
                broken.append(f"{page}: {link['href']}")
    assert not broken


def test_every_chapter_offers_its_executed_notebook():
    for page in (HTML / "notebooks").glob("*.html"):
        link = BeautifulSoup(page.read_text(), "html.parser").select_one(".article-header-buttons a[href$='.ipynb']")
        notebook = nbformat.read(page.parent / link["href"], as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert cells and all(cell.execution_count for cell in cells) and any(cell.outputs for cell in cells), page.name


def test_ledger_has_every_claim_and_filters_them(browser):
    claims = yaml.safe_load((HTML.parents[1] / "book" / "claims.yml").read_text())["claims"]
    page = browser.new_page()
    page.goto(f"file://{HTML}/book/ledger.html")
    rows = page.locator("table.ledger tbody tr")
    assert rows.count() == len(claims)
    page.select_option("#filter-verdict", "not reproduced")
    wanted = sum(claim["verdict"] == "not reproduced" for claim in claims)
    assert page.locator("table.ledger tbody tr:visible").count() == wanted > 0
    assert page.locator("#filter-count").inner_text() == f"{wanted} of {len(claims)} claims"
    page.select_option("#filter-section", "4")
    wanted = sum(claim["verdict"] == "not reproduced" and claim["place"].startswith("4") for claim in claims)
    assert page.locator("table.ledger tbody tr:visible").count() == wanted
    page.goto(f"file://{HTML}/book/ledger.html?verdict=holds")
    assert page.locator("table.ledger tbody tr:visible").count() == sum(claim["verdict"] == "holds" for claim in claims)
    page.close()


def test_a_shade_says_that_a_table_goes_on_until_its_end_is_seen(browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"file://{HTML}/notebooks/12_comparison.html")
    table = page.locator(".pst-scrollable-table-container.more").first
    table.wait_for()
    box = table.element_handle()
    box.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
    page.wait_for_function("box => !box.classList.contains('more')", arg=box)
    box.evaluate("box => box.scrollTo(0, 0)")
    page.wait_for_function("box => box.classList.contains('more')", arg=box)
    page.close()


class Visit(NamedTuple):
    """A page that is open in the browser, and what happened while it loaded."""

    page: Page
    remote: list[str]
    failed: list[str]
    errors: list[str]


@pytest.fixture(scope="module", params=PAGES)
def visit(browser, request):
    """Every page is loaded once; all tests that take it look at the same visit."""
    page = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    seen = Visit(page, [], [], [])
    page.on("request", lambda r: seen.remote.append(r.url) if r.url.startswith("http") else None)
    page.on("requestfailed", lambda r: seen.failed.append(r.url))
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(f"file://{HTML / request.param}")
    page.wait_for_function("!window.MathJax || !MathJax.startup || "
                           "MathJax.startup.promise.then(() => true)", polling=50)
    yield seen
    page.close()


def test_page_needs_no_network_and_reports_no_error(visit):
    assert not visit.remote and not visit.failed and not visit.errors


def test_every_equation_is_drawn(visit):
    page = visit.page
    assert page.locator("mjx-container").count() >= page.locator("span.math, div.math").count(), \
        "an equation stayed raw TeX"
    assert page.locator("[data-mjx-error], mjx-merror").count() == 0


def test_page_fits_a_phone(visit):
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), \
        "the page scrolls sideways at 390 px"


def test_no_formula_or_figure_is_cut_where_it_cannot_be_reached(visit):
    assert visit.page.evaluate("""[...document.querySelectorAll("article :is(span.math, figure .sideways, mjx-container[display])")]
        .filter(box => box.scrollWidth > box.clientWidth + 2)
        .filter(box => getComputedStyle(box).overflowX !== "auto" || box.tabIndex !== 0 || !box.classList.contains("more"))
        .map(box => box.textContent.slice(0, 80))""") == []


def test_headings_are_in_order(visit):
    levels = visit.page.evaluate("[...document.querySelectorAll('main :is(h1, h2, h3, h4, h5, h6):not(.onlyprint *)')]"
                                 ".map(heading => +heading.tagName[1])")
    assert levels[:1] == [1] and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(levels, levels[1:])), f"a level is skipped: {levels}"


def test_every_image_has_alt_text(visit):
    assert visit.page.evaluate("[...document.querySelectorAll('article img')].every(i => i.alt)")


SCAN = """async (rules) => (await axe.run(document, {
  resultTypes: ["violations"], preload: false, ...(rules.length && { runOnly: rules })
})).violations.filter(found => ["serious", "critical"].includes(found.impact)).map(
  found => [found.id, ...found.nodes.map(node => `${node.target}: ${node.any[0]?.message ?? node.html}`).slice(0, 5)])"""


# Most elements are in formulas, which have the colour of the text, and words of code: one of each colour and ground stays.
THIN = """() => {
  document.querySelectorAll("mjx-container").forEach(formula => formula.replaceChildren());
  const seen = new Set();
  for (const word of document.querySelectorAll(".highlight pre > span")) {
    const kind = `${word.className} ${word.parentElement.closest("[class*=cell_], .highlight").className}`;
    if (seen.has(kind)) word.replaceWith(word.textContent); else seen.add(kind);
  }
}"""


# Two frames later the page has marked what scrolls at this width. A browser can stop to draw frames, and an
# evaluation that waits for one never ends; the marks of a width that has not changed are there without it.
TWO_FRAMES = """() => Promise.race([
  new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))), new Promise(done => setTimeout(done, 2000))])"""


# What depends on the width is looked at on a phone, and what depends on the theme, the contrast of text, in both.
@pytest.mark.parametrize("width, theme, rules", [
    (390, "light", ["scrollable-region-focusable"]), (1440, "light", []), (1440, "dark", ["color-contrast"])])
def test_page_is_accessible(visit, width, theme, rules):
    """No serious or critical finding of axe-core; without rules, of all that it has by default."""
    page = visit.page
    page.set_viewport_size({"width": width, "height": 844})
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    if not page.evaluate("!!window.axe"):
        page.add_script_tag(path=AXE)
        page.wait_for_timeout(400)  # the theme looks at what scrolls 300 ms after the last change
    page.evaluate(TWO_FRAMES)
    if width > 390:
        page.evaluate(THIN)
    assert page.evaluate(SCAN, rules) == []
