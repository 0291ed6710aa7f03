// What scrolls inside itself can be reached with the keyboard, and shows that it goes on.
(() => {
  const BOXES = ".pst-scrollable-table-container, mjx-container[display], .bd-article span.math, figure .sideways";
  const shade = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  const reach = () => document.querySelectorAll(BOXES).forEach((box) => {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
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
