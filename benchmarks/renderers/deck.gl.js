import { Deck, OrthographicView } from "@deck.gl/core";
import { ScatterplotLayer } from "@deck.gl/layers";
import { COLOURS, frames } from "./frames.js";

window.measure = async (n) => {
  const places = Float32Array.from({ length: 3 * n }, (_, i) => (i % 3 === 2 ? 0 : 800 * Math.random()));
  const shades = COLOURS.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const colours = Uint8Array.from({ length: 4 * n }, (_, i) => (i % 4 === 3 ? 255 : shades[(i >> 2) % 7][i % 4]));
  const layers = [
    new ScatterplotLayer({
      id: "spots",
      data: { length: n, attributes: { getPosition: { value: places, size: 3 }, getFillColor: { value: colours, size: 4 } } },
      getRadius: 1,
      radiusMinPixels: 1,
    }),
  ];
  const deck = new Deck({
    canvas: document.querySelector("canvas"),
    width: 800,
    height: 800,
    views: new OrthographicView(),
    initialViewState: { target: [400, 400, 0], zoom: 0 },
    layers,
  });
  return frames(
    (k) =>
      new Promise((done) => {
        deck.setProps({ initialViewState: { target: [400 + k, 400, 0], zoom: 0 }, onAfterRender: done });
      }),
  );
};
