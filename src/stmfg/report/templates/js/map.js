// A map of many spots on a canvas. Where a drawing takes long, the last one is moved and stretched while the map is
// dragged, and drawn anew now and then.
import { LARGEST, Surface } from "./draw.js";
import { listen } from "./gestures.js";
import { Grid } from "./points.js";

const REST = 140; // milliseconds without a move until the fine drawing
const QUICK = 12; // milliseconds that a drawing may take to be made for every frame

/** A round length of at most so many pixels, and what it is called; `size` is micrometres of a pixel. */
export function scaleBar(size, most = 140) {
  const unit = 10 ** Math.floor(Math.log10(most * size));
  const length = [5, 2, 1].map((times) => times * unit).find((each) => each <= most * size);
  return { pixels: length / size, label: length >= 1000 ? `${length / 1000} mm` : `${length} µm` };
}

/**
 * One map: pan, zoom, look at a spot, draw a shape around some.
 *
 * `paint` is shared by the maps of a page: `codes` (group of each spot), `shown` (0 hidden, 1 shown, 2 faint, by group),
 * `values` (step of each spot in the tables), `bright` and `faint` (colours as 0xAABBGGRR) and `order` (which spot is
 * drawn when, or null).
 */
export class SpotMap {
  constructor(frame, cloud, paint, hooks = {}) {
    const none = () => {};
    Object.assign(
      this,
      { frame, cloud, paint, decorate: none, look: none, select: none, isolate: none, told: none },
      hooks,
    );
    this.canvas = frame.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.under = frame.querySelector(".under");
    this.ring = frame.querySelector(".ring");
    this.tip = frame.querySelector(".tip");
    this.bar = frame.querySelector(".bar-of-scale");
    this.sketch = frame.querySelector(".sketch");
    this.tools = frame.parentElement.querySelectorAll("button[data-tool]");
    this.grid = new Grid(cloud, cloud.x.length);
    this.whole = [0, 0, cloud.width, cloud.height];
    this.box = this.whole; // what "fit" shows
    this.view = null; // pixels of the page: x * k + tx, y * k + ty
    this.drawn = null; // the view of the last drawing
    this.cost = 0; // milliseconds of the last drawing
    this.opacity = 1; // of the spots; what is drawn over them stays as it is
    this.spot = -1; // the one that is looked at
    this.tool = "move"; // or "rectangle", "lasso"
    this.trace = []; // corners drawn so far, in the tissue
    this.cursor = null; // where the keyboard draws, in pixels of the page
    new ResizeObserver(() => this.resize()).observe(frame);
    listen(this);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    if (width === 0 || height === 0) return;
    const untouched = !this.view || this.view.k === this.fitted;
    const middle = untouched ? null : this.place(this.width / 2, this.height / 2);
    Object.assign(this, { width, height, ratio: Math.min(window.devicePixelRatio || 1, 3) });
    this.surface = new Surface(width, height, this.ratio);
    this.canvas.width = this.surface.width;
    this.canvas.height = this.surface.height;
    if (untouched) {
      this.fit(this.box);
    } else {
      const { k } = this.view;
      this.view = { k, tx: width / 2 - middle[0] * k, ty: height / 2 - middle[1] * k };
    }
    this.draw(true); // at once: a canvas is empty after its size was set
    this.mark();
  }

  /** Show a box, all of it and in the middle. */
  fit(box) {
    const [left, top, right, bottom] = (this.box = box);
    const k = Math.min(this.width / (right - left), this.height / (bottom - top));
    const whole = this.whole;
    this.least = 0.5 * Math.min(this.width / whole[2], this.height / whole[3]);
    this.fitted = k;
    this.view = {
      k,
      tx: (this.width - (right + left) * k) / 2,
      ty: (this.height - (bottom + top) * k) / 2,
    };
    this.request();
  }

  pan(dx, dy) {
    const { k, tx, ty } = this.view;
    // Some of the map stays in sight.
    const keep = (t, size, extent) => Math.min(Math.max(t, 0.3 * size - extent * k), 0.7 * size);
    this.view = {
      k,
      tx: keep(tx + dx, this.width, this.cloud.width),
      ty: keep(ty + dy, this.height, this.cloud.height),
    };
    this.request();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { k, tx, ty } = this.view;
    const most = Math.max((2 * LARGEST) / this.cloud.diameter, this.fitted);
    const next = Math.min(Math.max(k * factor, this.least), most);
    this.view = { k: next, tx: x - ((x - tx) * next) / k, ty: y - ((y - ty) * next) / k };
    this.pan(0, 0);
  }

  /** The place in the tissue under a pixel of the page. */
  place(x, y) {
    const { k, tx, ty } = this.view;
    return [(x - tx) / k, (y - ty) / k];
  }

