// Figures and tables as files: what stands on the page, as SVG with real text and shapes, as PNG, as CSV.
import { button, complain, download, element, fileName, find, findAll } from "./elements.js";
import { toCsv } from "./select.js";

const NAMESPACE = "http://www.w3.org/2000/svg";

export const escapeXml = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const round = (v) => Math.round(v * 100) / 100;

/** A colour as other programs read it: browsers write mixed ones as "color(srgb 0.1 0.2 0.3)". */
export function plainColour(text) {
  const mixed = /color\(srgb ([\d.e-]+) ([\d.e-]+) ([\d.e-]+)(?: \/ ([\d.e-]+))?\)/.exec(text);
  const parts = mixed
    ? mixed.slice(1, 4).map((v) => 255 * Number(v))
    : (/rgba?\(([^)]*)\)/.exec(text)?.[1].split(/[,/\s]+/) ?? []).map(Number);
  if (parts.length < 3) return null;
  const opacity = mixed ? Number(mixed[4] ?? 1) : (parts[3] ?? 1);
  return opacity === 0 ? null : { colour: `rgb(${parts.slice(0, 3).map(Math.round).join(",")})`, opacity };
}

const fill = (shade) => `fill="${shade.colour}"${shade.opacity < 1 ? ` fill-opacity="${shade.opacity}"` : ""}`;

/** The background, borders and inner shadows of an element. */
function drawBox(style, box, ids) {
  const parts = [];
  const [x, y, w, h] = [box.left, box.top, box.width, box.height].map(round);
  const corner = Math.min(parseFloat(style.borderTopLeftRadius) || 0, 1e4);
  const radius = style.borderTopLeftRadius.endsWith("%") ? Math.min(w, h) / 2 : Math.min(corner, w / 2, h / 2);
  const rect = (more) =>
    parts.push(`<rect x="${x}" y="${y}" width="${w}" height="${h}" rx="${round(radius)}" ${more}/>`);
  const ground = plainColour(style.backgroundColor);
  if (ground) rect(fill(ground));
  const ramps = style.backgroundImage.match(/linear-gradient/g) ?? []; // more than one are the shades of a wide table
  const stops = ramps.length === 1 ? style.backgroundImage.match(/(rgba?|color)\([^)]*\)/g) : null;
  if (stops) {
    const id = `ramp-${ids.next++}`;
    const marks = stops.map(
      (stop, i) =>
        `<stop offset="${round(i / (stops.length - 1))}" stop-color="${plainColour(stop)?.colour ?? "none"}"/>`,
    );
    parts.push(`<linearGradient id="${id}">${marks.join("")}</linearGradient>`);
    rect(`fill="url(#${id})"`);
  }
  const sides = ["Top", "Right", "Bottom", "Left"].map((side) => [
    parseFloat(style[`border${side}Width`]),
    plainColour(style[`border${side}Color`]),
  ]);
  if (sides.every(([width, shade]) => width > 0 && shade)) {
    rect(`fill="none" stroke="${sides[0][1].colour}" stroke-width="${sides[0][0]}"`);
  } else {
    const ends = [[x, y, x + w, y], [x + w, y, x + w, y + h], [x, y + h, x + w, y + h], [x, y, x, y + h]]; // prettier-ignore
    sides.forEach(([width, shade], i) => {
      const [x1, y1, x2, y2] = ends[i];
      if (width > 0 && shade)
        parts.push(
          `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${shade.colour}" stroke-width="${width}"/>`,
        );
    });
  }
  const shadow = /^(.*?\)) (\S+)px (-?\d+)px (\S+)px (\S+)px inset/.exec(style.boxShadow);
  const shade = shadow && plainColour(shadow[1]);
  if (shade && Number(shadow[3]) < 0)
    parts.push(`<rect x="${x}" y="${y + h + Number(shadow[3])}" width="${w}" height="${-shadow[3]}" ${fill(shade)}/>`);
  else if (shade && Number(shadow[5]) > 0) rect(`fill="none" stroke="${shade.colour}" stroke-width="${shadow[5]}"`);
  return parts;
}

/** A text node, a line at a time as the browser broke it. */
function drawText(node, style) {
  const shade = plainColour(style.color);
  if (!node.data.trim() || !shade) return [];
  const font = `font-family="${escapeXml(style.fontFamily)}" font-size="${style.fontSize}" font-weight="${style.fontWeight}" font-style="${style.fontStyle}" ${fill(shade)}`;
  const range = document.createRange();
  const lines = [];
  for (const { index, 0: word } of node.data.matchAll(/\S+/g)) {
    range.setStart(node, index);
    range.setEnd(node, index + word.length);
    const box = range.getBoundingClientRect();
    if (box.width === 0) continue;
    const line = lines.at(-1);
    if (line && Math.abs(line.box.top - box.top) < 2 && !style.writingMode.startsWith("vertical"))
      line.words.push(word);
    else lines.push({ box, words: [word] });
  }
  const size = parseFloat(style.fontSize);
  return lines.map(({ box, words }) => {
    const text = escapeXml(words.join(" "));
    if (style.writingMode.startsWith("vertical")) {
      const [x, y] = [box.left + box.width / 2 + 0.35 * size, box.bottom].map(round);
      return `<text transform="translate(${x} ${y}) rotate(-90)" ${font}>${text}</text>`;
    }
    return `<text x="${round(box.left)}" y="${round(box.top + box.height / 2 + 0.35 * size)}" ${font}>${text}</text>`;
  });
}

