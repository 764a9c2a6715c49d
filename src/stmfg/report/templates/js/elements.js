// Small helpers for the elements of the page.

export const find = (selector, within = document) => within.querySelector(selector);
export const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];

/** A new element with attributes and children; a text among them is only ever text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function button(text, click, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", click);
  return made;
}

/** Read something out to those who do not see it. */
export function tell(sentence) {
  find("#told").textContent = sentence;
}

/** Say that something did not work, where everyone sees it; "" takes the sentence away. */
export function complain(sentence) {
  const place = find("#complaint");
  place.hidden = !sentence;
  place.textContent = sentence;
}

/** Give the reader a file. */
export function download(name, content, type = "text/plain") {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = element("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A name of a file out of any words. */
export function fileName(...words) {
  return words
    .join(" ")
    .normalize("NFKD")
    .replace(/[^\w.+-]+/g, "-")
    .replace(/^[-.]+|-+$/g, "")
    .slice(0, 80);
}
