// The Aligner's doubt over the words of an answer.

import { el } from "./dom.js";
import { shown, write } from "./text.js";

// From which probability on a word has which colour.
const STEPS = [0.02, 0.1, 0.25, 0.5, 0.75];

const percent = (share) => `${share > 0 && share < 0.01 ? "<1" : Math.round(100 * share)} %`;

/** The words with what stands between them, and for each the greatest doubt of its tokens. */
export function words(answer, doubt) {
  const found = [];
  let at = 0;
  let token = 0;
  for (const piece of answer.match(/\s+|[^\s]+/gu) ?? []) {
    const end = at + Array.from(piece).length;
    let most = 0;
    while (token < doubt.length && doubt[token][1] <= at) token += 1;
    for (let each = token; each < doubt.length && doubt[each][0] < end; each += 1)
      most = Math.max(most, doubt[each][2]);
    found.push({ text: piece, doubt: piece.trim() ? most : 0 });
    at = end;
  }
  return found;
}

const step = (share) => STEPS.filter((least) => share >= least).length;

/** Fill an element with the answer, its words coloured. */
export function drawHeat(element, answer, doubt) {
  element.replaceChildren();
  let calm = "";
  for (const word of words(answer, doubt)) {
    if (step(word.doubt) === 0) {
      calm += word.text;
      continue;
    }
    write(element, calm);
    calm = "";
    const title = `The Aligner would change this with probability ${percent(word.doubt)}`;
    element.append(write(el("span", { class: `heat heat-${step(word.doubt)}`, title }), word.text));
  }
  write(element, calm);
}

/** What the colours mean, and the same in words. */
export function legend(answer, doubt) {
  const swatches = ["under 2 %", "2 %", "10 %", "25 %", "50 %", "75 % and more"].map((label, level) =>
    el("span", {}, el("span", { class: `swatch heat heat-${level}`, "aria-hidden": "true" }), label),
  );
  const most = words(answer, doubt)
    .filter((word) => step(word.doubt) > 0)
    .sort((one, other) => other.doubt - one.doubt)
    .slice(0, 5)
    .map((word) => `“${shown(word.text)}” ${percent(word.doubt)}`);
  const told = most.length ? `Most doubted: ${most.join(", ")}.` : "No word is doubted by more than 2 %.";
  return el(
    "div",
    { class: "stack tight" },
    el("div", { class: "legend" }, el("span", {}, "Would be changed with probability:"), ...swatches),
    el("p", { class: "small muted text" }, told),
  );
}
