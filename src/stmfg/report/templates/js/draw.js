// Spots into pixels, by the processor: a few milliseconds for 300,000 spots, the same on every machine, and no graphics card
// is asked for (remote desktops have none).

export const LARGEST = 36; // radius of a spot at the closest look, in pixels of the page
const SMOOTH_WORK = 1_500_000; // pixels on edges that can be smoothed for every frame
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

/** Pixels to draw spots into, with a margin: spots over the edge then need no check of every pixel. */
export class Surface {
  constructor(width, height, ratio) {
    Object.assign(this, { ratio, width: Math.round(width * ratio), height: Math.round(height * ratio) });
    this.margin = Math.ceil(LARGEST * ratio) + 3;
    this.stride = this.width + 2 * this.margin;
    this.rows = this.height + 2 * this.margin;
    this.pixels = new Uint32Array(this.stride * this.rows);
    this.image = new ImageData(new Uint8ClampedArray(this.pixels.buffer), this.stride, this.rows);
    this.visible = Infinity; // spots in the last drawing
    this.cache = { key: "" };
  }

  /** Draw the spots of a cloud in the colours of `paint`, as `SpotMap` explains; `fine` may take its time. */
  draw(cloud, paint, view, fine) {
    const { stride, margin, pixels, ratio } = this;
    const { x, y, diameter, square } = cloud;
    const { codes, shown, values, bright, faint, order } = paint;
    const k = view.k * ratio;
    const tx = view.tx * ratio + margin;
    const ty = view.ty * ratio + margin;
    // Spots smaller than a pixel are drawn a little too large: they would look pale.
    const half = (diameter * k) / 2;
    const radius = Math.min(Math.max(half, Math.min(half + 0.35, 1)), LARGEST * ratio);
    const smooth = Math.min(this.visible, x.length) * Math.max(6 * radius, 4) < (fine ? 8 : 1) * SMOOTH_WORK;
    const key = `${Math.round(8 * radius)} ${smooth}`;
    if (this.cache.key !== key) {
      this.cache = { key, shapes: sprites(Math.round(8 * radius) / 8, square, smooth, stride) };
    }
    const { shapes } = this.cache;
    const phases = smooth ? PHASES : 1;
    const low = margin - radius - 1;
    const right = stride - margin + radius + 1;
    const bottom = this.rows - margin + radius + 1;
    let visible = 0;
    pixels.fill(0);
    for (let j = 0; j < x.length; j++) {
      const i = order ? order[j] : j;
      const px = x[i] * k + tx;
      const py = y[i] * k + ty;
      if (!(px > low && py > low && px < right && py < bottom)) continue;
      const state = shown[codes[i]];
      if (state === 0) continue;
      visible++;
      const colour = (state === 1 ? bright : faint)[values[i]];
      const column = Math.floor(px);
      const row = Math.floor(py);
      const at = row * stride + column;
      const sprite =
        phases === 1
          ? shapes[0]
          : shapes[Math.floor((py - row) * PHASES) * PHASES + Math.floor((px - column) * PHASES)];
      const { full, edge, opacity } = sprite;
      for (let p = 0; p < full.length; p++) pixels[at + full[p]] = colour;
      for (let p = 0; p < edge.length; p++) pixels[at + edge[p]] = over(colour, opacity[p], pixels[at + edge[p]]);
    }
    this.visible = visible;
  }

  /** Put the drawing on a canvas of the same size. */
  put(context) {
    const { margin } = this;
    context.putImageData(this.image, -margin, -margin, margin, margin, this.width, this.height);
  }
}
