// What scrolls inside itself can be reached with the keyboard, and shows that it goes on.
(() => {
  const BOXES = ".pst-scrollable-table-container, mjx-container[display], .bd-article span.math, figure .sideways";
  const OVERHANG = 8; // pixels by which glyphs may stand out
  const shade = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth + OVERHANG < box.scrollWidth);
  const reach = () => document.querySelectorAll(BOXES).forEach((box) => {
    if (box.classList.toggle("scrolls", box.scrollWidth > box.clientWidth + OVERHANG)) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    shade(box);
  });
  addEventListener("scroll", (event) => event.target.matches?.(BOXES) && shade(event.target), true);
  addEventListener("load", () => {
    const seen = new ResizeObserver(reach);
    seen.observe(document.body);
    document.querySelectorAll(".pst-scrollable-table-container, .pst-scrollable-table-container > table").forEach((box) => seen.observe(box));
    window.MathJax?.startup?.promise.then(reach);
  });
})();
