"""The built book in a real browser; run after ``make book``."""

import re
from pathlib import Path

from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = sorted(str(path.relative_to(HTML)) for folder in ("", "notebooks", "book")
               for path in (HTML / folder).glob("*.html"))
# Flags that keep a headless Chromium from looking for the network on its own account.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


def test_the_book_is_there():
    assert "index.html" in PAGES and len([page for page in PAGES if page.startswith("notebooks/")]) >= 9


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


@pytest.mark.parametrize("page_name", PAGES)
def test_page(browser, page_name):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    remote, failed = [], []
    page.on("request", lambda r: remote.append(r.url) if r.url.startswith("http") else None)
    page.on("requestfailed", lambda r: failed.append(r.url))
    page.goto(f"file://{HTML / page_name}")
    page.wait_for_function("!window.MathJax || !MathJax.startup || "
                           "MathJax.startup.promise.then(() => true)")
    source_equations = page.locator("span.math, div.math").count()
    assert page.locator("mjx-container").count() >= source_equations, "an equation stayed raw TeX"
    assert page.locator("[data-mjx-error], mjx-merror").count() == 0
    assert not remote, f"remote requests: {remote}"
    assert not failed, f"files that did not load: {failed}"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), \
        "the page scrolls sideways at 390 px"
    assert page.evaluate("[...document.querySelectorAll('article img')].every(i => i.alt)"), \
        "an image has no alt text"
    page.close()
