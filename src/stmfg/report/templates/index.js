// Without this script the page still shows everything; with it, samples can be put in another order, found and chosen.

/** Rows `[key, ...]` by their keys, those without one (null) last; words with numbers in them as a reader would. */
export function sortRows(rows, kind, down) {
  return [...rows].sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const difference = kind === "text" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
    return down ? -difference : difference;
  });
}

/** Whether a text has all the words that were typed, in any order and case. */
export function hasWords(text, typed) {
  const lower = text.toLowerCase();
  return typed
    .toLowerCase()
    .split(/\s+/)
    .every((word) => lower.includes(word));
}

/** The table of samples and the sheet of their maps, which have the same order and show the same samples. */
class Samples {
  constructor() {
    this.body = this.find(".samples tbody");
    this.sheet = this.find(".sheet");
    this.cards = new Map([...this.sheet.children].map((card) => [card.dataset.row, card]));
    this.buttons = [...document.querySelectorAll("button[data-sort]")];
    this.choices = [...document.querySelectorAll("[data-column]")];
    this.listen();
    for (const part of document.querySelectorAll(".controls")) part.hidden = false;
  }

  find(selector) {
    return document.querySelector(selector);
  }

  /** What a row is sorted by: the number or text in a column, or its place in the sheet (-1). */
  key(row, column) {
    if (column < 0) return Number(row.dataset.row);
    // A sample that failed has fewer cells: it goes to the end.
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return null;
    if (this.buttons[column].dataset.sort === "text") return cell.textContent.trim();
    return cell.dataset.value ? Number(cell.dataset.value) : null;
  }

  /** Put table and maps in the order of a column, the largest first where `down`. */
  sort(column, down) {
    this.buttons.forEach((button, i) => {
      if (i === column) button.parentElement.setAttribute("aria-sort", down ? "descending" : "ascending");
      else button.parentElement.removeAttribute("aria-sort");
    });
    const keyed = [...this.body.rows].map((row) => [this.key(row, column), row]);
    const rows = sortRows(keyed, this.buttons[column]?.dataset.sort, down).map(([, row]) => row);
    this.body.append(...rows);
    this.sheet.append(...rows.map((row) => this.cards.get(row.dataset.row)));
    this.find("#order").value = column;
    this.find("#reverse").setAttribute("aria-pressed", String(down));
  }

  choose() {
    const typed = this.find("#words").value.trim();
    const fits = (row) =>
      this.choices.every(
        ({ value, dataset }) => value === "" || row.cells[Number(dataset.column) + 1].textContent === value,
      );
    let shown = 0;
    for (const row of this.body.rows) {
      row.hidden = this.cards.get(row.dataset.row).hidden = !(fits(row) && hasWords(row.textContent, typed));
      shown += !row.hidden;
    }
    this.find("#shown").textContent = `${shown} of ${this.body.rows.length} samples`;
  }

  listen() {
    const order = this.find("#order");
    const reverse = this.find("#reverse");
    order.append(new Option("of the sheet", -1), ...this.buttons.map((button, i) => new Option(button.textContent, i)));
    order.addEventListener("change", () => this.sort(Number(order.value), false));
    reverse.addEventListener("click", () =>
      this.sort(Number(order.value), reverse.getAttribute("aria-pressed") === "false"),
    );
    this.buttons.forEach((button, i) =>
      button.addEventListener("click", () =>
        this.sort(i, button.parentElement.getAttribute("aria-sort") === "ascending"),
      ),
    );
    this.find("#words").addEventListener("input", () => this.choose());
    for (const choice of this.choices) choice.addEventListener("change", () => this.choose());
    this.find("#size").addEventListener("input", ({ target }) =>
      this.sheet.style.setProperty("--size", `${target.value}rem`),
    );
  }
}

new Samples();
