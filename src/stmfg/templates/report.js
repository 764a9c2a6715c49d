"use strict";
// Without this script the page still shows everything; with it, domains can be hidden and shown.
(() => {
  const buttons = [...document.querySelectorAll("button[data-toggle]")];

  const show = (button, on) => {
    button.setAttribute("aria-pressed", String(on));
    for (const part of document.querySelectorAll(`[data-domain="${button.dataset.toggle}"]`)) {
      part.toggleAttribute("hidden", !on);
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => show(button, button.getAttribute("aria-pressed") !== "true"));
  }
  for (const button of document.querySelectorAll("button[data-all]")) {
    button.addEventListener("click", () => buttons.forEach((other) => show(other, button.dataset.all === "true")));
  }

  const slider = document.querySelector("#opacity");
  slider?.addEventListener("input", () => {
    document.querySelector("#domain-map")?.style.setProperty("--spots", String(slider.valueAsNumber / 100));
  });

  for (const part of document.querySelectorAll(".controls")) {
    part.toggleAttribute("hidden", false);
  }
})();
