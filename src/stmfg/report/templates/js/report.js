// The page: it shows everything without this script; with it, the map can be explored and the domains worked on.
import { Domains } from "./domains.js";
import { complain, element, fileName, find, findAll, tell } from "./elements.js";
import { offerToSave, saveButtons } from "./figures.js";
import { Colouring } from "./genes.js";
import { SpotMap } from "./map.js";
import { drawMap } from "./mapfile.js";
import { GeneStore, unpack, unpackJson } from "./pack.js";
import { deepPlaces, makeRaster, outlines, withoutOverlaps } from "./regions.js";
import { Selections } from "./selections.js";
import { Slices } from "./slices.js";

const WIDE = 1400; // pixels of a window that has room for the embedding beside the map

const dark = matchMedia("(prefers-color-scheme: dark)");

/** The text of a group of genes: in the page, or in a file beside it. */
function loadGroup(data, number) {
  const inside = find(`#genes-${number}`);
  if (inside) return inside.textContent;
  return new Promise((done, fail) => {
    const file = `${data.folder}/${String(number).padStart(3, "0")}.js`;
    const script = document.createElement("script");
    const end = (settle, result) => {
      script.remove();
      settle(result);
    };
    window.stmfgGenes = (token, given, text) => {
      if (token !== data.genes.token)
        end(fail, new Error(`${file} belongs to another report: keep each report with its own folder.`));
      else if (given === number) end(done, text);
    };
    script.addEventListener("error", () =>
      end(
        fail,
        new Error(`${file} is not beside this page: keep the folder ${data.folder} with it to see every gene.`),
      ),
    );
    script.src = encodeURI(file);
    document.head.append(script);
  });
}

/** Everything the parts of the page share. */
class Page {
  constructor(data) {
    this.data = data;
    this.n = data.n;
    this.paint = {};
    this.selected = null;
    this.showNames = true;
  }

  async open() {
    const { data } = this;
    const cloud = async (packed) => ({
      ...packed,
      x: await unpack(packed.x, Uint16Array),
      y: await unpack(packed.y, Uint16Array),
    });
    this.leaves = await unpack(data.levels ? data.levels.leaf : data.codes, Uint16Array);
    this.confidence = data.confidence && (await unpack(data.confidence, Uint8Array));
    if (data.genes) {
      const depth = await unpack(data.depth, Uint32Array);
      this.store = await new GeneStore({
        index: data.genes,
        n: data.n,
        depth,
        load: (number) => loadGroup(data, number),
      }).open();
    }
    this.domains = new Domains(this);
    this.selections = new Selections(this);
    this.regroup({ first: true });
    this.colouring = new Colouring(this, dark);
    const shared = {
      look: (i, map) => this.look(i, map),
      isolate: (i) => this.domains.isolate(i < 0 ? -1 : this.codes[i]),
      told: tell,
    };
    this.tissue = new SpotMap(find("#tissue-map"), await cloud(data.tissue), this.paint, {
      ...shared,
      decorate: (context, view) => this.decorate(context, view),
      select: (corners) => this.selections.draw(corners, this.tissue),
    });
    this.maps = [this.tissue];
    if (data.embedding) {
      this.plane = new SpotMap(find("#embedding-map"), await cloud(data.embedding), this.paint, {
        ...shared,
        select: (corners) => this.selections.draw(corners, this.plane),
      });
      this.maps.push(this.plane);
    }
    this.listen();
  }

  /** The names of all spots. */
  names() {
    this.unpackedNames ??= this.data.names
      ? unpackJson(this.data.names)
      : Promise.resolve(Array.from({ length: this.n }, (_, i) => `spot ${i + 1}`));
    return this.unpackedNames.then((names) => (this.spotNames = names));
  }

  /** Where the spots lie, in the units of the input, or null where slices were laid side by side. */
  places() {
    const { origin, step } = this.data.tissue;
    if (!origin) return null;
    const { x, y } = this.tissue.cloud;
    return { x: Array.from(x, (v) => v * step + origin[0]), y: Array.from(y, (v) => v * step + origin[1]) };
  }

  /** Give every spot its group after a change of level or of an edit. */
  regroup({ first = false } = {}) {
    const { of, groups } = this.domains.groups();
    this.groups = groups;
    const none = groups.length;
    this.codes = Uint16Array.from(this.leaves, (leaf) => of[leaf] ?? none);
    this.recount();
    this.raster = this.deep = this.paths = null;
    this.markSelected(this.selected, false);
    if (!first) {
      this.domains.refresh();
      this.selections.refresh();
      this.colouring.apply();
    }
  }

  /** Count the spots of every group, on the slice that is shown. */
  recount() {
    this.counts = new Uint32Array(this.groups.length + 1);
    this.codes.forEach((code, i) => {
      if (this.slices?.has(i) ?? true) this.counts[code]++;
    });
  }

