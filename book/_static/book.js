// What scrolls inside itself can be reached with the keyboard.
(() => {
  const reach = () => document.querySelectorAll(".pst-scrollable-table-container, mjx-container[display]").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  addEventListener("load", () => {
    new ResizeObserver(reach).observe(document.body);
    window.MathJax?.startup?.promise.then(reach);
  });
})();
