"use strict";
// Without this script the page still shows everything; with it, samples can be put in another order, found and chosen.
(() => {
  const find = (selector) => document.querySelector(selector);
  const body = find(".samples tbody");
  const sheet = find(".sheet");
  const cards = new Map([...sheet.children].map((card) => [card.dataset.row, card]));
  const buttons = [...document.querySelectorAll("button[data-sort]")];
  const order = find("#order");
  const reverse = find("#reverse");

  const value = (row, column, kind) => {
    // A sample that failed has fewer cells: it goes to the end.
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return null;
    if (kind === "text") return cell.textContent.trim();
    return cell.dataset.value ? Number(cell.dataset.value) : null;
  };

  /** Put table and maps in the order of a column (-1: of the sheet), the largest first where `down`. */
  const sort = (column, down) => {
    buttons.forEach((button, i) => {
      if (i === column) button.parentElement.setAttribute("aria-sort", down ? "descending" : "ascending");
      else button.parentElement.removeAttribute("aria-sort");
    });
    const kind = buttons[column]?.dataset.sort;
    const keyed = [...body.rows].map((row) => [
      column < 0 ? Number(row.dataset.row) : value(row, column, kind),
      row,
    ]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const difference = kind === "text" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
      return down ? -difference : difference;
    });
    body.append(...keyed.map(([, row]) => row));
    sheet.append(...keyed.map(([, row]) => cards.get(row.dataset.row)));
    order.value = column;
    reverse.setAttribute("aria-pressed", String(down));
  };

  order.append(new Option("of the sheet", -1), ...buttons.map((button, i) => new Option(button.textContent, i)));
  order.addEventListener("change", () => sort(Number(order.value), false));
  reverse.addEventListener("click", () => sort(Number(order.value), reverse.getAttribute("aria-pressed") === "false"));
  buttons.forEach((button, i) =>
    button.addEventListener("click", () => sort(i, button.parentElement.getAttribute("aria-sort") === "ascending")),
  );

  const words = find("#words");
  const choices = [...document.querySelectorAll("[data-column]")];
  const choose = () => {
    let shown = 0;
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const card = cards.get(row.dataset.row);
      const text = row.textContent.toLowerCase();
      const fits = (choice) =>
        choice.value === "" || row.cells[Number(choice.dataset.column) + 1].textContent === choice.value;
      row.hidden = card.hidden = !(choices.every(fits) && wanted.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    find("#shown").textContent = `${shown} of ${body.rows.length} samples`;
  };
  words.addEventListener("input", choose);
  for (const choice of choices) choice.addEventListener("change", choose);

  find("#size").addEventListener("input", ({ target }) => sheet.style.setProperty("--size", `${target.value}rem`));
  for (const part of document.querySelectorAll(".controls")) part.hidden = false;
})();
