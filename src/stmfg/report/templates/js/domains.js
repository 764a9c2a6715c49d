// The list of domains: hide and show, choose a level, rename, merge, recolour, save all that.
import { button, complain, download, element, fileName, find, findAll, tell } from "./elements.js";
import { NO_EDITS, fromFile, makeGroups, merge, nameProblem, toFile, unmerge } from "./groups.js";

const withCommas = (count) => count.toLocaleString("en-US");

/** `page` has `data`, `codes`, `groups`, `regroup`, `redraw`, `selections`. */
export class Domains {
  constructor(page) {
    const { data } = page;
    this.page = page;
    this.edits = NO_EDITS;
    this.past = []; // edits before each change
    this.on = new Map(); // by the key of a group, whether it is shown
    this.editing = false;
    this.ticked = new Set();
    this.colours = {
      ...data.levels?.colours,
      ...Object.fromEntries(data.domains.map(({ name, colour }) => [name, colour])),
    };
    this.levels = data.levels;
    this.level = this.levels ? this.levels.anchor : 0;
    this.listen();
  }

  /** The name of each leaf at a level, given by its number of domains; at the one shown by default. */
  labelsAt(number = null) {
    if (!this.levels) return this.page.data.domains.map(({ name }) => name);
    const at = number === null ? this.level : this.levels.numbers.indexOf(number);
    if (at < 0) throw new Error(`This report has no level of ${number} domains.`);
    return this.levels.names.map((names) => names[at]);
  }

  /** The groups to show, as `makeGroups` gives them. */
  groups() {
    return makeGroups(this.labelsAt(), this.colours, this.edits);
  }

  get anchored() {
    return !this.levels || this.level === this.levels.anchor;
  }

  change(edits, keep = true) {
    if (keep) this.past.push(this.edits);
    this.edits = edits;
    this.ticked.clear();
    this.page.regroup();
  }

  isShown(group) {
    return this.on.get(group.key) ?? true;
  }

  showOnly(group) {
    for (const each of this.page.groups) this.on.set(each.key, !group || each === group);
    this.refresh();
    tell(group ? `Only domain ${group.name} is shown` : "All domains are shown");
  }

  /** Show one domain alone, or all again where it already is. */
  isolate(code) {
    const group = this.page.groups[code];
    const alone = group && this.page.groups.every((each) => this.isShown(each) === (each === group));
    this.showOnly(alone ? null : group);
  }

  listen() {
    for (const all of findAll("[data-all]")) {
      all.addEventListener("click", () => {
        for (const group of this.page.groups) this.on.set(group.key, all.dataset.all === "true");
        this.refresh();
      });
    }
    const slider = find("#level");
    if (this.levels) {
      Object.assign(slider, { max: this.levels.numbers.length - 1, value: this.level });
      slider.addEventListener("input", () => {
        this.level = slider.valueAsNumber;
        this.page.regroup();
      });
    }
    find("#edit").addEventListener("click", () => {
      this.editing = !this.editing;
      this.ticked.clear();
      this.refresh();
      if (this.editing) find(".legend input")?.focus();
    });
    find("#merge").addEventListener("click", () => {
      const joined = this.page.groups.filter(({ key }) => this.ticked.has(key));
      if (joined.length < 2) return complain("Tick two domains or more, then merge them.");
      complain("");
      this.change(merge(this.edits, joined));
    });
    find("#undo").addEventListener("click", () => this.past.length && this.change(this.past.pop(), false));
    const shades = find("#image-colours");
    shades.addEventListener("click", () => {
      const colors = Object.fromEntries(
        this.page.groups.map(({ key }, i) => [
          key,
          this.page.data.tissue_colours[i % this.page.data.tissue_colours.length],
        ]),
      );
      this.change({ ...this.edits, colors: { ...this.edits.colors, ...colors } });
    });
    find("#save-edits").addEventListener("click", () => this.save());
    find("#load-edits").addEventListener("change", async ({ target }) => {
      const [file] = target.files;
      if (file) await this.load(await file.text());
      target.value = "";
    });
  }

  async save() {
    const { page } = this;
    const level = this.anchored ? null : this.levels.numbers[this.level];
    const file = toFile(this.edits, page.groups, await page.selections.withNames(), level);
    download(fileName(page.data.title, "edits.json"), `${JSON.stringify(file, null, 1)}\n`, "application/json");
    tell("Edits saved");
  }

