// A click on the header of a table column sorts by it; a second click reverses the order.
"use strict";
function compareCells(a, b, direction) {
  if (a === "" || b === "") return (a === "") - (b === "");  // missing values stay at the end
  const numeric = !isNaN(a) && !isNaN(b);
  return direction * (numeric ? a - b : a.localeCompare(b, undefined, {numeric: true}));
}

for (const table of document.querySelectorAll("table.board")) {
  const headers = [...table.querySelectorAll("th")], body = table.tBodies[0];
  headers.forEach((header, i) => header.querySelector("button").addEventListener("click", () => {
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of headers) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const value = row => row.cells[i].dataset.value;
    body.append(...[...body.rows].sort((a, b) => compareCells(value(a), value(b), direction)));
  }));
}
