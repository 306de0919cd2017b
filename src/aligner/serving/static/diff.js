// What a correction changed, word by word.

import { el } from "./dom.js";
import { slicer, textual, write } from "./text.js";

/** Parts of answer and correction: {kind: "same" | "del" | "ins", text}. */
export function parts(answer, edits) {
  const cut = slicer(answer);
  const found = [];
  let from = 0;
  for (const [start, end, text] of edits) {
    found.push({ kind: "same", text: cut(from, start) }, { kind: "del", text: cut(start, end) }, { kind: "ins", text });
    from = end;
  }
  found.push({ kind: "same", text: cut(from, undefined) });
  return joined(found.filter((part) => part.text));
}

/** The same with changes between which there is nothing but spaces as one: that reads better. */
export function joined(all) {
  const found = [];
  let change = { del: "", ins: "" };
  const close = () => {
    for (const kind of ["del", "ins"]) if (change[kind]) found.push({ kind, text: change[kind] });
    change = { del: "", ins: "" };
  };
  all.forEach(({ kind, text }, i) => {
    const isBetween = (change.del || change.ins) && i + 1 < all.length && !text.trim() && !text.includes("\n");
    if (kind !== "same") change[kind] += text;
    else if (isBetween) for (const each of ["del", "ins"]) change[each] += text;
    else {
      close();
      found.push({ kind, text });
    }
  });
  close();
  return found;
}

const SAID = { del: ["−", "removed: "], ins: ["+", "added: "] };

function change({ kind, text }) {
  const [sign, said] = SAID[kind];
  const mark = el("span", { class: "mark", "aria-hidden": "true" }, sign);
  return write(el(kind, {}, mark, el("span", { class: "unseen" }, said)), text);
}

/** Fill an element with the parts of these kinds. */
export function draw(element, all, kinds) {
  element.replaceChildren();
  for (const part of all) {
    if (part.kind === "same") write(element, part.text);
    else if (kinds.includes(part.kind)) element.append(change(part));
  }
  return element;
}

/** "copied verbatim", or how much was changed. */
export function badge({ answer, changed, edit_share: share, edits }) {
  if (!changed) return el("span", { class: "badge good" }, "✓ copied verbatim");
  const shown = parts(answer, edits ?? []);
  const count = shown.filter(({ kind }, i) => kind !== "same" && (i === 0 || shown[i - 1].kind === "same")).length;
  const much = share < 0.005 ? "under 1" : Math.round(100 * share);
  const places = count ? `, ${count} ${count === 1 ? "change" : "changes"}` : "";
  return el("span", { class: "badge warn" }, `${much} % edited${places}`);
}

/** Answer and correction beside one another, or in one text; `view` is "side" or "inline". */
export function panes(answer, edits, view) {
  const all = parts(answer, edits);
  const one = (title, kinds) =>
    el(
      "section",
      { class: "pane" },
      el("header", {}, el("h3", {}, title)),
      draw(textual("div", "", { class: "text", tabindex: "0", role: "group", "aria-label": title }), all, kinds),
    );
  if (view === "inline") return el("div", { class: "panes one" }, one("Changes", ["del", "ins"]));
  return el("div", { class: "panes" }, one("Original", ["del"]), one("Correction", ["ins"]));
}
