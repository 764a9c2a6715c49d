// Spots that the reader chose by drawing around them: counted, named, kept, saved.
import { button, complain, download, element, fileName, find, tell } from "./elements.js";
import { countByGroup, spotsInside, toCsv } from "./select.js";

/** `page` has `data`, `codes`, `groups`, `names()`, `confidence`, `tissue`, `regroup`, `redraw`. */
export class Selections {
  constructor(page) {
    Object.assign(this, { page, current: null, kept: [] });
    this.panel = find("#selections");
  }

  /** Select what lies inside a shape drawn on a map; the hidden stay out. */
  draw(corners, map) {
    const { codes, shown } = this.page.paint;
    const spots = spotsInside(corners, map.cloud.x, map.cloud.y, (i) => shown[codes[i]] > 0);
    this.choose(spots.length ? { name: this.freeName(), spots } : null);
    tell(spots.length ? `${spots.length} spots selected: ${this.counted(spots)}` : "No spot lies in that shape");
  }

  choose(selection) {
    this.current = selection;
    this.page.markSelected(selection?.spots);
    this.refresh();
  }

  freeName() {
    let number = this.kept.length + 1;
    while (this.kept.some(({ name }) => name === `Selection ${number}`)) number++;
    return `Selection ${number}`;
  }

  counted(spots) {
    const { codes, groups } = this.page;
    return countByGroup(spots, codes)
      .map(([code, n]) => `${groups[code]?.name ?? "none"} ${n.toLocaleString("en-US")}`)
      .join(", ");
  }

  keep(selection) {
    if (!this.kept.includes(selection)) this.kept.push(selection);
    this.refresh();
  }

  /** The kept selections as they are saved, by the names of their spots. */
  async withNames() {
    if (this.kept.length === 0) return [];
    const names = await this.page.names();
    return this.kept.map(({ name, spots }) => ({ name, spots: Array.from(spots, (i) => names[i]) }));
  }

  /** Take over selections from a file of edits. */
  async keepAll(selections) {
    if (selections.length === 0) return;
    const names = await this.page.names();
    const place = new Map(names.map((name, i) => [name, i]));
    const read = selections.map(({ name, spots }) => {
      const at = spots.map((spot) => place.get(spot)).filter((i) => i !== undefined);
      if (at.length === 0) throw new Error(`None of the spots of ${name} is in this report.`);
      return { name, spots: Uint32Array.from(at) };
    });
    this.kept = read;
    this.choose(read.at(-1));
  }

  async save({ name, spots }) {
    const { page } = this;
    const names = await page.names();
    const { x, y } = page.places();
    const rows = [["spot", "selection", "domain", ...(page.confidence ? ["confidence"] : []), "x", "y"]];
    for (const i of spots) {
      const confidence = page.confidence ? [(page.confidence[i] / 255).toFixed(3)] : [];
      rows.push([
        names[i],
        name,
        page.groups[page.codes[i]]?.name ?? "",
        ...confidence,
        x[i].toFixed(1),
        y[i].toFixed(1),
      ]);
    }
    download(fileName(page.data.title, `${name}.csv`), toCsv(rows), "text/csv");
  }

  refresh() {
    const all = [...this.kept, ...(this.current && !this.kept.includes(this.current) ? [this.current] : [])];
    this.panel.hidden = all.length === 0;
    find("ul", this.panel).replaceChildren(...all.map((each) => this.row(each)));
  }

  row(selection) {
    const { name, spots } = selection;
    const field = element("input", { type: "text", value: name, "aria-label": "Name of the selection", maxlength: 80 });
    field.addEventListener("change", () => {
      if (!field.value.trim()) return void (field.value = selection.name);
      selection.name = field.value.trim();
    });
    const kept = this.kept.includes(selection);
    const remove = () => {
      this.kept = this.kept.filter((each) => each !== selection);
      this.choose(this.current === selection ? null : this.current);
    };
    const shown = this.current === selection;
    return element(
      "li",
      {},
      field,
      element("span", {}, `${spots.length.toLocaleString("en-US")} spots: ${this.counted(spots)}`),
      element(
        "span",
        { class: "actions" },
        kept
          ? button(shown ? "Hide" : "Show", () => this.choose(shown ? null : selection), {
              "aria-pressed": String(shown),
            })
          : button("Keep", () => this.keep(selection)),
        button("CSV", () => this.save(selection).catch((error) => complain(error.message)), {
          "aria-label": `Save ${name} as CSV`,
        }),
        button(kept ? "Remove" : "Clear", remove),
      ),
    );
  }
}