/** A picture inside the page that is SVG already, with its colours written out. */
function copySvg(source, box) {
  const copy = source.cloneNode(true);
  const originals = [source, ...source.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((part, i) => {
    const style = getComputedStyle(originals[i]);
    for (const name of ["fill", "stroke"]) part.setAttribute(name, plainColour(style[name])?.colour ?? "none");
    part.setAttribute("stroke-width", style.strokeWidth);
    part.setAttribute("stroke-dasharray", style.strokeDasharray);
    part.setAttribute("vector-effect", style.vectorEffect);
    if (part.tagName === "text") part.setAttribute("font-size", style.fontSize);
    part.removeAttribute("class");
  });
  for (const [name, value] of Object.entries({ x: box.left, y: box.top, width: box.width, height: box.height }))
    copy.setAttribute(name, round(value));
  return new XMLSerializer().serializeToString(copy);
}

function walk(node, parts, ids) {
  const style = getComputedStyle(node);
  if (
    style.display === "none" ||
    style.visibility === "hidden" ||
    node.matches(".unseen, .save, .controls, .zoom, .tools, .still")
  )
    return;
  const box = node.getBoundingClientRect();
  const image = (address) =>
    parts.push(
      `<image x="${round(box.left)}" y="${round(box.top)}" width="${round(box.width)}" height="${round(box.height)}" href="${address}"/>`,
    );
  if (node instanceof SVGElement) return void parts.push(copySvg(node, box));
  parts.push(...drawBox(style, box, ids));
  if (node.tagName === "IMG") return void (node.src && image(node.src));
  if (node.tagName === "CANVAS") return void image(node.toDataURL());
  for (const child of node.childNodes) {
    if (child instanceof Text) parts.push(...drawText(child, style));
    else if (child instanceof Element) walk(child, parts, ids);
  }
}

/** Any part of the page as SVG: `{ text, width, height }`. */
export function drawElement(node) {
  const box = node.getBoundingClientRect();
  const right = Math.max(...[...node.children].map((child) => child.getBoundingClientRect().right));
  const [width, height] = [right - box.left + node.scrollLeft, node.scrollHeight].map((v) => Math.ceil(v) + 16);
  const parts = [];
  walk(node, parts, { next: 0 });
  const paper = plainColour(getComputedStyle(document.body).backgroundColor).colour;
  const content = `<rect width="${width}" height="${height}" fill="${paper}"/><g transform="translate(${round(8 - box.left + node.scrollLeft)} ${round(8 - box.top)})">${parts.join("")}</g>`;
  return { text: wrapSvg(content, width, height), width, height };
}

export function wrapSvg(content, width, height) {
  return `<svg xmlns="${NAMESPACE}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${content}</svg>\n`;
}

/** A picture in SVG as PNG, with twice as many pixels each way. */
export async function toPng({ text, width, height }, scale = 2) {
  const address = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** The tables of a part of the page as rows; several of one kind are put under each other, with their captions first. */
export function tableRows(node) {
  const tables = node.matches("table") ? [node] : findAll("table", node);
  const text = (cell) =>
    cell.dataset.csv ?? find(".unseen", cell)?.textContent ?? cell.textContent.replace(/\s+/g, " ").trim();
  const rows = (section) => findAll(`${section} tr`, node).length;
  return tables.flatMap((table, i) => {
    const before = tables.length > 1 ? [find("caption", table)?.textContent.trim() ?? `table ${i + 1}`] : [];
    const lines = (part) =>
      findAll(`${part} tr`, table).map((row) =>
        [...row.cells].filter((cell) => !cell.matches("[data-csv='-']")).map(text),
      );
    const head =
      i === 0 && rows("thead") ? lines("thead").map((row) => [...(before.length ? ["Domain"] : []), ...row]) : [];
    return [...head, ...lines("tbody").map((row) => [...before, ...row])];
  });
}

/** Buttons that save a part of the page; `draw` gives its SVG. */
export function saveButtons(name, draw, table = null) {
  const guarded = (work) => async () => {
    try {
      await work();
    } catch (error) {
      complain(`This could not be saved (${error.message}).`);
    }
  };
  const png = guarded(async () => download(`${name}.png`, await toPng(await draw())));
  const svg = guarded(async () => download(`${name}.svg`, (await draw()).text, "image/svg+xml"));
  const made = [
    button("PNG", png, { "aria-label": `Save ${name} as PNG` }),
    button("SVG", svg, { "aria-label": `Save ${name} as SVG` }),
  ];
  if (table)
    made.push(
      button("CSV", () => download(`${name}.csv`, toCsv(tableRows(table)), "text/csv"), {
        "aria-label": `Save ${name} as CSV`,
      }),
    );
  return element("p", { class: "save live" }, "Save ", ...made);
}

/** Give every figure and table of the page its buttons. */
export function offerToSave(title) {
  for (const node of findAll("main .wide:not(figure *), main figure, main .details > div")) {
    const section = node.closest("section").id;
    const kind =
      node.tagName === "FIGURE"
        ? (find("figcaption strong", node)?.textContent ?? "")
        : (find("h3", node)?.textContent ?? node.getAttribute("aria-label") ?? "");
    const name = fileName(title, kind || section);
    const table = find("table", node) ? node : null;
    const row = saveButtons(name, () => drawElement(node), table);
    if (node.tagName === "FIGURE" || node.matches(".details > div")) {
      node.append(row);
    } else {
      const holder = element("div"); // a grid keeps the two together
      node.replaceWith(holder);
      holder.append(node, row);
    }
  }
}
