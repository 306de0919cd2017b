// Elements are made here and nowhere else. Text goes in as text, and no attribute that could run or load anything.

const SVG = "http://www.w3.org/2000/svg";
const BARRED = /^(on|style|href|src|xlink|action|formaction)/i;

/** An element with attributes and children; children are elements or texts of our own. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for the elements of SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (BARRED.test(name)) throw new Error(`no attribute to be set: ${name}`);
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A button of ours. */
export function button(label, press, attributes = {}) {
  const made = el("button", { type: "button", class: "button", ...attributes }, label);
  made.addEventListener("click", press);
  return made;
}

/** A label around what it names. */
export function labelled(id, label, control, hint) {
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  const told = hint && el("span", { class: "hint", id: `${id}-hint` }, hint);
  return el("div", { class: "field" }, el("label", { for: id }, label), control, told);
}

/** The element of that id, which the page's template has. */
export function at(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page lacks #${id}`);
  return found;
}

/** Say something to who cannot see that it happened. */
export function announce(message) {
  at("said").textContent = message;
}

let numbers = 0;

/** An id that no other element has. */
export function fresh(prefix) {
  numbers += 1;
  return `${prefix}-${numbers}`;
}
