// Spots inside a shape, counted by domain, and tables as text.

/** Which places lie inside a polygon of corners (even-odd), of those that `accepted` lets through. */
export function spotsInside(corners, x, y, accepted = () => true) {
  const [xs, ys] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const chosen = [];
  for (let i = 0; i < x.length; i++) {
    const [px, py] = [x[i], y[i]];
    if (px < left || px > right || py < top || py > bottom || !accepted(i)) continue;
    let inside = false;
    for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
      if (ys[a] > py !== ys[b] > py && px < ((xs[b] - xs[a]) * (py - ys[a])) / (ys[b] - ys[a]) + xs[a])
        inside = !inside;
    }
    if (inside) chosen.push(i);
  }
  return Uint32Array.from(chosen);
}

/** How many of some spots each group has: `[[group, count], ...]`, most first. */
export function countByGroup(spots, codes) {
  const counts = new Map();
  for (const i of spots) counts.set(codes[i], (counts.get(codes[i]) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

/** Rows as CSV. A text that a spreadsheet would take for a formula gets a quotation mark before it. */
export function toCsv(rows) {
  const cell = (value) => {
    const text =
      typeof value === "number"
        ? String(value)
        : String(value ?? "").replace(/^[=+\-@\t\r](?![\d.]*(e[+-]?\d+)?$)/i, "'$&");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${rows.map((row) => row.map(cell).join(",")).join("\n")}\n`;
}
