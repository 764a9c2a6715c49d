// Domains as areas: their outlines, and the place deepest inside each.

const SPECK = 0.02; // share of a slice below which a domain is not named on it
const [LETTER, LINE] = [7.6, 15]; // pixels of a letter's width and a line's height, about

/** The tissue in squares about as large as a spot's share of it, each of the group of its nearest spot, or -1. */
export function makeRaster(cloud, grid, codes, none, most = 640) {
  const spacing = Math.max(
    cloud.spacing ?? Math.sqrt((cloud.width * cloud.height) / Math.max(cloud.x.length, 1)),
    1e-9,
  );
  const side = Math.max(spacing / 2, Math.max(cloud.width, cloud.height) / most);
  const columns = Math.ceil(cloud.width / side) + 2;
  const rows = Math.ceil(cloud.height / side) + 2;
  const labels = new Int32Array(columns * rows).fill(-1);
  const reach = Math.max(0.8 * spacing, side);
  const all = () => true;
  for (let row = 1; row < rows - 1; row++) {
    for (let column = 1; column < columns - 1; column++) {
      const spot = grid.nearest((column - 0.5) * side, (row - 0.5) * side, reach, all);
      if (spot >= 0 && codes[spot] !== none) labels[row * columns + column] = codes[spot];
    }
  }
  return { labels, columns, rows, side };
}

/** The closed outlines of every group: lists of `[x, y]`, their corners cut twice. */
export function outlines({ labels, columns, rows, side }, n) {
  const edges = Array.from({ length: n }, () => new Map()); // of each group, from a corner to the next, area on the right
  const add = (label, from, to) => {
    if (label < 0) return;
    const next = edges[label].get(from);
    if (next === undefined) edges[label].set(from, to);
    else edges[label].set(from, [].concat(next, to));
  };
  const width = columns + 1;
  for (let row = 1; row < rows; row++) {
    for (let column = 1; column < columns; column++) {
      const inside = labels[row * columns + column];
      const left = labels[row * columns + column - 1];
      const above = labels[(row - 1) * columns + column];
      const corner = row * width + column;
      if (inside !== left) {
        add(inside, corner + width, corner);
        add(left, corner, corner + width);
      }
      if (inside !== above) {
        add(inside, corner, corner + 1);
        add(above, corner + 1, corner);
      }
    }
  }
  return edges.map((next) => {
    const loops = [];
    for (const start of next.keys()) {
      const loop = [];
      for (let at = start; next.has(at);) {
        loop.push([((at % width) - 1) * side, (Math.floor(at / width) - 1) * side]);
        const to = next.get(at);
        const one = Array.isArray(to) ? to.pop() : to;
        if (!Array.isArray(to) || to.length === 0) next.delete(at);
        at = one;
      }
      if (loop.length > 3) loops.push(cutCorners(cutCorners(middles(loop))));
    }
    return loops;
  });
}

/** The middles of the steps of a staircase: a slope where it was even. */
function middles(loop) {
  return loop.map(([x, y], i) => {
    const [u, v] = loop[(i + 1) % loop.length];
    return [(x + u) / 2, (y + v) / 2];
  });
}

/** A loop with every corner cut (Chaikin). */
function cutCorners(loop) {
  const cut = [];
  loop.forEach(([x, y], i) => {
    const [u, v] = loop[(i + 1) % loop.length];
    cut.push([0.75 * x + 0.25 * u, 0.75 * y + 0.25 * v], [0.25 * x + 0.75 * u, 0.25 * y + 0.75 * v]);
  });
  return cut;
}

/** Where to name the groups: in each box, deep inside every group, `[x, y, group]`; of several boxes, where it is no speck. */
export function deepPlaces({ labels, columns, rows, side }, n, boxes) {
  const depth = new Float32Array(labels.length);
  const sweep = (cells, steps) => {
    for (const at of cells) {
      if (labels[at] < 0) continue;
      let least = depth[at] || Infinity;
      for (const [step, cost] of steps)
        least = Math.min(least, labels[at + step] === labels[at] ? depth[at + step] + cost : 1);
      depth[at] = least;
    }
  };
  const inner = [];
  for (let row = 1; row < rows - 1; row++) for (let c = 1; c < columns - 1; c++) inner.push(row * columns + c);
  const before = [[-1, 1], [-columns, 1], [-columns - 1, 1.4], [-columns + 1, 1.4]]; // prettier-ignore
  sweep(inner, before);
  sweep(
    inner.reverse(),
    before.map(([step, cost]) => [-step, cost]),
  );
  const middle = (at) => [((at % columns) - 0.5) * side, (Math.floor(at / columns) - 0.5) * side];
  return boxes.flatMap(([left, top, right, bottom]) => {
    const best = Array(n).fill(-1);
    const sizes = Array(n).fill(0);
    for (const at of inner) {
      const label = labels[at];
      if (label < 0) continue;
      const [x, y] = middle(at);
      if (x < left || x > right || y < top || y > bottom) continue;
      sizes[label]++;
      if (best[label] < 0 || depth[at] > depth[best[label]]) best[label] = at;
    }
    const least = boxes.length > 1 ? SPECK * sizes.reduce((sum, size) => sum + size, 0) : 0;
    return best.flatMap((at, label) => (at < 0 || sizes[label] < least ? [] : [[...middle(at), label]]));
  });
}

/** Those of the texts, `[x, y, text, align]` in pixels, that no earlier one is in the way of. */
export function withoutOverlaps(texts) {
  const kept = [];
  for (const each of texts) {
    const [x, y, text, align] = each;
    const width = LETTER * text.length;
    const left = align === "left" ? x : x - width / 2;
    const free = ([a, b, other]) => left > a + other || a > left + width || Math.abs(b - y) > LINE;
    if (kept.every(({ box }) => free(box))) kept.push({ each, box: [left, y, width] });
  }
  return kept.map(({ each }) => each);
}
