// One line about what was done, with a way back.

import { at, button, el } from "./dom.js";

const SECONDS = 12;
let undoing = null;
let timer = 0;

/** Say what was done; `undo` takes it back, by the button or by the key u. */
export function toast(message, undo = null) {
  clearTimeout(timer);
  undoing = undo;
  const shown = el("div", { class: "toast" }, el("span", {}, message));
  if (undo) shown.append(button("Undo", undoLast, { "aria-keyshortcuts": "u" }));
  shown.append(button("Close", close, { class: "button", "aria-label": "Close this message" }));
  at("toasts").replaceChildren(shown);
  const wait = () => (timer = setTimeout(close, 1000 * SECONDS));
  for (const stays of ["pointerenter", "focusin"]) shown.addEventListener(stays, () => clearTimeout(timer));
  for (const goes of ["pointerleave", "focusout"]) shown.addEventListener(goes, wait);
  wait();
}

function close() {
  clearTimeout(timer);
  at("toasts").replaceChildren();
}

/** Take back what was done last, if that can be. */
export function undoLast() {
  const last = undoing;
  undoing = null;
  close();
  if (last) last();
}
