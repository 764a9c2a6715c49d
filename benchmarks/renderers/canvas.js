import { table } from "../../src/stmfg/report/templates/js/colours.js";
import { Surface } from "../../src/stmfg/report/templates/js/draw.js";
import { COLOURS, frames } from "./frames.js";

window.measure = (n) => {
  const random = () => Uint16Array.from({ length: n }, () => 65535 * Math.random());
  const cloud = { x: random(), y: random(), diameter: 65535 / 400, square: false };
  const codes = Uint16Array.from({ length: n }, (_, i) => i % 7);
  const paint = { codes, values: codes, shown: new Uint8Array(7).fill(1), bright: table(COLOURS), faint: table(COLOURS), order: null };
  const surface = new Surface(800, 800, 1);
  const context = document.querySelector("canvas").getContext("2d");
  return frames((k) => {
    surface.draw(cloud, paint, { k: 800 / 65535, tx: k, ty: 0 }, false);
    surface.put(context);
  });
};
