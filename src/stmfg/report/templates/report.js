// The page: it shows everything without this script; with it, the map can be explored.
(async () => {
  const find = (selector) => document.querySelector(selector);
  const data = JSON.parse(find("#map-data").textContent);
  const { domains, genes } = data;

  /** The numbers in a text of base 64, deflated. */
  const unpack = async (text, Kind) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Kind(await new Response(stream).arrayBuffer());
  };
  const cloud = async (packed) => ({
    ...packed,
    x: await unpack(packed.x, Uint16Array),
    y: await unpack(packed.y, Uint16Array),
  });

  // Colours, as the canvas stores them.
  const pixel = (hex, opacity = 255) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return ((opacity << 24) | (b << 16) | (g << 8) | r) >>> 0;
  };
  const table = (colours, opacity) => Uint32Array.from(colours, (c) => pixel(c, opacity));
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const codes = await unpack(data.codes, Uint16Array);
  const confidence = data.confidence && (await unpack(data.confidence, Uint8Array));
  const expression = []; // by gene, unpacked when first asked for
  const shades = [...domains.map((d) => d.colour), data.missing];
  const on = new Uint8Array(domains.length + 1).fill(1); // those without a domain are always shown
  const paint = { codes, shown: on.slice(), values: codes, order: null };
  let colouring = "domain";
  let highlighted = -1;

  // What a map writes, and what the note at a spot says.
  const texts = (map, places) => [
    ...places.filter((_, i) => paint.shown[i] === 1).map(([x, y, text]) => ({ x, y, text })),
    ...map.slices.map(({ name, box }) => ({
      x: box[0],
      y: box[1] - 0.018 * Math.max(map.width, map.height),
      text: name,
      align: "left",
    })),
  ];
  const describe = (i) => {
    const lines = [["Domain", domains[codes[i]]?.name ?? "none"]];
    const [x, y] = [tissue.cloud.x[i], tissue.cloud.y[i]];
    const slice = tissue.cloud.slices.find(({ box }) => x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3]);
    if (slice) lines.push(["Slice", slice.name]);
    if (confidence) lines.push(["Confidence", (confidence[i] / 255).toFixed(2)]);
    const level = (g) => expression[g][i] / 255;
    const chosen = Number(colouring);
    const others = genes.map((_, g) => g).filter((g) => g !== chosen && expression[g]?.[i] > 0);
    others.sort((a, b) => level(b) - level(a));
    const shown = Number.isInteger(chosen) ? [chosen, ...others.slice(0, 2)] : others.slice(0, 3);
    for (const g of shown) lines.push([genes[g].name, (level(g) * genes[g].top).toFixed(1), "gene"]);
    return lines;
  };
  const element = (tag, text = "", kind = "") => {
    const made = document.createElement(tag);
    made.textContent = text;
    made.className = kind;
    return made;
  };
  const look = (i, source) => {
    for (const map of maps) {
      map.tip.hidden = i < 0 || map !== source;
      if (map !== source) map.point(i, true);
    }
    if (i < 0) return;
    const lines = describe(i);
    const list = element("dl");
    for (const [name, value, kind] of lines) list.append(element("dt", name, kind), element("dd", value));
    const heading = element("p", data.names?.[i] ?? "One spot");
    heading.style.setProperty("--swatch", shades[Math.min(codes[i], domains.length)]);
    source.tip.replaceChildren(heading, list);
    source.mark();
    if (document.activeElement === source.canvas) {
      find("#told").textContent = lines.map(([name, value]) => `${name} ${value}`).join(", ");
    }
  };

  const tissue = new SpotMap(find("#tissue-map"), await cloud(data.tissue), data.n, paint, {
    texts: () => texts(data.tissue, data.tissue.names),
    look,
  });
  const maps = [tissue];
  if (data.embedding) {
    maps.push(new SpotMap(find("#embedding-map"), await cloud(data.embedding), data.n, paint, { look }));
  }
  const image = find("#map .still .tissue");
  if (image) tissue.under.src = image.src;

  /** Choose the colours: by "domain", "confidence" or the number of a gene. */
  const recolour = async (by) => {
    colouring = by;
    const byGene = Number.isInteger(Number(by));
    if (byGene) expression[by] ??= await unpack(genes[by].values, Uint8Array);
    if (colouring !== by) return; // another choice was made meanwhile
    const scale = by === "confidence" ? data.ramps.confidence : data.ramps[dark.matches ? "dark" : "light"];
    paint.values = by === "domain" ? codes : byGene ? expression[by] : confidence;
    const colours = by === "domain" ? shades : scale;
    paint.bright = table(colours, 255);
    paint.faint = table(colours, dark.matches ? 38 : 30);
    paint.order = null;
    if (byGene) {
      // The strongest last, on top of the others.
      const next = new Uint32Array(257);
      for (const v of paint.values) next[v + 1]++;
      for (let v = 0; v < 256; v++) next[v + 1] += next[v];
      paint.order = new Uint32Array(data.n);
      for (let i = 0; i < data.n; i++) paint.order[next[paint.values[i]]++] = i;
    }
    find("#colour").value = by;
    const legend = find("#scale");
    legend.hidden = by === "domain";
    legend.querySelector("i").style.backgroundImage = `linear-gradient(to right, ${scale.filter((_, i) => i % 15 === 0).join(", ")})`;
    legend.querySelector("b").textContent = byGene ? genes[by].top.toFixed(1) : "1";
    legend.querySelector("small").textContent = byGene
      ? "log(1 + counts at median depth)"
      : "share of votes for the domain";
    for (const button of document.querySelectorAll("[data-gene] button")) {
      button.setAttribute("aria-pressed", String(button.parentElement.dataset.gene === by));
    }
    redraw();
    const source = maps.find((map) => !map.tip.hidden);
    if (source) look(source.spot, source); // its note tells the chosen gene
  };
  const redraw = () => {
    for (let i = 0; i < on.length; i++) {
      paint.shown[i] = on[i] && highlighted >= 0 && highlighted !== i ? 2 : on[i];
    }
    for (const map of maps) map.request();
  };

  // Domains: buttons hide and show; the one under the pointer stands out.
  const buttons = [...document.querySelectorAll("[data-toggle]")];
  const show = (i, shown) => {
    on[i] = Number(shown);
    buttons[i].setAttribute("aria-pressed", String(shown));
  };
  const highlight = (i) => {
    highlighted = i >= 0 && on[i] ? i : -1;
    redraw();
  };
  buttons.forEach((button, i) => {
    button.disabled = false;
    button.addEventListener("click", () => {
      show(i, !on[i]);
      highlight(-1);
    });
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && highlight(i));
    button.addEventListener("pointerleave", () => highlighted >= 0 && highlight(-1));
  });
  for (const all of document.querySelectorAll("[data-all]")) {
    all.addEventListener("click", () => {
      buttons.forEach((_, i) => show(i, all.dataset.all === "true"));
      highlight(-1);
    });
  }

  // What else can be chosen.
  find("#colour").addEventListener("change", (event) => recolour(event.target.value));
  find("#opacity")?.addEventListener("input", (event) => {
    tissue.canvas.style.opacity = String(event.target.valueAsNumber / 100);
  });
  for (const cell of document.querySelectorAll("[data-gene]")) {
    const button = element("button", cell.textContent);
    button.type = "button";
    button.title = "Show on the map";
    button.addEventListener("click", () => {
      recolour(cell.dataset.gene);
      find("#map").scrollIntoView({ block: "nearest" });
    });
    cell.replaceChildren(button);
  }
  find("#slice")?.addEventListener("change", (event) => {
    const box = data.tissue.slices[Number(event.target.value)]?.box;
    if (!box) return tissue.fit(tissue.whole);
    const margin = 0.035 * Math.max(box[2] - box[0], box[3] - box[1]);
    tissue.fit([box[0] - margin, box[1] - 2 * margin, box[2] + margin, box[3] + margin]);
  });
  dark.addEventListener("change", () => recolour(colouring));

  document.documentElement.classList.add("alive");
  await recolour("domain");
  // The note at a spot tells genes too: they are unpacked once the map is there.
  for (let g = 0; g < genes.length; g++) expression[g] ??= await unpack(genes[g].values, Uint8Array);
  document.documentElement.dataset.ready = "true";
})().catch((error) => console.warn("The map stays a picture:", error));
