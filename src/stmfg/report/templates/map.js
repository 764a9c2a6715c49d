// A map of many spots on a canvas. The processor draws it, pixel by pixel: a few milliseconds for 300,000 spots, the same
// on every machine, and no graphics card is asked for (remote desktops have none). Where a drawing takes longer, the last
// one is moved and stretched while the map is dragged, and drawn anew now and then.

const LARGEST = 36; // radius of a spot at the closest look, in pixels of the page
const REST = 140; // milliseconds without a move until the fine drawing
const QUICK = 12; // milliseconds that a drawing may take to be made for every frame
const SMOOTH_WORK = 1_500_000; // pixels on edges that can be smoothed for every frame

/**
 * One map: pan, zoom, look at a spot.
 *
 * `paint` is shared by the maps of a page: `codes` (group of each spot), `shown` (0 hidden, 1 shown, 2 faint, by group),
 * `values` (step of each spot in the tables), `bright` and `faint` (colours as 0xAABBGGRR) and `order` (which spot is
 * drawn when, or null).
 */
class SpotMap {
  constructor(frame, cloud, n, paint, { texts = () => [], look = () => {} } = {}) {
    Object.assign(this, { frame, cloud, n, paint, texts, look });
    this.canvas = frame.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.under = frame.querySelector(".under");
    this.ring = frame.querySelector(".ring");
    this.tip = frame.querySelector(".tip");
    this.grid = new Grid(cloud, n);
    this.whole = [0, 0, cloud.width, cloud.height];
    this.box = this.whole; // what "fit" shows
    this.view = null; // pixels of the page: x * k + tx, y * k + ty
    this.drawn = null; // the view of the last drawing
    this.visible = n; // spots in the last drawing
    this.cost = 0; // milliseconds of the last drawing
    this.spot = -1; // the one that is looked at
    this.pointers = new Map();
    this.cache = { key: "" };
    new ResizeObserver(() => this.resize()).observe(frame);
    this.listen();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    if (width === 0 || height === 0) return;
    const untouched = !this.view || this.view.k === this.fitted;
    const middle = untouched ? null : this.place(this.width / 2, this.height / 2);
    Object.assign(this, { width, height, ratio: Math.min(window.devicePixelRatio || 1, 3) });
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.margin = Math.ceil(LARGEST * this.ratio) + 3; // spots over the edge need no check of every pixel
    this.stride = this.canvas.width + 2 * this.margin;
    this.rows = this.canvas.height + 2 * this.margin;
    this.pixels = new Uint32Array(this.stride * this.rows);
    this.image = new ImageData(new Uint8ClampedArray(this.pixels.buffer), this.stride, this.rows);
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
    const { stride, margin, pixels, paint, ratio } = this;
    const { x, y, diameter, square } = this.cloud;
    const { codes, shown, values, bright, faint, order } = paint;
    const k = this.view.k * ratio;
    const tx = this.view.tx * ratio + margin;
    const ty = this.view.ty * ratio + margin;
    // Spots smaller than a pixel are drawn a little too large: they would look pale.
    const half = (diameter * k) / 2;
    const radius = Math.min(Math.max(half, Math.min(half + 0.35, 1)), LARGEST * ratio);
    const smooth = this.visible * Math.max(6 * radius, 4) < (fine ? 8 : 1) * SMOOTH_WORK;
    const key = `${Math.round(8 * radius)} ${smooth} ${stride}`;
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
    for (let j = 0; j < this.n; j++) {
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
        phases === 1 ? shapes[0] : shapes[Math.floor((py - row) * PHASES) * PHASES + Math.floor((px - column) * PHASES)];
      const { full, edge, opacity } = sprite;
      for (let p = 0; p < full.length; p++) pixels[at + full[p]] = colour;
      for (let p = 0; p < edge.length; p++) pixels[at + edge[p]] = over(colour, opacity[p], pixels[at + edge[p]]);
    }
    this.visible = visible;
    this.context.putImageData(this.image, -margin, -margin, margin, margin, this.canvas.width, this.canvas.height);
    this.write();
    this.drawn = this.view;
    this.follow();
    this.drawnAt = performance.now();
    if (!fine) this.cost = this.drawnAt - start;
  }

