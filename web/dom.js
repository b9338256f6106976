// Small helpers around the DOM: building elements, and writing to them only when something changed.

/** The element with this id; every id used is in index.html. */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Builds an element. Properties are set as DOM properties, except `data` (dataset entries) and
 * names that contain a hyphen or `role` (attributes).
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(node.dataset, value);
    else if (name === "role" || name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** Builds an SVG element with attributes. */
export function svgElement(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets the text of `node` if it differs; says whether it did. */
export function setText(node, text) {
  if (node.textContent === text) return false;
  node.textContent = text;
  return true;
}

/** Sets one attribute of `node` if it differs. */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Says `text` to assistive technology, politely. */
export function announce(text) {
  byId("announce").textContent = text;
}

const stillness = window.matchMedia("(prefers-reduced-motion: reduce)");

/** Whether the visitor asked for less motion. */
export function prefersStillness() {
  return stillness.matches;
}

/** Lets a changed value light up and fade, unless the visitor asked for less motion. */
export function highlight(node) {
  if (prefersStillness()) return;
  const accent = getComputedStyle(node).getPropertyValue("--accent");
  node.animate([{ color: accent }, {}], { duration: 1100, easing: "ease-out" });
}

/** Marks a changed cell for a moment; without motion where the visitor asked for less. */
export function flash(node) {
  const style = getComputedStyle(node);
  const marked = {
    backgroundColor: style.getPropertyValue("--accent-wash"),
    color: style.getPropertyValue("--accent"),
  };
  const still = prefersStillness();
  node.animate(still ? [marked, marked] : [marked, { ...marked, offset: 0.3 }, {}], { duration: still ? 1500 : 2400 });
}

/** Whether the focus is inside `node`. */
export function holdsFocus(node) {
  return node.contains(document.activeElement);
}
