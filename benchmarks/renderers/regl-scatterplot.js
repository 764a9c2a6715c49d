import createScatterplot from "regl-scatterplot";
import { COLOURS, frames } from "./frames.js";

window.measure = async (n) => {
  const canvas = document.querySelector("canvas");
  const plot = createScatterplot({ canvas, width: 800, height: 800, pointSize: 2 });
  plot.set({ colorBy: "category", pointColor: COLOURS });
  await plot.draw(Array.from({ length: n }, (_, i) => [2 * Math.random() - 1, 2 * Math.random() - 1, i % 7]));
  const gl = canvas.getContext("webgl") ?? canvas.getContext("webgl2");
  return frames(async (k) => {
    await plot.set({ cameraTarget: [0.01 * k, 0] });
    gl?.finish();
  });
};
