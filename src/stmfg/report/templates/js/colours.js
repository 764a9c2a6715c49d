// Colours as the canvas stores them, 0xAABBGGRR, and values as steps of a table of colours.

export const STEPS = 255;

/** The red, green and blue of "#rrggbb". */
export function rgb(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

export function hex(parts) {
  return `#${parts.map((p) => Math.round(p).toString(16).padStart(2, "0")).join("")}`;
}

export function pixel(colour, opacity = 255) {
  const [r, g, b] = rgb(colour);
  return ((opacity << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

export function table(colours, opacity = 255) {
  return Uint32Array.from(colours, (c) => pixel(c, opacity));
}

/** The values at two percentiles of those above zero; the second is never the lower one. */
export function limits(values, low, high) {
  const positive = values.filter((v) => v > 0).sort();
  if (positive.length === 0) return [0, 1];
  const at = (percent) => {
    const place = ((positive.length - 1) * percent) / 100;
    const below = positive[Math.floor(place)];
    return below + (positive[Math.ceil(place)] - below) * (place % 1);
  };
  const bottom = low > 0 ? at(low) : 0;
  const top = at(high);
  return [bottom, top > bottom ? top : bottom + 1];
}

/** Values between two limits as whole numbers from 0 to `steps`. */
export function toSteps(values, [bottom, top], steps = STEPS) {
  const factor = steps / (top - bottom);
  return Uint8Array.from(values, (v) => Math.min(Math.max(Math.round((v - bottom) * factor), 0), steps));
}

/** Spots from the weakest to the strongest: the strongest is drawn last, on top of the others. */
export function byStrength(steps) {
  const next = new Uint32Array(257);
  for (const v of steps) next[v + 1]++;
  for (let v = 0; v < 256; v++) next[v + 1] += next[v];
  const order = new Uint32Array(steps.length);
  for (let i = 0; i < steps.length; i++) order[next[steps[i]]++] = i;
  return order;
}

/** 256 colours of two values of 16 steps each, first * 16 + second, between the colours of neither, one, other, both. */
export function blendTable([neither, first, second, both]) {
  const [n, a, b, ab] = [neither, first, second, both].map(rgb);
  return Array.from({ length: 256 }, (_, at) => {
    const [s, t] = [Math.floor(at / 16) / 15, (at % 16) / 15];
    return hex(
      [0, 1, 2].map((i) => (1 - s) * (1 - t) * n[i] + s * (1 - t) * a[i] + (1 - s) * t * b[i] + s * t * ab[i]),
    );
  });
}

/** Where two spots stand in such a table. */
export function blendSteps(first, second) {
  const [a, b] = [first, second].map(({ values, range }) => toSteps(values, range, 15));
  return a.map((v, i) => 16 * v + b[i]);
}
