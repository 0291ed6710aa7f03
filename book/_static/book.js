// What scrolls inside itself can be reached with the keyboard.
(() => {
  const reach = () => document.querySelectorAll(".pst-scrollable-table-container, mjx-container[display]").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  addEventListener("load", () => {
    const seen = new ResizeObserver(reach);
    seen.observe(document.body);
    document.querySelectorAll(".pst-scrollable-table-container, .pst-scrollable-table-container > table").forEach((box) => seen.observe(box));
    window.MathJax?.startup?.promise.then(reach);
  });
})();
