// How long a frame takes: `draw(k)` draws the k-th and resolves when it is on the screen.
export async function frames(draw, n = 12) {
  const times = [];
  for (let k = 0; k < n; k++) {
    const start = performance.now();
    await draw(k);
    await new Promise((done) => requestAnimationFrame(done));
    times.push(performance.now() - start);
  }
  return times.slice(2);
}

export const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];
