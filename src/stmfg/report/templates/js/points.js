// Spots as points in a plane: which one is near.

/** Spots in the cells of a square grid: the spot nearest to a place without looking at all of them. */
export class Grid {
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