  /** Make all but some spots faint. Those are groups of their own to the painter, after the others. */
  markSelected(spots, draw = true) {
    const n = this.groups.length + 1;
    this.selected = spots ?? null;
    this.paint.codes = this.codes;
    if (spots) {
      this.paint.codes = this.codes.map((code) => code + n);
      for (const i of spots) this.paint.codes[i] -= n;
    }
    if (this.slices?.chosen) this.paint.codes = this.paint.codes.map((code, i) => (this.slices.has(i) ? code : 2 * n));
    if (draw) this.redraw();
  }

  redraw() {
    const n = this.groups.length + 1;
    const shown = Array.from({ length: n }, (_, i) => this.domains.state(i));
    this.paint.shown = Uint8Array.from([...shown, ...shown.map((state) => (state ? 2 : 0)), 0]); // the last: of another slice
    for (const map of this.maps ?? []) map.request();
  }

  /** The domains as areas, computed when first asked for. */
  areas() {
    if (!this.raster) {
      const { cloud, grid } = this.tissue;
      this.raster = makeRaster(cloud, grid, this.codes, this.groups.length);
    }
    return this.raster;
  }

  /** Where the domains are named, `[x, y, group]` in steps of the map: on every slice that has them. */
  deepest() {
    const { tissue, domains } = this.data;
    if (this.domains.anchored && this.groups.length === domains.length) return tissue.names;
    const boxes = tissue.slices.length ? tissue.slices.map(({ box }) => box) : [this.tissue.whole];
    this.deep ??= deepPlaces(this.areas(), this.groups.length, boxes);
    return this.deep;
  }

  /** What is written on the map: `[x, y, text, align]` in pixels. */
  labels() {
    const { tissue } = this.data;
    const { view, width } = this.tissue;
    const { k, tx, ty } = view;
    const shorten = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
    const shown = this.slices?.chosen ? [this.slices.chosen] : tissue.slices;
    const above = 0.018 * Math.max(tissue.width, tissue.height);
    const slices = shown.map(({ name, box }) => [
      box[0] * k + tx,
      (box[1] - above) * k + ty,
      shorten(name, Math.max(3, Math.floor(((box[2] - box[0]) * k) / 7.6))),
      "left",
    ]);
    const places = this.showNames ? this.deepest() : [];
    const names = places
      .filter(([x, y, i]) => this.domains.state(i) === 1 && (this.slices?.shows(x, y) ?? true))
      .map(([x, y, i]) => {
        const text = shorten(this.groups[i].name, 16);
        const half = 3.8 * text.length + 4;
        const middle = x * k + tx;
        // a name at the border stays whole
        return [
          middle > 0 && middle < width ? Math.max(Math.min(middle, width - half), half) : middle,
          y * k + ty,
          text,
        ];
      });
    return withoutOverlaps([...slices, ...names]);
  }

  /** Outlines of the shown domains: `[Path2D, colour, loops]`. */
  outlined() {
    if (!find("#outlines").checked) return [];
    this.paths ??= outlines(this.areas(), this.groups.length).map((loops) => {
      const path = new Path2D();
      for (const loop of loops) {
        loop.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
        path.closePath();
      }
      return [path, loops];
    });
    return this.paths
      .map(([path, loops], i) => [path, this.groups[i].colour, loops])
      .filter((_, i) => this.domains.state(i) > 0);
  }

  /** Draw outlines and names over the spots. */
  decorate(context, { k, tx, ty }) {
    for (const [path, colour] of this.outlined()) {
      context.save();
      context.transform(k, 0, 0, k, tx, ty);
      context.clip(path);
      for (const [shade, pixels] of [
        ["#ffffff", 7],
        [colour, 4.5],
      ]) {
        Object.assign(context, { strokeStyle: shade, lineWidth: pixels / k, lineJoin: "round" });
        context.stroke(path);
      }
      context.restore();
    }
    Object.assign(context, {
      font: "600 13px system-ui, sans-serif",
      textBaseline: "middle",
      lineJoin: "round",
      lineWidth: 3.5,
    });
    for (const [x, y, text, align] of this.labels()) {
      context.textAlign = align ?? "center";
      const onPaper = align && dark.matches && !this.tissue.under.src; // a slice's name stands beside its spots
      context.strokeStyle = onPaper ? "rgb(20 23 27 / 90%)" : "rgb(255 255 255 / 90%)";
      context.fillStyle = onPaper ? "#e7eaee" : "#14171b";
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    }
  }

