// The figures of the chapter "Try it" that can be moved. The notebook leaves the data of each in
// <script id="explore-NAME" type="application/json">; what is built here takes the place of the image
// in the figure with the id fig-explore-NAME, above its caption. Without scripts the image stays.
(() => {
  "use strict";

  // --- Small tools ---

  const SVG = new Set(["svg", "g", "rect", "circle", "line", "path", "polyline", "text", "marker", "defs"]);

  /** An HTML or SVG element with attributes and children. */
  function make(tag, attributes = {}, ...children) {
    const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    change(node, attributes);
    node.append(...children);
    return node;
  }

  function change(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  }

  /** A number with a proper minus sign, and none before zero. */
  function printed(value, digits) {
    const text = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return /^-[0.,]*$/.test(text) ? text.slice(1) : text.replace("-", "\u2212");
  }

  /** The numbers that packed() in the notebook has written. */
  function unpacked(text, Kind, largest) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const unit = largest / (2 ** (8 * Kind.BYTES_PER_ELEMENT - 1) - 1);
    return Float64Array.from(new Kind(bytes.buffer), (whole) => whole * unit);
  }

  /** A native slider, which mouse, finger and keyboard know; textOf says its value, moved hears of it. */
  function slider(name, { min = 0, max, value, textOf, moved, label = name }) {
    const input = make("input", { type: "range", min, max, step: 1, value, "aria-label": name });
    const output = make("output", { "aria-hidden": "true" });
    const show = () => {
      output.textContent = textOf(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => { show(); moved(); });
    show();
    return {
      input, output,
      node: make("label", { class: "explore-slider" }, make("span", {}, label), input, output),
      get value() { return Number(input.value); },
      set value(position) { input.value = position; show(); },
    };
  }

  /** A list of named readings, and a function that fills it in. */
  function readings(names) {
    const outputs = names.map(() => make("output"));
    const node = make("dl", { class: "explore-readings" }, ...names.map((name, n) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, outputs[n]))));
    return { node, show: (values) => values.forEach((value, n) => { outputs[n].textContent = value; }) };
  }

  /** Colour a square canvas, cell by cell; colourOf(row, column) gives [red, green, blue]. */
  function paint(canvas, colourOf) {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(canvas.width, canvas.height);
    for (let row = 0, at = 0; row < canvas.height; row++) {
      for (let column = 0; column < canvas.width; column++, at += 4) {
        picture.data.set([...colourOf(row, column), 255], at);
      }
    }
    context.putImageData(picture, 0, 0);
  }

  /** From white to a colour, by a share from 0 to 1. */
  const tint = (colour, share) => colour.map((part) => 255 + (part - 255) * share);

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /** Eq. 1, with the lowest energy taken out so that nothing overflows. */
  function logSumExp(E) {
    const lowest = Math.min(...E);
    return lowest - Math.log(sum(E.map((e) => Math.exp(lowest - e))));
  }

  /** Eq. 2, the softmax of -E. */
  function responsibilities(E) {
    const lowest = Math.min(...E);
    const weights = E.map((e) => Math.exp(lowest - e));
    const total = sum(weights);
    return weights.map((weight) => weight / total);
  }

  // --- Energies, responsibilities, and a gradient that is measured ---

  function energies({ start, h }) {
    const floor = make("input", { type: "checkbox" });
    const energyOf = (z) => (floor.checked ? Math.max(0, z) : z);
    const loss = (z) => logSumExp(z.map(energyOf));

    // A difference to the left, with an error of order h^2: it knows the loss only, not Eq. 2.
    function slope(z, unit) {
      const moved = (by) => loss(z.map((value, k) => (k === unit ? value - by : value)));
      const here = loss(z);
      return (4 * (here - moved(h)) - (here - moved(2 * h))) / (2 * h);
    }

    const bar = (colour) => {
      const rect = make("rect", { height: "100%", fill: colour });
      return { rect, node: make("svg", { class: "bar", "aria-hidden": "true" }, rect), output: make("output") };
    };
    const units = start.map((value, n) => ({
      slider: slider(`z of unit ${n + 1}`, { min: -20, max: 40, value: Math.round(10 * value), moved: show,
                                             textOf: (tenths) => printed(tenths / 10, 1) }),
      r: bar("#0072b2"), gradient: bar("#d55e00"),
    }));
    const heads = [["", 1], ["energy z", 2], ["responsibility", 2], ["gradient, measured", 2]].map(([text, span]) =>
      make("span", { class: "head", style: `grid-column: span ${span}` }, text));
    const table = make("div", { class: "explore-units" }, ...heads, ...units.flatMap((unit, n) =>
      [make("span", {}, `${n + 1}`), unit.slider.input, unit.slider.output,
       unit.r.node, unit.r.output, unit.gradient.node, unit.gradient.output]));

    // The loss among the energies on one line, from -4 to 4.
    const place = (value) => `${50 + 11.5 * value}%`;
    const line = make("svg", { class: "explore-line", role: "img", "aria-label": "The energies and the loss on one line" },
      make("line", { x1: "0", x2: "100%", y1: 34, y2: 34, stroke: "#777" }),
      ...[-4, -2, 0, 2, 4].flatMap((value) => [
        make("line", { x1: place(value), x2: place(value), y1: 30, y2: 38, stroke: "#777" }),
        make("text", { x: place(value), y: 56, "text-anchor": "middle" }, printed(value, 0))]));
    const dots = units.map(() => line.appendChild(make("circle", { cy: 34, r: 6, fill: "#0072b2", "fill-opacity": 0.6 })));
    const mark = line.appendChild(make("line", { y1: 18, y2: 44, stroke: "#b04a00", "stroke-width": 3 }));
    const name = line.appendChild(make("text", { y: 13, "text-anchor": "middle", style: "font-weight: 700" }, "L"));
    const said = readings(["loss L", "lowest energy", "sum of the gradients"]);

    function show() {
      const z = units.map((unit) => unit.slider.value / 10);
      const E = z.map(energyOf);
      const r = responsibilities(E);
      const slopes = z.map((_, n) => slope(z, n));
      units.forEach((unit, n) => {
        for (const [{ rect, output }, value] of [[unit.r, r[n]], [unit.gradient, slopes[n]]]) {
          rect.setAttribute("width", `${100 * Math.max(0, value)}%`);
          output.textContent = printed(value, 3);
        }
        dots[n].setAttribute("cx", place(E[n]));
      });
      change(mark, { x1: place(loss(z)), x2: place(loss(z)) });
      name.setAttribute("x", place(loss(z)));
      said.show([printed(loss(z), 3), printed(Math.min(...E), 1), printed(sum(slopes), 3)]);
    }
    floor.addEventListener("change", show);
    show();
    return make("div", { class: "explore" }, table, line,
      make("div", { class: "explore-row" }, make("label", {}, floor, "ReLU floor: the energy is max(0, z)")), said.node);
  }

  // --- Eight units in the plane ---

  function toy({ weights, epochs, points, readings: numbers, deepest, largest, path }) {
    const SIDE = 2, CELLS = 41;
    const rows = unpacked(path, Int16Array, largest);
    const units = rows.length / (epochs.length * numbers.loss[0].length) / 3;
    const names = Object.keys(weights);
    const PRESETS = { "LSE only": [1, 0, 0], "+ variance": [1, 1, 0], "+ decorrelation": [1, 1, 1], "without LSE": [0, 1, 1] };

    const field = make("canvas", { width: CELLS, height: CELLS });
    const lines = make("g", { stroke: "#b04a00", "stroke-width": 0.04, fill: "none" });
    const plane = make("svg", { viewBox: `${-SIDE} ${-SIDE} ${2 * SIDE} ${2 * SIDE}`, role: "img",
                                "aria-label": "Four clusters of points and the units, as lines with arrows" },
      make("defs", {}, make("marker", { id: "explore-tip", viewBox: "0 0 4 4", refX: 3, refY: 2, markerWidth: 4,
                                        markerHeight: 4, orient: "auto" }, make("path", { d: "M0 0L4 2L0 4z", fill: "#b04a00" }))),
      ...points.map(([x, y]) => make("circle", { cx: x, cy: -y, r: 0.03, fill: "#222" })), lines);

    const lambda = names.map((name) => slider(`λ ${name}`, {
      label: make("span", {}, "λ", make("sub", {}, name)), max: weights[name].length - 1,
      value: weights[name].indexOf(1), moved: show, textOf: (n) => `${weights[name][n]}` }));
    const presets = Object.entries(PRESETS).map(([text, wanted]) => {
      const radio = make("input", { type: "radio", name: "explore-preset" });
      radio.addEventListener("change", () => {
        names.forEach((name, n) => { lambda[n].value = weights[name].indexOf(wanted[n]); });
        show();
      });
      return { radio, wanted, node: make("label", {}, radio, text) };
    });
    const epoch = slider("epoch", { max: epochs.length - 1, value: epochs.length - 1, textOf: (n) => `${epochs[n]}`,
                                    moved: () => { pause(); show(); } });
    const said = readings(["loss", "units firing per point, mean", "silent units", "decorrelation term", "mean of the largest r", "full blue: r"]);

    let timer = null;
    const button = make("button", { type: "button" }, "Play");
    function pause() {
      clearInterval(timer);
      timer = null;
      button.textContent = "Play";
    }
    function step() {
      if (epoch.value === epochs.length - 1) return pause();
      epoch.value += 1;
      show();
    }
    button.addEventListener("click", () => {
      if (timer !== null) return pause();
      if (epoch.value === epochs.length - 1) epoch.value = 0;
      show();
      timer = setInterval(step, 120);
      button.textContent = "Pause";
    });

    function show() {
      const chosen = lambda.map((one, n) => weights[names[n]][one.value]);
      presets.forEach(({ radio, wanted }) => { radio.checked = wanted.every((value, n) => value === chosen[n]); });
      // The notebook's order: the last weight changes fastest.
      const model = lambda.reduce((number, one, n) => number * weights[names[n]].length + one.value, 0);
      const first = (epoch.value * numbers.loss[0].length + model) * units * 3;
      const state = Array.from({ length: units }, (_, n) => rows.subarray(first + 3 * n, first + 3 * n + 3));

      const at = (cell) => SIDE * (2 * (cell + 0.5) / CELLS - 1);
      paint(field, (row, column) => {
        const E = state.map(([u, v, b]) => Math.max(0, u * at(column) - v * at(row) + b));
        return tint([33, 113, 181], Math.min(1, (Math.max(...responsibilities(E)) - 1 / units) / (deepest[model] - 1 / units)));
      });
      lines.replaceChildren(...state.flatMap(([u, v, b]) => {
        const norm = Math.hypot(u, v) || 1;
        const [x, y, right, up] = [-b * u / norm ** 2, -b * v / norm ** 2, u / norm, v / norm];
        if (Math.max(Math.abs(x), Math.abs(y)) > SIDE) return [];
        return [make("line", { x1: x - 0.35 * up, y1: -y - 0.35 * right, x2: x + 0.35 * up, y2: -y + 0.35 * right }),
                make("line", { x1: x, y1: -y, x2: x + 0.45 * right, y2: -y - 0.45 * up, "marker-end": "url(#explore-tip)" })];
      }));
      const of = (name) => numbers[name][epoch.value][model];
      said.show([printed(of("loss"), 1), printed(of("firing"), 2), printed(of("silent"), 0), printed(of("tc"), 2),
                 printed(of("largest"), 2), printed(deepest[model], 2)]);
    }
    show();
    return make("div", { class: "explore" }, make("div", { class: "explore-side" },
      make("div", { class: "explore-plane" }, field, plane),
      make("div", {}, make("div", { class: "explore-row", role: "group", "aria-label": "terms" }, ...presets.map(({ node }) => node)),
        ...lambda.map(({ node }) => node), said.node)),
      make("div", { class: "explore-row" }, button, epoch.node));
  }

  // --- The scale of a trained model ---

  /** A titled drawing: its texts stand outside of the SVG, so that they keep their size. */
  function panel(title, axis, svg) {
    const output = make("output");
    return { output, node: make("div", {}, make("div", { class: "explore-title" }, make("strong", {}, title), output,
                                                make("span", {}, axis)), svg) };
  }

  /** A small chart of values over the positions of a slider, with a cursor; "below" has positions that are named below it. */
  function chart(title, values, digits, low, high, { dashed = null, below = [] } = {}) {
    const x = (n) => 8 + 224 * n / (values.length - 1);
    const y = (value) => 72 - 64 * (value - low) / (high - low);
    const cursor = make("line", { y1: 2, y2: 78, stroke: "#777" });
    const dot = make("circle", { r: 4, fill: "#b04a00" });
    const svg = make("svg", { viewBox: "0 0 240 80", role: "img", "aria-label": `${title}, over the factor` },
      ...(dashed === null ? [] : [make("line", { x1: 8, x2: 232, y1: y(dashed), y2: y(dashed), stroke: "#555", "stroke-dasharray": "4 3" })]),
      cursor, make("polyline", { points: values.map((value, n) => `${x(n)},${y(value)}`).join(" "), fill: "none",
                                 stroke: "#0072b2", "stroke-width": 2 }), dot);
    const { output, node } = panel(title, `${printed(low, 0)} to ${printed(high, high % 1 ? 2 : 0)}`, svg);
    if (below.length) {
      node.append(make("div", { class: "explore-ticks" }, ...below.map(([n, text]) =>
        make("span", { style: n === 0 ? "left: 0" : n === values.length - 1 ? "right: 0"
                                                  : `left: ${x(n) / 2.4}%; transform: translateX(-50%)` }, text))));
    }
    return { node, show(n) {
      change(cursor, { x1: x(n), x2: x(n) });
      change(dot, { cx: x(n), cy: y(values[n]) });
      output.textContent = printed(values[n], digits);
    } };
  }

  function scale({ factors, curves, limit, zeros, r }) {
    const { loss, redundancy, probe, entropy } = curves;
    const written = (n) => Number(factors[n].toPrecision(3)).toLocaleString("en-US");
    const one = factors.findIndex((c) => Math.abs(c - 1) < 1e-9);
    const below = [0, one, factors.length - 1].map((n) => [n, written(n)]);
    const charts = [chart("loss", loss, 1, Math.floor(Math.min(...loss)), Math.ceil(Math.max(...loss))),
                    chart("redundancy", redundancy, 2, 0, Math.ceil(2 * Math.max(...redundancy))),
                    chart("probe, %", probe.map((share) => 100 * share), 1, 0, 100, { below }),
                    chart("entropy of r", entropy, 2, 0, Math.log(r[0].length), { dashed: limit, below })];
    const bars = r[0].map((_, n) => make("rect", { x: 8 + 464 * n / r[0].length, width: 464 / r[0].length - 1.5,
                                                   fill: n < zeros ? "#0072b2" : "#d55e00" }));
    const highest = Math.max(...r.flat());
    const image = panel("one image: largest r", `blue: the ${zeros} units at zero`,
      make("svg", { viewBox: "0 0 480 80", role: "img", "aria-label": "Responsibilities of the units for one image" }, ...bars));
    const factor = slider("factor c", { max: factors.length - 1, value: one, moved: show, textOf: (n) => `× ${written(n)}` });
    function show() {
      const n = factor.value;
      charts.forEach((drawn) => drawn.show(n));
      bars.forEach((bar, unit) => {
        const height = 72 * r[n][unit] / highest;
        change(bar, { y: 76 - height, height });
      });
      image.output.textContent = printed(Math.max(...r[n]), 3);
    }
    show();
    return make("div", { class: "explore" }, factor.node,
      make("div", { class: "explore-panels" }, ...charts.map(({ node }) => node)), image.node);
  }

  // --- Correlations, epoch by epoch ---

  function ablation({ names, units, triangles, dead, redundancy }) {
    const values = unpacked(triangles, Int8Array, 1);
    const size = units * (units + 1) / 2;
    // Place of an entry in the upper triangle, stored row by row.
    const place = (row, column) => (row > column ? place(column, row) : row * units - row * (row - 1) / 2 + column - row);
    const panels = names.map((name) => {
      const canvas = make("canvas", { width: units, height: units, role: "img" });
      const output = make("output");
      return { canvas, output, node: make("div", {}, make("strong", {}, name), canvas, output) };
    });
    const last = dead.length - 1;
    const epoch = slider("epoch", { max: last, value: last, textOf: (n) => `${n} of ${last}`, moved: show });
    function show() {
      names.forEach((name, model) => {
        const start = (epoch.value * names.length + model) * size;
        const { canvas, output } = panels[model];
        paint(canvas, (row, column) => {
          const value = values[start + place(row, column)];
          return tint(value > 0 ? [178, 24, 43] : [33, 102, 172], Math.abs(value));
        });
        const found = redundancy[epoch.value][model];
        output.textContent = `${dead[epoch.value][model]} dead, redundancy ${found === null ? "not defined" : printed(found, 0)}`;
        canvas.setAttribute("aria-label", `Correlations of ${name} after epoch ${epoch.value}: ${output.textContent}`);
      });
    }
    show();
    return make("div", { class: "explore" }, epoch.node,
      make("div", { class: "explore-matrices" }, ...panels.map(({ node }) => node)),
      make("div", { class: "explore-row" }, make("span", {}, "correlation \u22121"), make("span", { class: "explore-scale" }), make("span", {}, "1")));
  }

  for (const [name, build] of Object.entries({ energies, toy, scale, ablation })) {
    const data = document.getElementById(`explore-${name}`);
    const figure = document.getElementById(`fig-explore-${name}`);
    if (!data || !figure) continue;
    try {
      figure.insertBefore(build(JSON.parse(data.textContent)), figure.querySelector("figcaption"));
      figure.querySelector("img").classList.add("explore-replaced");
    } catch (error) {
      console.error(error); // Then the image stays, and the other figures still move.
    }
  }
})();
