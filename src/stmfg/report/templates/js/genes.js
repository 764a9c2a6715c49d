// What colours the map: the domain, the confidence, a gene, two genes, a set of genes.
import { blendSteps, blendTable, byStrength, limits, table, toSteps } from "./colours.js";
import { button, complain, element, find, findAll } from "./elements.js";

const BLEND = {
  light: ["#e4e7eb", "#c2007a", "#00803c", "#1a1030"],
  dark: ["#2c333b", "#ff5fc4", "#3ddc84", "#ffffff"],
};

/** Split pasted names of genes into those that are there and those that are not. */
export function readNames(text, findGene) {
  const names = [...new Set(text.split(/[\s,;]+/).filter(Boolean))];
  const genes = [];
  const absent = [];
  for (const name of names) {
    const gene = findGene(name);
    if (gene >= 0) genes.push(gene);
    else absent.push(name);
  }
  return { genes: [...new Set(genes)], absent };
}

/** A field that completes the names of genes; `choose` gets the gene, or -1 when the field is emptied. */
function completing(input, list, store, choose) {
  let matches = [];
  let active = -1;
  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const take = (gene) => {
    input.value = store.names[gene];
    close();
    choose(gene);
  };
  const mark = (next) => {
    active = matches.length ? (next + matches.length) % matches.length : -1;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === active)));
    if (active < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", list.children[active].id);
    list.children[active].scrollIntoView({ block: "nearest" });
  };
  const open = () => {
    matches = store.search(input.value);
    list.replaceChildren(
      ...matches.map((gene, i) => {
        const item = element("li", { role: "option", id: `${list.id}-${i}` }, store.names[gene]);
        item.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
        item.addEventListener("click", () => take(gene));
        return item;
      }),
    );
    if (matches.length === 0) list.append(element("li", { class: "none" }, "No gene on this page has that name."));
    list.hidden = !input.value.trim();
    input.setAttribute("aria-expanded", String(!list.hidden));
    mark(0);
  };
  input.addEventListener("input", () => (input.value.trim() ? open() : (close(), choose(-1))));
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const keys = {
      ArrowDown: () => (list.hidden ? open() : mark(active + 1)),
      ArrowUp: () => mark(active - 1),
      Enter: () => active >= 0 && !list.hidden && take(matches[active]),
      Escape: close,
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
}

/** The part of the page that says what colours the map. `page` has `data`, `paint`, `groups`, `store` and `redraw`. */
export class Colouring {
  constructor(page, dark) {
    Object.assign(this, { page, dark, by: "domain", first: -1, second: -1, set: [], low: 0, high: 99.5, log: true });
    this.select = find("#colour");
    this.select.addEventListener("change", () => this.show(this.select.value));
    dark.addEventListener("change", () => this.apply());
    if (page.store) this.listenForGenes();
  }

  /** Colour by "domain", "confidence", "set", or the number of a gene. */
  show(by) {
    complain("");
    if (Number.isInteger(Number(by))) {
      this.by = "gene";
      this.first = Number(by);
    } else this.by = by;
    return this.apply();
  }

  listenForGenes() {
    const { store } = this.page;
    const field = (id) => [find(`#${id}`), find(`#${id}-list`), store];
    completing(...field("gene"), (gene) => this.show(gene < 0 ? "domain" : gene));
    completing(...field("other-gene"), (gene) => {
      this.second = gene;
      if (this.by !== "gene") this.by = this.first >= 0 && gene >= 0 ? "gene" : this.by;
      this.apply();
    });
    for (const [id, name] of [
      ["low", "low"],
      ["high", "high"],
    ]) {
      find(`#${id}`).addEventListener("change", ({ target }) => {
        this[name] = Math.min(Math.max(target.valueAsNumber || 0, 0), 100);
        target.value = this[name];
        this.apply();
      });
    }
    find("#log").addEventListener("change", ({ target }) => {
      this.log = target.checked;
      this.apply();
    });
    find("#gene-set-show").addEventListener("click", () => {
      const { genes, absent } = readNames(find("#gene-set").value, (name) => store.find(name));
      const missing = absent.length
        ? ` Not on this page: ${absent.slice(0, 20).join(", ")}${absent.length > 20 ? ", …" : ""}.`
        : "";
      find("#gene-set-note").textContent = `${genes.length} of ${genes.length + absent.length} genes.${missing}`;
      if (genes.length === 0) return;
      this.set = genes;
      this.show("set");
    });
    for (const cell of findAll("[data-gene]")) {
      const name = cell.textContent;
      const gene = store.names.indexOf(name);
      if (gene < 0) continue;
      cell.dataset.gene = gene;
      const show = () => {
        this.show(gene);
        find("#map").scrollIntoView({ block: "nearest" });
      };
      cell.replaceChildren(button(name, show, { title: "Show on the map" }));
    }
  }

