// Text of models and people is hostile: it is shown as it is, and signs that cannot be seen are made visible.

import { el } from "./dom.js";

// Control characters but for tab and newline, marks and overrides of direction, characters without width, tags, halves
// of pairs. Joiners stay: scripts and emoji need them.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}\p{Cs}]+/gu;

/** What stands for a sign that cannot be seen: ␀, or ⟦U+202E⟧. */
export function picture(sign) {
  const code = sign.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "␡";
  return `⟦U+${code.toString(16).toUpperCase().padStart(4, "0")}⟧`;
}

/** A text with all of its signs visible, for titles and options. */
export function shown(text) {
  return text.replace(HIDDEN, (run) => Array.from(run, picture).join(""));
}

/** Append a text to an element, all of its signs visible. */
export function write(element, text) {
  let from = 0;
  for (const found of text.matchAll(HIDDEN)) {
    if (found.index > from) element.append(text.slice(from, found.index));
    element.append(el("span", { class: "sign" }, Array.from(found[0], picture).join("")));
    from = found.index + found[0].length;
  }
  if (from < text.length) element.append(from ? text.slice(from) : text);
  return element;
}

/** An element that holds a text, which has a direction of its own. */
export function textual(name, text, attributes = {}) {
  return write(el(name, { dir: "auto", ...attributes }), text);
}

/** Slices of a text by code points, as the server counts characters. */
export function slicer(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (start, end) => text.slice(start, end);
  const points = Array.from(text);
  return (start, end) => points.slice(start, end).join("");
}

/** The beginning of a text, on one line. */
export function excerpt(text, most = 160) {
  const line = text
    .slice(0, 4 * most)
    .replace(/\s+/g, " ")
    .trim();
  return line.length > most || text.length > 4 * most
    ? `${line.slice(0, most).replace(/[\ud800-\udbff]$/, "")}…`
    : line;
}

/** Text that grows in an element piece by piece, drawn once a frame, and long ones less often. */
export class Growing {
  #element;
  #pieces = [];
  #drawn = 0;
  #timer = 0;

  constructor(element) {
    this.#element = element;
  }

  add(piece) {
    this.#pieces.push(piece);
    this.#timer ||= setTimeout(() => this.draw(), this.#drawn > 20_000 ? 250 : 16);
  }

  /** Show no more. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#pieces = [];
  }

  /** Show all that has come. */
  draw() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const text = this.#pieces.join("");
    this.#pieces = [];
    this.#drawn += text.length;
    const element = this.#element;
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
    write(element, text);
    if (isAtEnd) element.scrollTop = element.scrollHeight;
  }
}
