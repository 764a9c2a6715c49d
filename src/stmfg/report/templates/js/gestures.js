// What pointer, fingers, wheel and keys do on a map.

const CORNER = 4; // pixels that a pointer must move to be dragged, or to be a new corner of a lasso

function drag(map) {
  const { canvas, frame } = map;
  const pointers = new Map();
  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const trace = (now) => {
    const place = map.place(...now);
    if (map.tool === "rectangle") map.trace = [map.trace[0], place];
    else if (Math.hypot(...map.last.map((v, i) => v - now[i])) > CORNER) {
      map.trace.push(place);
      map.last = now;
    }
    map.drawSketch();
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.target !== canvas || event.button > 0) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    map.moved = false;
    if (map.tool !== "move") {
      map.cursor = null;
      map.last = at(event);
      map.trace = [map.place(...map.last)];
      map.point(-1);
    }
  });
  frame.addEventListener("pointermove", (event) => {
    const now = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.target === canvas && event.pointerType !== "touch") map.point(map.spotAt(...now));
      return;
    }
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (!map.moved && Math.hypot(dx, dy) < CORNER) return;
    map.moved = true;
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (map.tool !== "move" && others.length === 0) return trace(now);
    pointers.set(event.pointerId, now);
    if (others.length === 0) {
      frame.classList.add("dragged");
      map.pan(dx, dy);
    } else {
      map.trace = [];
      const [other] = others;
      const distance = (p) => Math.max(Math.hypot(p[0] - other[0], p[1] - other[1]), 1);
      map.pan(dx / 2, dy / 2);
      map.zoom(distance(now) / distance(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
  });
  const end = (event) => {
    if (pointers.delete(event.pointerId) && event.type === "pointerup") {
      if (!map.moved) map.point(map.spotAt(...at(event), 12));
      else if (map.trace.length > 1) map.close();
    }
    map.trace = [];
    map.drawSketch();
    frame.classList.toggle("dragged", pointers.size > 0);
  };
  frame.addEventListener("pointerup", end);
  frame.addEventListener("pointercancel", end);
  frame.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") map.point(-1);
  });
  canvas.addEventListener("dblclick", (event) => map.tool === "move" && map.isolate(map.spotAt(...at(event), 30)));
  canvas.addEventListener(
    "wheel",
    (event) => {
      // The page goes on scrolling under a pointer that only happens to be here.
      if (!event.ctrlKey && document.activeElement !== canvas) return;
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1;
      map.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
    },
    { passive: false },
  );
}

/** Keys that draw: arrows move a cross, Enter puts a corner there, Enter on the last corner closes a lasso. */
function drawByKey(map, event) {
  const step = event.shiftKey ? 2 : 16;
  map.cursor ??= [map.width / 2, map.height / 2];
  const [x, y] = map.cursor;
  const inside = (v, top) => Math.min(Math.max(v, 0), top);
  const move = (dx, dy) => {
    map.cursor = [inside(x + dx * step, map.width), inside(y + dy * step, map.height)];
  };
  const put = () => {
    const place = map.place(x, y);
    const last = map.trace.at(-1);
    const same = last && Math.hypot(last[0] - place[0], last[1] - place[1]) * map.view.k < 1;
    if (same && map.tool === "lasso") return map.close();
    map.trace.push(place);
    if (map.tool === "rectangle" && map.trace.length === 2) map.close();
    else map.told(`Corner ${map.trace.length}`);
  };
  const keys = {
    ArrowLeft: () => move(-1, 0),
    ArrowRight: () => move(1, 0),
    ArrowUp: () => move(0, -1),
    ArrowDown: () => move(0, 1),
    Enter: put,
    " ": put,
    Escape: () => (map.trace.length ? (map.trace = []) : map.use("move")),
  };
  if (!(event.key in keys)) return false;
  event.preventDefault();
  keys[event.key]();
  map.drawSketch();
  return true;
}

/** Let a map be moved, looked at and drawn on. */
export function listen(map) {
  const { canvas, frame } = map;
  drag(map);
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (map.tool !== "move" && drawByKey(map, event)) return;
    const step = 0.12 * Math.min(map.width, map.height);
    const middle = () => map.spotAt(map.width / 2, map.height / 2, 60);
    const keys = {
      ArrowLeft: () => map.pan(step, 0),
      ArrowRight: () => map.pan(-step, 0),
      ArrowUp: () => map.pan(0, step),
      ArrowDown: () => map.pan(0, -step),
      "+": () => map.zoom(1.4),
      "=": () => map.zoom(1.4),
      "-": () => map.zoom(1 / 1.4),
      0: () => map.fit(map.whole),
      i: () => map.isolate(map.spot >= 0 ? map.spot : middle()),
      r: () => map.use("rectangle", [map.width / 2, map.height / 2]),
      l: () => map.use("lasso", [map.width / 2, map.height / 2]),
      m: () => map.use("move"),
      Escape: () => {},
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
    // Without a pointer, the spot in the middle is the one to be told about.
    map.point(event.key === "Escape" || map.tool !== "move" ? -1 : middle());
  });
  for (const button of frame.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      if (button.dataset.zoom === "fit") map.fit(map.whole);
      else map.zoom(Number(button.dataset.zoom));
    });
  }
  for (const button of map.tools) {
    button.addEventListener("click", () => {
      map.use(button.dataset.tool);
      if (button.dataset.tool !== "move") canvas.focus();
    });
  }
}
