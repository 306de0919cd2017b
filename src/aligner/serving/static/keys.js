// Single keys do what buttons do, but not while somebody writes, and not for those who have turned them off.

import { at } from "./dom.js";

const SETTING = "aligner.keys";
const WRITES = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable], dialog";

const isOn = () => localStorage.getItem(SETTING) !== "off";

/** Listen for keys: {key: action}. */
export function keys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (event.target.closest(WRITES)) return;
    const action = event.key === "?" ? help : isOn() ? actions[event.key.toLowerCase()] : undefined;
    if (!action) return;
    event.preventDefault();
    action();
  });
  at("keys-open").addEventListener("click", help);
  at("keys-on").checked = isOn();
  at("keys-on").addEventListener("change", (event) => {
    localStorage.setItem(SETTING, event.target.checked ? "on" : "off");
  });
}

function help() {
  at("keys").showModal();
}
