// What scrolls inside itself can be reached with the keyboard, and shows that it goes on.
(() => {
  const BOXES = ".pst-scrollable-table-container, mjx-container[display], .bd-article span.math, figure .sideways, .highlight pre";
  const OVERHANG = 2; // pixels by which glyphs may stand out
  const fade = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth + OVERHANG < box.scrollWidth);
  const reach = () => document.querySelectorAll(BOXES).forEach((box) => {
    fade(box);
    if (box.matches("pre")) return; // the theme sees to these
    if (box.classList.toggle("scrolls", box.scrollWidth > box.clientWidth + OVERHANG)) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  addEventListener("scroll", (event) => event.target.matches?.(BOXES) && fade(event.target), true);
  addEventListener("load", () => {
    document.querySelectorAll("figure .sideways img").forEach((image) => image.classList.toggle("wide", image.naturalWidth > 520));
    const seen = new ResizeObserver(reach);
    seen.observe(document.body);
    document.querySelectorAll(".pst-scrollable-table-container, .pst-scrollable-table-container > table").forEach((box) => seen.observe(box));
    window.MathJax?.startup?.promise.then(reach);
  });
})();
