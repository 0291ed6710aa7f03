// Filter the ledger by section and verdict; the choice is kept in the address, so that it can be shared.
(() => {
  const rows = [...document.querySelectorAll("table.ledger tbody tr")];
  const menus = {
    section: document.getElementById("filter-section"),
    verdict: document.getElementById("filter-verdict"),
  };
  const count = document.getElementById("filter-count");

  function show() {
    let visible = 0;
    for (const row of rows) {
      const wanted = Object.entries(menus).every(([name, menu]) => !menu.value || row.dataset[name] === menu.value);
      row.hidden = !wanted;
      visible += wanted;
    }
    count.textContent = `${visible} of ${rows.length} claims`;
  }

  function choose() {
    show();
    const chosen = new URLSearchParams();
    for (const [name, menu] of Object.entries(menus)) if (menu.value) chosen.set(name, menu.value);
    history.replaceState(null, "", `${location.pathname}?${chosen}`);
  }

  const asked = new URLSearchParams(location.search);
  for (const [name, menu] of Object.entries(menus)) {
    menu.value = asked.get(name) ?? "";
    if (menu.selectedIndex < 0) menu.value = "";
    menu.addEventListener("change", choose);
  }
  menus.section.form.addEventListener("submit", (event) => event.preventDefault());
  show();
})();
