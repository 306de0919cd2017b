// One line of the review queue.

import { badge } from "./diff.js";
import { button, el } from "./dom.js";
import { excerpt, textual } from "./text.js";

const STATES = {
  open: ["not reviewed", ""],
  once: ["one vote", "info"],
  settled: ["agreed", "good"],
  disputed: ["disputed", "bad"],
};

/** How far a correction has been reviewed. */
export function stateBadge(state) {
  const [label, kind] = STATES[state] ?? [state, ""];
  return el("span", { class: `badge ${kind}` }, label);
}

/** 25 Nov 2026, 22:14, in the reader's own way and time; today's in short. */
export function when(seconds) {
  const date = new Date(1000 * seconds);
  const isToday = date.toDateString() === new Date().toDateString();
  const told = date.toLocaleString(undefined, { ...(isToday ? {} : { dateStyle: "medium" }), timeStyle: "short" });
  return el("time", { datetime: date.toISOString() }, told);
}

function badges(row) {
  const { skipped, bypass, state } = row;
  const kept = skipped ? el("span", { class: "badge warn" }, "not corrected") : null;
  const failed = bypass ? el("span", { class: "badge bad" }, "bypassed") : null;
  return [kept ?? failed ?? badge(row), ...(state === "open" ? [] : [stateBadge(state)])];
}

/** A row with its parts: {element, title, box, mark, update}. */
export function queueRow(row, open, picked) {
  const asked = row.question ? excerpt(row.question) : "(no text is kept)";
  const title = button("", open, { class: "title" });
  title.append(textual("span", asked, { class: "text" }));
  const box = el("input", { type: "checkbox", "aria-label": "Select this correction" });
  box.addEventListener("change", picked);
  const marks = el("span", { class: "row" }, ...badges(row));
  const from = el("span", { class: "from" }, textual("bdi", row.model || row.upstream), " ", when(row.created));
  const meta = el("div", { class: "row small muted" }, marks, from);
  const element = el(
    "li",
    { class: "item" },
    el("label", { class: "pick" }, box),
    el("div", { class: "what" }, title, meta),
  );
  return {
    element,
    title,
    box,
    mark: (is) => (is ? title.setAttribute("aria-current", "true") : title.removeAttribute("aria-current")),
    update: (changed) => marks.replaceChildren(...badges(changed)),
  };
}
