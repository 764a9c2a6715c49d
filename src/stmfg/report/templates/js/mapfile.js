// The current map as a picture with a legend, a scale bar and what it is: as SVG, from which the PNG is made.
import { Surface } from "./draw.js";
import { escapeXml, wrapSvg } from "./figures.js";
import { scaleBar } from "./map.js";

const AS_CIRCLES = 20_000; // spots up to which each is a shape of its own: more would make a file that no program opens

const hexOf = (pixel) =>
  `#${[pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255].map((v) => v.toString(16).padStart(2, "0")).join("")}`;

/** The spots in view as circles or squares, those of one colour together. */
function drawShapes({ cloud, paint, view, width, height }) {
  const { x, y, square } = cloud;
  const { codes, shown, values, bright, faint, order } = paint;
  const radius = Math.max((cloud.diameter * view.k) / 2, 0.4);
  const shapes = [];
  for (let j = 0; j < x.length; j++) {
    const i = order ? order[j] : j;
    const state = shown[codes[i]];
    const [px, py] = [x[i] * view.k + view.tx, y[i] * view.k + view.ty];
    if (state === 0 || px < -radius || py < -radius || px > width + radius || py > height + radius) continue;
    const colour = (state === 1 ? bright : faint)[values[i]];
    const opacity = colour >>> 24 === 255 ? "" : ` fill-opacity="${((colour >>> 24) / 255).toFixed(2)}"`;
    const paintOf = `fill="${hexOf(colour)}"${opacity}`;
    if (square)
      shapes.push(
        `<rect x="${(px - radius).toFixed(2)}" y="${(py - radius).toFixed(2)}" width="${(2 * radius).toFixed(2)}" height="${(2 * radius).toFixed(2)}" ${paintOf}/>`,
      );
    else shapes.push(`<circle cx="${px.toFixed(2)}" cy="${py.toFixed(2)}" r="${radius.toFixed(2)}" ${paintOf}/>`);
  }
  return shapes.join("");
}

/** Many spots as pixels, twice as fine as on the page. */
function drawPixels({ cloud, paint, view, width, height }) {
  const surface = new Surface(width, height, 2);
  surface.draw(cloud, paint, view, true);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: surface.width, height: surface.height });
  surface.put(canvas.getContext("2d"));
  return `<image width="${width}" height="${height}" href="${canvas.toDataURL()}"/>`;
}

function legendRows(scale, groups, dark) {
  const ink = dark ? "#e7eaee" : "#1b1f24";
  const parts = [];
  let y = 0;
  const line = (text, more = "", x = 0) =>
    parts.push(`<text x="${x}" y="${y}" fill="${ink}" font-size="13" ${more}>${escapeXml(text)}</text>`);
  const swatch = (colour, text) => {
    parts.push(`<circle cx="6" cy="${y - 4.5}" r="6" fill="${colour}"/>`);
    line(text, "", 20);
    y += 21;
  };
  if (!scale) for (const group of groups) swatch(group.colour, group.name);
  else if (scale.names) {
    const [, first, second, both] = scale.corners;
    swatch(first, scale.names[0]);
    swatch(second, scale.names[1]);
    swatch(both, "both");
  } else {
    const stops = scale.colours.filter((_, i) => i % 15 === 0);
    parts.push(
      `<linearGradient id="scale">${stops.map((c, i) => `<stop offset="${(i / (stops.length - 1)).toFixed(3)}" stop-color="${c}"/>`).join("")}</linearGradient>`,
    );
    line(scale.title, 'font-weight="600"');
    parts.push(`<rect y="${y + 9}" width="160" height="11" fill="url(#scale)"/>`);
    y += 36;
    line(scale.low);
    line(scale.high, 'text-anchor="end"', 160);
    y += 19;
    parts.push(`<text y="${y}" fill="${ink}" font-size="11">${escapeXml(scale.text)}</text>`);
  }
  return parts.join("");
}

/**
 * The map as SVG: `{ text, width, height }`. `what` has `map`, `groups` that are shown, `scale`, `title`, `paths` (outlines:
 * `[path, colour]`), `labels` (`[x, y, text, align]`), `image` with its `opacity` and that of the spots, and `dark`.
 */
export function drawMap({ map, groups, scale, title, paths, labels, image, dark }) {
  const { cloud, paint, view, width, height } = map;
  const [side, top] = [250, 46];
  const paper = dark ? "#14171b" : "#ffffff";
  const ink = dark ? "#e7eaee" : "#1b1f24";
  const target = { cloud, paint, view, width, height };
  const parts = [];
  const at = `x="${view.tx}" y="${view.ty}" width="${cloud.width * view.k}" height="${cloud.height * view.k}"`;
  if (image.address) parts.push(`<image ${at} preserveAspectRatio="none" href="${image.address}"/>`);
  parts.push(
    `<g opacity="${image.spots}">${cloud.x.length <= AS_CIRCLES ? drawShapes(target) : drawPixels(target)}</g>`,
  );
  paths.forEach(([path, colour], i) => {
    parts.push(`<clipPath id="area-${i}"><path d="${path}"/></clipPath>`);
    parts.push(
      `<path d="${path}" clip-path="url(#area-${i})" fill="none" stroke="#ffffff" stroke-width="7"/><path d="${path}" clip-path="url(#area-${i})" fill="none" stroke="${colour}" stroke-width="4.5"/>`,
    );
  });
  for (const [x, y, text, align] of labels) {
    const onPaper = align && !image.address; // a slice's name stands beside its spots
    const [fill, stroke] = onPaper ? [ink, paper] : ["#14171b", "#ffffff"];
    parts.push(
      `<text x="${x.toFixed(1)}" y="${(y + 4.5).toFixed(1)}" text-anchor="${align ? "start" : "middle"}" font-size="13" font-weight="600" fill="${fill}" stroke="${stroke}" stroke-width="3.5" stroke-linejoin="round" paint-order="stroke">${escapeXml(text)}</text>`,
    );
  }
  const bar = [];
  if (cloud.micrometres) {
    const { pixels, label } = scaleBar(cloud.micrometres / view.k);
    const y = height + 14;
    bar.push(
      `<path d="M0 ${y}h${pixels.toFixed(2)}" stroke="${ink}" stroke-width="4"/><text x="${(pixels / 2).toFixed(2)}" y="${y + 18}" fill="${ink}" font-size="12" text-anchor="middle">${label}</text>`,
    );
  }
  const content = `<desc>${escapeXml(title)}${cloud.micrometres ? `; one unit is ${(cloud.micrometres / view.k).toPrecision(5)} micrometres` : ""}</desc>
<rect width="100%" height="100%" fill="${paper}"/><g font-family="Helvetica, Arial, sans-serif">
<text x="16" y="28" font-size="16" font-weight="600" fill="${ink}">${escapeXml(title)}</text>
<svg x="16" y="${top}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${parts.join("")}</svg>
<g transform="translate(16 ${top})">${bar.join("")}</g>
<g transform="translate(${width + 40} ${top + 14})">${legendRows(scale, groups, dark)}</g></g>`;
  const rows = scale ? 6 : groups.length;
  const size = [width + side + 32, Math.max(height + top + 48, top + 21 * rows + 24)];
  return { text: wrapSvg(content, ...size), width: size[0], height: size[1] };
}
