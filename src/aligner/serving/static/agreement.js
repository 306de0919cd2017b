// How far reviewers agree.

import { el } from "./dom.js";
import { textual } from "./text.js";

const figure = (value) => (Number.isFinite(value) ? value.toFixed(2) : "–");

/** A table of pairs of reviewers, and one figure for all of them. */
export function agreementTable({ reviewed, twice, pairs, alpha }) {
  const told = `${reviewed} ${reviewed === 1 ? "correction" : "corrections"} reviewed, ${twice} of them by two or more.`;
  if (!pairs.length) {
    return el(
      "p",
      { class: "muted small" },
      `${told} Figures come with second votes: filter by “by one, wants a second vote”.`,
    );
  }
  const head = ["Reviewers", "Both judged", "Agree", "Cohen’s kappa"].map((label, i) =>
    el("th", { scope: "col", class: i ? "number" : "" }, label),
  );
  const lines = pairs.map(({ a, b, both, agree, kappa }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, textual("bdi", named(a)), " and ", textual("bdi", named(b))),
      el("td", { class: "number" }, both),
      el("td", { class: "number" }, `${Math.round(100 * agree)} %`),
      el("td", { class: "number" }, figure(kappa)),
    ),
  );
  const caption = `${told} Krippendorff’s alpha over all reviewers: ${figure(alpha)}; 1 is full agreement, 0 is chance.`;
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": "Agreement" },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...lines)),
  );
}

function named(reviewer) {
  const names = typeof reviewer === "string" ? [reviewer] : Object.values(reviewer ?? {});
  return names.filter(Boolean).join(" / ") || "nobody by name";
}
