"""The built book in a real browser; run after ``make book``."""

import re
from pathlib import Path

import pytest
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
