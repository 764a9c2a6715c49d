"use strict";
// Spots as points in a plane: which one is near, and which pixels one covers.

/** Spots in the cells of a square grid: the spot nearest to a place without looking at all of them. */
class Grid {
  constructor({ x, y, width, height }, n) {
    this.x = x;
    this.y = y;
    this.side = Math.max(1, Math.sqrt((2 * width * height) / Math.max(n, 1)));
    this.columns = Math.floor(width / this.side) + 1;
    this.rows = Math.floor(height / this.side) + 1;
    this.start = new Uint32Array(this.columns * this.rows + 1);
    const cell = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      cell[i] = Math.floor(y[i] / this.side) * this.columns + Math.floor(x[i] / this.side);
      this.start[cell[i] + 1]++;
    }
    for (let c = 0; c < this.columns * this.rows; c++) this.start[c + 1] += this.start[c];
    const next = this.start.slice();
    this.spots = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.spots[next[cell[i]]++] = i;
  }

  /** The accepted spot nearest to (x, y) within a radius, or -1. */
  nearest(x, y, radius, accepted) {
    let best = -1;
    let least = radius * radius;
    const clamp = (v, top) => Math.min(Math.max(Math.floor(v / this.side), 0), top - 1);
    for (let row = clamp(y - radius, this.rows); row <= clamp(y + radius, this.rows); row++) {
      const first = row * this.columns + clamp(x - radius, this.columns);
      const last = row * this.columns + clamp(x + radius, this.columns);
      for (let at = this.start[first]; at < this.start[last + 1]; at++) {
        const i = this.spots[at];
        const d = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (d <= least && accepted(i)) {
          least = d;
          best = i;
        }
      }
    }
    return best;
  }
}

const PHASES = 4; // places of a smooth spot within its pixel, along each side

/** Pixels of a spot, as offsets in a buffer: `full` ones, and those on its `edge` with their opacity. */
function sprites(radius, square, smooth, stride) {
  const phases = smooth ? PHASES : 1;
  const reach = Math.ceil(radius) + 1;
  // Spots of a pixel or two are blocks: a disc of that size would leave gaps.
  const block = square || (!smooth && radius < 1.6);
  const shapes = [];
  for (let phase = 0; phase < phases * phases; phase++) {
    const cx = ((phase % phases) + 0.5) / phases;
    const cy = (Math.floor(phase / phases) + 0.5) / phases;
    const full = [];
    const edge = [];
    const opacity = [];
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const dx = Math.abs(x + 0.5 - cx);
        const dy = Math.abs(y + 0.5 - cy);
        const inside = (d) => Math.min(Math.max(radius + 0.5 - d, 0), 1);
        const share = block ? inside(dx) * inside(dy) : inside(Math.hypot(dx, dy));
        if (share > (smooth ? 0.97 : 0.4)) {
          full.push(y * stride + x);
        } else if (smooth && share > 0.03) {
          edge.push(y * stride + x);
          opacity.push(Math.round(255 * share));
        }
      }
    }
    if (full.length + edge.length === 0) full.push(0);
    shapes.push({ full: Int32Array.from(full), edge: Int32Array.from(edge), opacity: Uint8Array.from(opacity) });
  }
  return shapes;
}

/** Lay a colour of some opacity over another, both as 0xAABBGGRR. */
function over(colour, opacity, below) {
  const top = ((colour >>> 24) * opacity) / 255;
  const rest = ((below >>> 24) * (255 - top)) / 255;
  const sum = top + rest;
  if (sum < 1) return below;
  const w = top / sum;
  const mixed = (shift) => (((colour >>> shift) & 255) * w + ((below >>> shift) & 255) * (1 - w)) << shift;
  return ((sum << 24) | (mixed(16) & 0xff0000) | (mixed(8) & 0xff00) | (mixed(0) & 0xff)) >>> 0;
}
