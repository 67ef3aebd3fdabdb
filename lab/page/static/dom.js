// Elements, made and changed in a few ways. Text is only ever set as text: names of workers and
// samples of a model may hold anything.

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}

/** @typedef {Node|string|number|null|undefined|false} Child */

/**
 * @param {string} tag @param {Object<string, *>} [attributes] @param {...Child} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * @param {string} tag @param {Object<string, *>} [attributes] @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Sets the text of an element, if it is another one. @param {Element} element @param {string|number} text */
export function say(element, text) {
  const now = String(text);
  if (element.textContent !== now) element.textContent = now;
}

/** @param {Element} element @param {string} name @param {?(string|number)} value null: none */
export function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/**
 * Makes the children of a parent those of the keys, keeping what is there: nothing that has the
 * focus is lost when a table changes.
 * @template T
 * @param {Element} parent @param {readonly T[]} items
 * @param {{key: (item: T) => string, make: (item: T) => Element, update?: (element: Element, item: T) => void}} how
 */
export function keyed(parent, items, { key, make, update }) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = old.get(name);
    if (child) old.delete(name);
    else {
      child = make(item);
      child.dataset.key = name;
    }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
    if (update) update(child, item);
  }
  for (const child of old.values()) child.remove();
}

/**
 * @param {string} caption @param {readonly string[]} heads those that end with a # are numbers
 * @param {readonly (readonly Child[])[]} rows
 * @returns {HTMLElement} a table
 */
export function table(caption, heads, rows) {
  const numeric = heads.map((head) => head.endsWith("#"));
  const cell = (tag, text, at, more = {}) => el(tag, { ...more, class: numeric[at] ? "number" : null }, text);
  return el(
    "table",
    {},
    caption && el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head, at) => cell("th", head.replace(/#$/, ""), at, { scope: "col" })))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((text, at) => cell("td", text, at))))),
  );
}

/**
 * A table behind a drawing, made when somebody opens it.
 * @param {string} title @param {() => HTMLElement} make
 * @returns {{element: HTMLElement, refresh: () => void}} refresh makes it anew if it is open
 */
export function tableBehind(title, make) {
  const place = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title });
  const element = el("details", { class: "behind" }, el("summary", {}, title), place);
  let last = -Infinity;
  const refresh = () => {
    if (!element.open || performance.now() - last < 1000) return;
    last = performance.now();
    place.replaceChildren(make());
  };
  element.addEventListener("toggle", () => {
    last = -Infinity;
    refresh();
  });
  return { element, refresh };
}

/** @param {string} name of a CSS variable, without its dashes @returns {string} */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