  /** Draw before the next frame, and finely once the map is at rest. */
  request() {
    if (!this.width) return;
    if (!this.pending) {
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        if (this.cost < QUICK || performance.now() - this.drawnAt > 4 * this.cost) this.draw(false);
        else this.follow();
        this.mark();
      });
    }
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.draw(true), REST);
  }

  draw(fine) {
    const start = performance.now();
    this.surface.draw(this.cloud, this.paint, this.view, fine);
    this.surface.put(this.context);
    const { k, tx, ty } = this.view;
    this.context.save();
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (this.opacity < 1) {
      this.context.globalCompositeOperation = "destination-in";
      this.context.fillStyle = `rgb(0 0 0 / ${this.opacity})`;
      this.context.fillRect(0, 0, this.width, this.height);
      this.context.globalCompositeOperation = "source-over";
    }
    this.decorate(this.context, { k, tx, ty, width: this.width, height: this.height });
    this.context.restore();
    this.drawn = this.view;
    this.follow();
    this.drawnAt = performance.now();
    if (!fine) this.cost = this.drawnAt - start;
  }

  /** Move the last drawing, the image under it and what lies over it to where the view is. */
  follow() {
    const { k, tx, ty } = this.view;
    const s = k / this.drawn.k;
    this.canvas.style.transform =
      this.drawn === this.view ? "" : `translate(${tx - this.drawn.tx * s}px, ${ty - this.drawn.ty * s}px) scale(${s})`;
    const { width, height, micrometres } = this.cloud;
    Object.assign(this.under.style, { width: `${width * k}px`, height: `${height * k}px` });
    this.under.style.transform = `translate(${tx}px, ${ty}px)`;
    this.bar.hidden = !micrometres;
    if (micrometres) {
      const { pixels, label } = scaleBar(micrometres / k);
      this.bar.style.width = `${pixels}px`;
      this.bar.textContent = label;
    }
    this.drawSketch();
  }

  /** Show the shape that is being drawn, and where the keyboard draws. */
  drawSketch() {
    const { k, tx, ty } = this.view;
    const corners = this.corners().map(([x, y]) => `${x * k + tx},${y * k + ty}`);
    this.sketch.toggleAttribute("hidden", corners.length === 0 && !this.cursor);
    this.sketch.querySelector("polygon").setAttribute("points", corners.join(" "));
    const [x, y] = this.cursor ?? [-99, -99];
    this.sketch.querySelector("path").setAttribute("d", `M${x - 9} ${y}h18M${x} ${y - 9}v18`);
  }

  /** The corners of the shape that is being drawn, in the tissue. */
  corners() {
    const [first, second] = this.trace;
    const next = this.cursor && this.trace.length ? [this.place(...this.cursor)] : [];
    if (this.tool !== "rectangle" || !first) return [...this.trace, ...next];
    const [x, y] = second ?? next[0] ?? first;
    return [first, [x, first[1]], [x, y], [first[0], y]];
  }

  /** Take a tool: "move", "rectangle" or "lasso"; the keyboard starts to draw at a cursor. */
  use(tool, cursor = null) {
    Object.assign(this, { tool, trace: [], cursor });
    this.frame.dataset.tool = tool;
    for (const button of this.tools) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    this.drawSketch();
  }

  /** Close the shape and tell which one it was. */
  close() {
    const corners = this.corners();
    this.trace = [];
    this.drawSketch();
    if (corners.length > 2) this.select(corners);
  }

  /** Look at a spot, or at none (-1); the other maps of the page are told by whoever listens. */
  point(i, silent = false) {
    if (i === this.spot) return;
    this.spot = i;
    this.mark();
    if (!silent) this.look(i, this);
  }

  /** Put the ring, and the note beside it, where the spot is. */
  mark() {
    const i = this.spot;
    this.ring.hidden = i < 0 || !this.view;
    if (this.ring.hidden) {
      this.tip.hidden = true;
      return;
    }
    const { k, tx, ty } = this.view;
    const x = this.cloud.x[i] * k + tx;
    const y = this.cloud.y[i] * k + ty;
    const side = Math.max(this.cloud.diameter * k + 4, 12);
    Object.assign(this.ring.style, { width: `${side}px`, height: `${side}px` });
    this.ring.style.transform = `translate(${x - side / 2}px, ${y - side / 2}px)`;
    if (this.tip.hidden) return;
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const gap = side / 2 + 10;
    const left = x + gap + width > this.width ? Math.max(x - gap - width, 4) : x + gap;
    const top = Math.min(Math.max(y - height / 2, 4), Math.max(this.height - height - 4, 4));
    this.tip.style.transform = `translate(${left}px, ${top}px)`;
  }

  /** The spot under a pixel of the page, with some tolerance, or -1. */
  spotAt(x, y, tolerance = 6) {
    const { codes, shown } = this.paint;
    const radius = Math.max(this.cloud.diameter / 2, tolerance / this.view.k);
    return this.grid.nearest(...this.place(x, y), radius, (i) => shown[codes[i]] > 0);
  }
}
