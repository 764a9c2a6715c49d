// Several slices: one of them enlarged, and title, counts and names on the map are of that one.
import { element, find, findAll, tell } from "./elements.js";

/** `page` has `data`, `tissue`, `codes`, `groups`, `recount`, `domains`. */
export class Slices {
  constructor(page) {
    this.page = page;
    this.chosen = null;
    const select = find("#slice");
    if (!select) return;
    this.title = element("span", { class: "of-slice", hidden: true });
    find("h1").append(this.title);
    select.addEventListener("change", () => this.choose(Number(select.value)));
    for (const figure of findAll("[data-slice]")) {
      const enlarge = element("button", { type: "button", "aria-pressed": "false" }, ...figure.childNodes);
      enlarge.addEventListener("click", () => {
        select.value = figure.dataset.slice;
        this.choose(Number(select.value));
        find("#map").scrollIntoView({ block: "start" });
      });
      figure.append(enlarge);
    }
  }

  get name() {
    return this.chosen?.name ?? "";
  }

  /** Enlarge a slice, or show all (-1). */
  choose(number) {
    const { page } = this;
    const { tissue } = page;
    this.chosen = page.data.tissue.slices[number] ?? null;
    this.title.hidden = !this.chosen;
    this.title.textContent = `: ${this.name}`;
    for (const figure of findAll("[data-slice]")) {
      const isChosen = Number(figure.dataset.slice) === number;
      figure.classList.toggle("enlarged", isChosen);
      find("button", figure).setAttribute("aria-pressed", String(isChosen));
    }
    page.recount();
    page.markSelected(page.selected, false);
    page.domains.refresh();
    if (!this.chosen) {
      tell("All slices are shown");
      return tissue.fit(tissue.whole);
    }
    tell(`Slice ${this.name} is shown`);
    const { box } = this.chosen;
    const margin = 0.035 * Math.max(box[2] - box[0], box[3] - box[1]);
    tissue.fit([box[0] - margin, box[1] - 2 * margin, box[2] + margin, box[3] + margin]);
  }

  /** Whether a spot is on the slice that is shown. */
  has(i) {
    const { x, y } = this.page.tissue.cloud;
    return this.shows(x[i], y[i]);
  }

  /** Whether a place of the map is on the slice that is shown. */
  shows(x, y) {
    if (!this.chosen) return true;
    const [left, top, right, bottom] = this.chosen.box;
    return x >= left - 1 && x <= right + 1 && y >= top - 1 && y <= bottom + 1;
  }
}