  /** The names of what is shown: none for domains. */
  names() {
    const { store } = this.page;
    if (this.by === "set") return [`Mean of ${this.set.length} genes`];
    if (this.by !== "gene") return [];
    return (this.second >= 0 ? [this.first, this.second] : [this.first]).map((gene) => store.names[gene]);
  }

  async apply() {
    const wanted = JSON.stringify([this.by, this.first, this.second, this.set, this.low, this.high, this.log]);
    this.wanted = wanted;
    const { page, dark } = this;
    const { paint, data, store } = page;
    const theme = dark.matches ? "dark" : "light";
    let colours = [...page.groups.map((group) => group.colour), data.missing];
    let [values, order, range] = [page.codes, null, null];
    try {
      if (this.by === "confidence") {
        [values, colours] = [page.confidence, data.ramps[`confidence_${theme}`]];
      } else if (this.by !== "domain") {
        const genes =
          this.by === "set" ? [this.set] : this.second >= 0 ? [[this.first], [this.second]] : [[this.first]];
        find("#tissue-map").setAttribute("aria-busy", "true");
        const shown = await Promise.all(
          genes.map((each) => (each.length > 1 ? store.mean(each, this.log) : store.values(each[0], this.log))),
        );
        const ranged = shown.map((each) => ({ values: each, range: limits(each, this.low, this.high) }));
        range = ranged.map((each) => each.range);
        if (ranged.length === 2) {
          values = blendSteps(...ranged);
          order = byStrength(values.map((v) => 8 * ((v >> 4) + (v & 15))));
          colours = blendTable(BLEND[theme]);
        } else {
          values = toSteps(shown[0], range[0]);
          order = byStrength(values);
          colours = data.ramps[theme];
        }
      }
    } catch (error) {
      if (this.wanted === wanted) complain(error.message);
      return;
    } finally {
      if (this.wanted === wanted) find("#tissue-map").removeAttribute("aria-busy");
    }
    if (this.wanted !== wanted) return; // another choice was made meanwhile
    Object.assign(paint, { values, order, bright: table(colours), faint: table(colours, dark.matches ? 38 : 30) });
    this.colours = colours;
    this.range = range;
    this.showControls(theme);
    page.redraw();
    page.lookAgain();
  }

  showControls(theme) {
    const { store } = this.page;
    const value = this.by === "gene" ? String(this.first) : this.by;
    if (![...this.select.options].some((option) => option.value === value)) {
      const name = this.by === "set" ? "Gene set" : store.names[this.first];
      this.searched ??= this.select.appendChild(element("optgroup", { label: "Searched" }));
      this.searched.prepend(element("option", { value }, name));
      if (this.searched.children.length > 12) this.searched.lastChild.remove();
    }
    this.select.value = value;
    if (store) {
      find("#gene").value = this.by === "gene" ? store.names[this.first] : "";
      find("#with-other").hidden = this.by !== "gene";
      find("#limits").hidden = !this.range;
    }
    this.showScale(theme);
    for (const made of findAll("[data-gene] button")) {
      made.setAttribute("aria-pressed", String(this.by === "gene" && made.parentElement.dataset.gene === value));
    }
  }

  /** What the colours mean: `{ low, high, text, colours }` of a ramp, or `{ names, corners }` of two genes. */
  scale() {
    if (this.by === "domain") return null;
    if (this.by === "confidence") {
      return { low: "0", high: "1", text: this.page.data.certainty, colours: this.colours };
    }
    const [low, high] = this.range[0].map((v) => v.toPrecision(2).replace(/\.0+$/, ""));
    const unit = this.log ? "log(1 + counts at median depth)" : "counts at median depth";
    const names = this.names();
    if (names.length === 2) return { names, unit, corners: [0, 240, 15, 255].map((at) => this.colours[at]) };
    return { low: low === "0" ? "0" : `≤ ${low}`, high: `≥ ${high}`, text: unit, colours: this.colours };
  }

  showScale() {
    const scale = this.scale();
    const legend = find("#scale");
    legend.hidden = !scale;
    if (!scale) return legend.replaceChildren();
    if (scale.names) {
      const [neither, first, second, both] = scale.corners;
      const swatch = (colour, text) =>
        element("span", {}, element("i", { class: "swatch", style: `background:${colour}` }), ` ${text}`);
      const rows = [
        [first, scale.names[0]],
        [second, scale.names[1]],
        [both, "both"],
        [neither, "neither"],
      ];
      return legend.replaceChildren(
        ...rows.map(([colour, text]) => swatch(colour, text)),
        element("small", {}, scale.unit),
      );
    }
    const ramp = element("i");
    ramp.style.backgroundImage = `linear-gradient(to right, ${scale.colours.filter((_, i) => i % 15 === 0).join(", ")})`;
    legend.replaceChildren(
      element("span", {}, scale.low),
      ramp,
      element("b", {}, scale.high),
      element("small", {}, scale.text),
    );
  }
}
