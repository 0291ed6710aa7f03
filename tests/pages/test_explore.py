"""The figures that can be moved, in a real browser; run after ``make book``."""

import json
import math
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "_build" / "html" / "notebooks" / "13_explore.html"
NAMES = ("energies", "toy", "scale", "ablation")

# Contrast of every text against the nearest ground behind it, by the formula of WCAG 2.
CONTRASTS = """() => {
  const part = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = (rgb) => 0.2126 * part(rgb[0]) + 0.7152 * part(rgb[1]) + 0.0722 * part(rgb[2]);
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode, node = text.parentElement;
    if (!node.closest(".explore") || !text.textContent.trim()) continue;
    const style = getComputedStyle(node);
    const [a, b] = [luminance(numbers(node.closest("svg") ? style.fill : style.color)), luminance(ground(node))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.textContent]);
  }
  return found;
}"""


@pytest.fixture
def page(browser):
    """The chapter, on a wide screen; an error on the page fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"file://{PAGE}")
    yield page
    page.close()
    assert errors == []


def handed_over(page, name):
    """The data that the notebook left for a figure."""
    return json.loads(page.locator(f"#explore-{name}").text_content())


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))


def reading(page, name, label):
    """The number beside this label."""
    row = page.locator(f"#fig-explore-{name} .explore-readings div").filter(has=page.get_by_text(label, exact=True))
    return number(row.locator("output").inner_text())


def panel(page, title):
    """The text beside this title of a chart."""
    row = page.locator("#fig-explore-scale .explore-title").filter(has=page.get_by_text(title, exact=True))
    return row.locator("output").inner_text()


def pixels(page, canvas):
    """Red, green, blue and opacity of every cell of a canvas, in one list."""
    return page.locator(canvas).evaluate(
        "node => [...node.getContext('2d').getImageData(0, 0, node.width, node.height).data]")


def units(page):
    """What the first figure prints of every unit: z, responsibility, gradient."""
    texts = [number(text) for text in page.locator("#fig-explore-energies .explore-units output").all_inner_texts()]
    return texts[::3], texts[1::3], texts[2::3]


def softmax_of_minus(E):
    weights = [math.exp(-e) for e in E]
    return [weight / sum(weights) for weight in weights]


def test_the_page_is_small():
    assert PAGE.stat().st_size < 400_000


def test_raising_an_energy_lowers_its_responsibility_and_its_measured_gradient(page):
    before = units(page)
    slider = page.get_by_label("z of unit 5")
    for _ in range(12):
        slider.press("ArrowRight")
    z, r, gradient = units(page)
    assert z[4] == pytest.approx(before[0][4] + 1.2) and r[4] < before[1][4]
    assert r == [round(value, 3) for value in softmax_of_minus(z)] == gradient
    assert reading(page, "energies", "loss L") == pytest.approx(-math.log(sum(math.exp(-e) for e in z)), abs=5e-4)
    widths = page.locator("#fig-explore-energies .bar rect").evaluate_all("all => all.map(one => parseFloat(one.getAttribute('width')))")
    assert widths == pytest.approx([100 * value for pair in zip(r, gradient) for value in pair], abs=0.06)


def test_the_floor_takes_the_gradient_and_leaves_the_responsibility(page):
    page.get_by_label("ReLU floor").press("Space")
    for unit, key, times in ((5, "Home", 1), (4, "Home", 1), (4, "ArrowRight", 20)):
        for _ in range(times):
            page.get_by_label(f"z of unit {unit}").press(key)
    z, r, gradient = units(page)
    assert (z[4], z[3]) == (-2.0, 0.0)
    expected = softmax_of_minus([max(0, value) for value in z])
    assert r == [round(value, 3) for value in expected] and r[4] > 0.2
    assert gradient == [round(value, 3) if at > 0 else 0 for value, at in zip(expected, z)]


def test_the_toy_replays_what_was_trained(page):
    data = handed_over(page, "toy")
    weights = data["weights"]
    for preset, wanted in {"LSE only": (1, 0, 0), "+ variance": (1, 1, 0), "+ decorrelation": (1, 1, 1), "without LSE": (0, 1, 1)}.items():
        page.get_by_label(preset, exact=True).check()
        places = [values.index(value) for values, value in zip(weights.values(), wanted)]
        model = (places[0] * 3 + places[1]) * 3 + places[2]
        assert [int(page.get_by_label(f"λ {name}").input_value()) for name in weights] == places
        assert reading(page, "toy", "loss") == pytest.approx(data["readings"]["loss"][-1][model], abs=0.051)
        assert reading(page, "toy", "silent units") == (8 if preset == "LSE only" else data["readings"]["silent"][-1][model])
    before = pixels(page, ".explore-plane canvas")
    page.get_by_label("λ lse").press("End")
    page.get_by_label("λ tc").press("Home")
    assert page.get_by_label("+ variance", exact=True).is_checked()
    page.get_by_label("λ lse").press("ArrowLeft")
    assert not page.locator("input[name=explore-preset]:checked").count()
    assert pixels(page, ".explore-plane canvas") != before


def test_lines_stand_where_the_units_start_to_fire(page):
    """Each arrow starts where the energy of its unit is zero, and the field has the colour of the responsibilities there."""
    page.get_by_label("+ decorrelation", exact=True).check()
    expected, found = page.evaluate("""() => {
      const data = JSON.parse(document.getElementById("explore-toy").textContent);
      const bytes = Uint8Array.from(atob(data.path), (c) => c.charCodeAt(0));
      const rows = [...new Int16Array(bytes.buffer)].map((n) => n * data.largest / 32767);
      const places = ["lse", "var", "tc"].map((name) => data.weights[name].indexOf(1));
      const model = (places[0] * 3 + places[1]) * 3 + places[2];
      const first = ((data.epochs.length - 1) * 27 + model) * 24;
      const units = Array.from({length: 8}, (_, n) => rows.slice(first + 3 * n, first + 3 * n + 3));
      const tips = [...document.querySelectorAll(".explore-plane line[marker-end]")].map((line) =>
        [Number(line.getAttribute("x1")), -Number(line.getAttribute("y1"))]);
      return [units, tips];
    }""")
    assert 4 <= len(found) <= 8
    for x, y in found:
        assert min(abs(u * x + v * y + b) for u, v, b in expected) < 1e-6


def test_play_runs_and_stops(page):
    page.get_by_label("LSE only", exact=True).check()
    epoch = page.locator("#fig-explore-toy").get_by_label("epoch", exact=True)
    last = int(epoch.get_attribute("max"))
    button = page.get_by_role("button", name="Play")
    button.press("Enter")
    page.wait_for_function("() => Number(document.querySelector('#fig-explore-toy input[aria-label=epoch]').value) >= 3")
    pause = page.get_by_role("button", name="Pause")
    assert int(epoch.input_value()) < last
    pause.press("Enter")
    stopped = epoch.input_value()
    page.wait_for_timeout(400)
    assert epoch.input_value() == stopped
    epoch.press("Home")
    data = handed_over(page, "toy")
    assert reading(page, "toy", "silent units") == data["readings"]["silent"][0][18] < 8
    for _ in range(last):
        epoch.press("ArrowRight")
    assert reading(page, "toy", "silent units") == 8


def test_a_larger_scale_lowers_the_loss_and_leaves_redundancy_and_probe(page):
    slider = page.get_by_label("factor c")
    at_one = {title: panel(page, title) for title in ("loss", "redundancy", "probe, %", "entropy of r")}
    assert slider.get_attribute("aria-valuetext") == "× 1"
    losses = []
    for _ in range(12):
        losses.append(number(panel(page, "loss")))
        slider.press("ArrowRight")
    assert losses == sorted(losses, reverse=True) and losses[0] - number(panel(page, "loss")) > 100
    assert slider.get_attribute("aria-valuetext") == "× 1,000"
    assert panel(page, "redundancy") == at_one["redundancy"]
    assert abs(number(panel(page, "probe, %")) - number(at_one["probe, %"])) <= 0.2
    data = handed_over(page, "scale")
    assert number(panel(page, "entropy of r")) == round(data["curves"]["entropy"][-1], 2)
    heights = page.locator("#fig-explore-scale rect").evaluate_all("all => all.map(one => Number(one.getAttribute('height')))")
    at_zero = heights[:data["zeros"]]
    assert data["zeros"] >= 2 and max(at_zero) == min(at_zero) == max(heights)
    assert sum(heights) * data["r"][-1][0] / heights[0] == pytest.approx(1, abs=0.01)


def test_the_scrubber_changes_the_matrices(page):
    data = handed_over(page, "ablation")
    canvas = ".explore-matrices > div:nth-child(2) canvas"
    slider = page.locator("#fig-explore-ablation").get_by_label("epoch", exact=True)
    seen = []
    for key, epoch in (("Home", 0), ("ArrowRight", 1), ("End", len(data["dead"]) - 1)):
        slider.press(key)
        label = page.locator(canvas).get_attribute("aria-label")
        assert label.startswith(f"Correlations of LSE + var after epoch {epoch}: {data['dead'][epoch][1]} dead, redundancy ")
        assert number(label.rsplit(" ", 1)[1]) == pytest.approx(data["redundancy"][epoch][1], abs=0.51)
        seen.append(pixels(page, canvas))
    assert seen[0] != seen[1] != seen[2] != seen[0]
    size = data["units"]
    reds = [seen[2][4 * n:4 * n + 3] for n in range(size * size)]
    assert all(reds[row * size + column] == reds[column * size + row] for row in range(size) for column in range(row))
    assert reds[::size + 1] == [[178, 24, 43]] * size, "a unit correlates with itself"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_text_can_be_read(browser, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"file://{PAGE}")
    assert page.locator("html").get_attribute("data-theme") == scheme
    assert page.locator(".explore").count() == len(NAMES) and not page.locator(".explore-replaced:visible").count()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 60 and [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    for name in NAMES:
        figure = page.locator(f"#fig-explore-{name}")
        box = figure.bounding_box()
        for part in figure.locator("input, button, canvas, svg, output").all():
            inside = part.bounding_box()
            assert inside["x"] >= box["x"] - 1 and inside["x"] + inside["width"] <= box["x"] + box["width"] + 1
    context.close()


def test_every_slider_has_a_name_and_takes_a_finger(browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"file://{PAGE}")
    sliders = page.locator(".explore input[type=range]")
    assert sliders.count() == 5 + 4 + 1 + 1
    for slider in sliders.all():
        assert slider.get_attribute("aria-label") and slider.get_attribute("aria-valuetext")
        assert slider.bounding_box()["height"] >= 24
    slider = page.get_by_label("factor c")
    slider.scroll_into_view_if_needed()
    box, before = slider.bounding_box(), panel(page, "loss")
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    assert number(panel(page, "loss")) < number(before)
    context.close()


def test_without_scripts_the_images_stay(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{PAGE}")
    for name in NAMES:
        assert page.locator(f"#fig-explore-{name} img").is_visible()
    assert page.locator("noscript p").is_visible() and not page.locator(".explore").count()
    context.close()


def test_other_pages_are_left_alone(browser):
    page = browser.new_page()
    page.goto(f"file://{PAGE.parents[1]}/index.html")
    assert not page.locator(".explore, .explore-replaced").count()
    page.close()
