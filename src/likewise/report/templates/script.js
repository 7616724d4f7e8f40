"use strict";
// The page is complete without this: it adds sorting, filters and enlarging.

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.order === undefined ? cell.textContent.trim() : Number(cell.dataset.order);
  };
  const compare = (a, b) =>
    typeof a === typeof b
      ? typeof a === "number" ? a - b : a.localeCompare(b)
      : typeof a === "number" ? -1 : 1; // dashes come after numbers
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column)));
      body.append(...(up ? rows : rows.reverse()));
    });
  });
}

for (const form of document.querySelectorAll("form.filters")) {
  const cards = [...form.parentElement.querySelectorAll(".card")];
  const update = () => {
    const wanted = [...form.querySelectorAll("select")].filter((one) => one.value);
    for (const card of cards) {
      card.hidden = !wanted.every((one) => card.dataset[one.name] === one.value);
    }
    const shown = cards.filter((card) => !card.hidden).length;
    form.querySelector("output").value = `${shown} of ${cards.length} tasks`;
  };
  form.addEventListener("change", update);
  form.hidden = false;
  update(); // a browser may have kept choices over a reload
}

const dialog = document.getElementById("large");
for (const row of document.querySelectorAll(".card .row")) {
  for (const image of row.querySelectorAll("img")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      const copy = row.closest(".card").cloneNode(true);
      for (const one of copy.querySelectorAll("button")) one.replaceWith(...one.childNodes);
      document.getElementById("large-content").replaceChildren(copy);
      dialog.showModal();
    });
  }
}
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