  /** Write names over the spots. */
  write() {
    const { context, ratio } = this;
    const { k, tx, ty } = this.view;
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3.5 * ratio;
    context.strokeStyle = "rgb(255 255 255 / 90%)";
    context.fillStyle = "#14171b";
    for (const { x, y, text, align } of this.texts()) {
      context.textAlign = align ?? "center";
      const at = [(x * k + tx) * ratio, (y * k + ty) * ratio];
      if (!align && at[0] > 0 && at[0] < this.canvas.width) {
        const half = context.measureText(text).width / 2 + context.lineWidth;
        at[0] = Math.max(Math.min(at[0], this.canvas.width - half), half); // a name at the border stays whole
      }
      context.strokeText(text, ...at);
      context.fillText(text, ...at);
    }
  }

  /** Move the last drawing, and the image under it, to where the view is. */
  follow() {
    const { k, tx, ty } = this.view;
    const s = k / this.drawn.k;
    this.canvas.style.transform =
      this.drawn === this.view ? "" : `translate(${tx - this.drawn.tx * s}px, ${ty - this.drawn.ty * s}px) scale(${s})`;
    const { width, height } = this.cloud;
    Object.assign(this.under.style, { width: `${width * k}px`, height: `${height * k}px` });
    this.under.style.transform = `translate(${tx}px, ${ty}px)`;
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

  listen() {
    const { canvas, frame, pointers } = this;
    const at = (event) => {
      const box = frame.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    frame.addEventListener("pointerdown", (event) => {
      if (event.target !== canvas || event.button > 0) return;
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      this.moved = false;
    });
    frame.addEventListener("pointermove", (event) => {
      const now = at(event);
      const before = pointers.get(event.pointerId);
      if (!before) {
        if (event.target === canvas && event.pointerType !== "touch") this.point(this.spotAt(...now));
        return;
      }
      const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
      if (!this.moved && Math.hypot(dx, dy) < 4) return;
      this.moved = true;
      const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      pointers.set(event.pointerId, now);
      if (others.length === 0) {
        frame.classList.add("dragged");
        this.pan(dx, dy);
      } else {
        const [other] = others;
        const distance = (p) => Math.max(Math.hypot(p[0] - other[0], p[1] - other[1]), 1);
        this.pan(dx / 2, dy / 2);
        this.zoom(distance(now) / distance(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      }
    });
    const end = (event) => {
      if (pointers.delete(event.pointerId) && !this.moved && event.type === "pointerup") {
        this.point(this.spotAt(...at(event), 12));
      }
      frame.classList.toggle("dragged", pointers.size > 0);
    };
    frame.addEventListener("pointerup", end);
    frame.addEventListener("pointercancel", end);
    frame.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") this.point(-1);
    });
    canvas.addEventListener("dblclick", (event) => this.zoom(2, ...at(event)));
    canvas.addEventListener(
      "wheel",
      (event) => {
        // The page goes on scrolling under a pointer that only happens to be here.
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 16 : 1;
        this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = 0.12 * Math.min(this.width, this.height);
      const keys = {
        ArrowLeft: () => this.pan(step, 0),
        ArrowRight: () => this.pan(-step, 0),
        ArrowUp: () => this.pan(0, step),
        ArrowDown: () => this.pan(0, -step),
        "+": () => this.zoom(1.4),
        "=": () => this.zoom(1.4),
        "-": () => this.zoom(1 / 1.4),
        0: () => this.fit(this.whole),
        Escape: () => {},
      };
      if (!(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
      // Without a pointer, the spot in the middle is the one to be told about.
      this.point(event.key === "Escape" ? -1 : this.spotAt(this.width / 2, this.height / 2, 60));
    });
    for (const button of frame.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => {
        if (button.dataset.zoom === "fit") this.fit(this.whole);
        else this.zoom(Number(button.dataset.zoom));
      });
    }
  }
}