  /** What the note at a spot says: `[name, value, kind]`. */
  describe(i) {
    const lines = [["Domain", this.groups[this.codes[i]]?.name ?? "none"]];
    const [x, y] = [this.tissue.cloud.x[i], this.tissue.cloud.y[i]];
    const slice = this.tissue.cloud.slices.find(({ box }) => x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3]);
    if (slice) lines.push(["Slice", slice.name]);
    if (this.confidence) lines.push(["Confidence", (this.confidence[i] / 255).toFixed(2)]);
    const { by, first, second } = this.colouring;
    const chosen = by === "gene" ? [first, second].filter((gene) => gene >= 0) : [];
    const level = (gene) => this.told?.[gene]?.[i] ?? 0;
    const others = (this.told ?? []).map((_, gene) => gene).filter((gene) => !chosen.includes(gene) && level(gene) > 0);
    others.sort((a, b) => level(b) / this.tops[b] - level(a) / this.tops[a]);
    const value = (gene) => Math.log1p((this.store.kept.get(gene)?.[i] ?? 0) * this.store.scale[i]).toFixed(1);
    for (const gene of [...chosen, ...others.slice(0, 3 - chosen.length)])
      lines.push([this.store.names[gene], value(gene), "gene"]);
    return lines;
  }

  look(i, source) {
    for (const map of this.maps) {
      map.tip.hidden = i < 0 || map !== source;
      if (map !== source) map.point(i, true);
    }
    if (i < 0) return;
    const lines = this.describe(i);
    const list = element(
      "dl",
      {},
      ...lines.flatMap(([name, value, kind]) => [element("dt", { class: kind }, name), element("dd", {}, value)]),
    );
    const heading = element("p", {}, this.spotNames?.[i] ?? "One spot");
    heading.style.setProperty("--swatch", this.groups[this.codes[i]]?.colour ?? this.data.missing);
    source.tip.replaceChildren(heading, list);
    source.mark();
    if (document.activeElement === source.canvas) tell(lines.map(([name, value]) => `${name} ${value}`).join(", "));
  }

  /** Write the note at a spot anew, after what it tells has changed. */
  lookAgain() {
    const source = this.maps.find((map) => !map.tip.hidden);
    if (source) this.look(source.spot, source);
  }

  listen() {
    const image = find("#map .still .tissue");
    if (image) this.tissue.under.src = image.src;
    find("#opacity")?.addEventListener("input", ({ target }) => {
      this.tissue.opacity = target.valueAsNumber / 100;
      this.tissue.request();
    });
    find("#outlines").addEventListener("change", () => this.redraw());
    find("#names").addEventListener("change", ({ target }) => {
      this.showNames = target.checked;
      this.redraw();
    });
    this.slices = new Slices(this);
    find("#beside")?.addEventListener("change", ({ target }) =>
      find("#map").classList.toggle("with-plane", target.checked),
    );
    const name = fileName(this.data.title, "map");
    find("#map .maps").after(saveButtons(name, () => this.drawFile()));
    offerToSave(this.data.title);
  }

  /** The map as it is seen, as SVG. */
  drawFile() {
    const { view, width, height } = this.tissue;
    const at = ([x, y]) => [x * view.k + view.tx, y * view.k + view.ty];
    const path = (loops) =>
      loops
        .map(
          (loop) =>
            `M${loop
              .map((place) =>
                at(place)
                  .map((v) => v.toFixed(1))
                  .join(","),
              )
              .join("L")}Z`,
        )
        .join("");
    const scale = this.colouring.scale();
    const shown = this.colouring.names().join(" and ") || (scale ? "Confidence" : "");
    const inside = (place) => place[0] > 0 && place[1] > 0 && place[0] < width && place[1] < height;
    return drawMap({
      map: this.tissue,
      groups: this.groups.filter((_, i) => this.domains.state(i) > 0),
      scale: scale && { ...scale, title: shown },
      title: [this.data.title, this.slices.name, shown].filter(Boolean).join(", "),
      paths: this.outlined().map(([, colour, loops]) => [path(loops), colour]),
      labels: this.labels().filter(inside),
      image: { address: this.tissue.under.src, spots: this.tissue.opacity },
      dark: dark.matches,
    });
  }
}

async function start() {
  const page = new Page(JSON.parse(find("#map-data").textContent));
  await page.open();
  document.documentElement.classList.add("alive");
  if (window.innerWidth >= WIDE) find("#beside")?.click();
  page.domains.refresh();
  await page.colouring.apply();
  for (const made of findAll("[disabled].waiting")) made.disabled = false;
  document.documentElement.dataset.drawn = Math.round(performance.now());
  // The note at a spot tells genes too: they are unpacked once the map is there.
  await page.names();
  await page.selections.keepAll(page.data.selections).catch((error) => complain(error.message));
  if (page.store) {
    const told = [];
    for (let gene = 0; gene < page.data.genes.markers; gene++) told.push(await page.store.counts(gene));
    page.tops = told.map((counts) => counts.reduce((top, c, i) => Math.max(top, c * page.store.scale[i]), 1e-9));
    page.told = told.map((counts) => counts.map((c, i) => c * page.store.scale[i]));
  }
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => {
  complain("");
  console.warn("The map stays a picture:", error);
});
