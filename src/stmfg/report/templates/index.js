"use strict";
// Without this script the page still shows everything; with it, samples can be sorted and chosen by condition.
(() => {
  const body = document.querySelector(".samples tbody");
  const value = (row, column, kind) => {
    // A sample that failed has fewer cells: it goes to the end.
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return null;
    if (kind === "text") return cell.textContent.trim();
    return cell.dataset.value ? Number(cell.dataset.value) : null;
  };

  for (const button of document.querySelectorAll("button[data-sort]")) {
    button.addEventListener("click", () => {
      const heading = button.parentElement;
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const kind = button.dataset.sort;
      const keyed = [...body.rows].map((row) => [value(row, heading.cellIndex, kind), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = kind === "text" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
        return down ? -order : order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  }

  const choice = document.querySelector("#condition");
  choice?.addEventListener("change", () => {
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = choice.value !== "" && row.dataset.condition !== choice.value;
      shown += !row.hidden;
    }
    document.querySelector("#shown").textContent = `${shown} of ${body.rows.length} samples`;
  });

  for (const part of document.querySelectorAll(".controls")) part.hidden = false;
})();