  async load(text) {
    try {
      const { edits, selections, level } = fromFile(text, (number) => this.labelsAt(number));
      await this.page.selections.keepAll(selections);
      if (this.levels) {
        this.level = level === null ? this.levels.anchor : this.levels.numbers.indexOf(level);
        find("#level").value = this.level;
      }
      complain("");
      this.change(edits);
      tell("Edits loaded");
    } catch (error) {
      complain(error.message);
    }
  }

  /** Show the list anew, and the maps with what is hidden in it. */
  refresh() {
    const { page, editing } = this;
    find(".legend").replaceChildren(
      ...page.groups.map((group, i) => element("li", {}, ...(editing ? this.row(group, i) : [this.entry(group, i)]))),
    );
    find("#edit").setAttribute("aria-pressed", String(editing));
    find("#edit-tools").hidden = !editing;
    find("#undo").disabled = this.past.length === 0;
    if (this.levels) {
      const number = this.levels.numbers[this.level];
      const support = this.levels.support?.[this.level];
      const sure = Number.isFinite(support) ? `, ${support.toFixed(2)} reproducible` : "";
      find("#level-note").textContent = `${number} domains${this.anchored ? ", as found" : sure}`;
      find("#level").setAttribute("aria-valuetext", `${number} domains`);
    }
    const edited = page.groups.some(({ key, name, members }) => members.length > 1 || name !== key) || !this.anchored;
    find("#made-before").hidden = !edited;
    this.renameElsewhere();
    this.highlight(-1);
  }

  entry(group, i) {
    const swatch = element("span", { class: "swatch", style: `background:${group.colour}` });
    const count = element("small", {}, withCommas(this.page.counts[i]));
    const toggle = button("", () => {
      this.on.set(group.key, !this.isShown(group));
      toggle.setAttribute("aria-pressed", String(this.isShown(group)));
      this.highlight(-1);
    }, { "data-toggle": i, "aria-pressed": String(this.isShown(group)) }); // prettier-ignore
    toggle.append(swatch, element("span", { class: "name" }, group.name), count);
    toggle.addEventListener("dblclick", () => this.showOnly(group));
    toggle.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.highlight(i));
    toggle.addEventListener("pointerleave", () => this.highlighted >= 0 && this.highlight(-1));
    return toggle;
  }

  row(group, i) {
    const tick = element("input", {
      type: "checkbox",
      "aria-label": `Merge ${group.name}`,
      checked: this.ticked.has(group.key),
    });
    tick.addEventListener("change", () => this.ticked[tick.checked ? "add" : "delete"](group.key));
    const colour = element("input", { type: "color", value: group.colour, "aria-label": `Colour of ${group.name}` });
    colour.addEventListener("change", () =>
      this.change({ ...this.edits, colors: { ...this.edits.colors, [group.key]: colour.value } }),
    );
    const name = element("input", {
      type: "text",
      value: group.name,
      "aria-label": `Name of domain ${group.key}`,
      maxlength: 80,
    });
    name.addEventListener("change", () => {
      const problem = nameProblem(name.value, group, this.page.groups);
      complain(problem);
      if (problem) name.value = group.name;
      else this.change({ ...this.edits, rename: { ...this.edits.rename, [group.key]: name.value.trim() } });
    });
    const parts =
      group.members.length > 1
        ? [
            button("Split", () => this.change(unmerge(this.edits, group)), {
              title: `Split into ${group.members.join(", ")} again`,
            }),
          ]
        : [];
    return [tick, colour, name, ...parts, element("small", {}, withCommas(this.page.counts[i]))];
  }

  /** New names and colours in the sections below, where the domain is still one of those. */
  renameElsewhere() {
    if (!this.anchored) return;
    const root = document.documentElement.style;
    this.page.data.domains.forEach(({ name }, i) => {
      const group = this.page.groups.find(({ members }) => members.includes(name));
      root.setProperty(`--domain-${i}`, group.colour);
      const text = group.members.length > 1 ? `${name} (${group.name})` : group.name;
      for (const place of findAll(`main [data-domain="${i}"]`)) place.textContent = (place.dataset.before ?? "") + text;
    });
  }

  /** Make one domain stand out, or none (-1). */
  highlight(i) {
    const { page } = this;
    this.highlighted = i >= 0 && this.isShown(page.groups[i]) ? i : -1;
    page.redraw();
  }

  /** Whether a group is hidden (0), shown (1) or faint (2). */
  state(i) {
    const group = this.page.groups[i];
    if (!group) return 1; // spots without a domain
    if (!this.isShown(group)) return 0;
    return this.highlighted >= 0 && this.highlighted !== i ? 2 : 1;
  }
}
