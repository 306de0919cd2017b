// The shadow report: what would change if the Aligner were switched on.

import { get } from "./api.js";
import { Bars } from "./chart.js";
import { draw, joined } from "./diff.js";
import { at, el } from "./dom.js";
import { wanted } from "./filters.js";
import { keys } from "./keys.js";
import { attempt } from "./problems.js";
import { when } from "./queue.js";
import { textual } from "./text.js";
import { told } from "./timing.js";
import { undoLast } from "./toast.js";

const form = at("period");
const share = (value) => (Number.isFinite(value) ? `${Number((100 * value).toFixed(value < 0.1 ? 1 : 0))} %` : "–");
const time = (value) => (Number.isFinite(value) ? told(value) : "–");
const count = (value) => value.toLocaleString("en");
const CHECKS = { pass: ["✓ good", "good"], look: ["! look", "warn"], fail: ["✗ not yet", "bad"] };

async function load() {
  const query = wanted(form);
  at("file").search = query;
  const found = await attempt(at("problems"), () => get(`/v1/aligner/shadow?${query}`));
  at("report").replaceChildren(...(found ? (found.answers ? report(found) : [nothing(found)]) : []));
}

function nothing({ mode }) {
  return el(
    "div",
    { class: "empty" },
    el("h2", {}, `Nothing was logged in mode ${mode}`),
    el(
      "p",
      {},
      "Choose another mode; or start the proxy with --mode shadow and --log corrections.db --log-content full, send it a day of requests, and come back.",
    ),
  );
}

function report(found) {
  const { changed, added, edit_share: edited } = found;
  const between = Number.isFinite(changed.low) ? `95 % interval ${share(changed.low)} to ${share(changed.high)}` : "";
  return [
    el(
      "p",
      { class: "muted small" },
      `${count(found.answers)} answers, from `,
      when(found.first),
      " to ",
      when(found.last),
      ".",
    ),
    el(
      "dl",
      { class: "figures" },
      figure("Would change", share(changed.share), between),
      figure(
        "Edited, of an answer that changes",
        share(edited.p50),
        `half of them less; 90 of 100 less than ${share(edited.p90)}`,
      ),
      figure("Time added", time(added.p50), `half of them less; 90 of 100 less than ${time(added.p90)}`),
      figure("Bypassed", count(sum(found.bypass)), "the Aligner failed"),
    ),
    section("Before you switch it on", checklist(found.checks)),
    ...charts(found),
    section("Largest changes", samples(found.largest), "Those that touch most of an answer."),
    section(
      "Most doubtful changes",
      samples(found.doubtful),
      "Of answers that the Aligner itself thought likely to be right, the likeliest first.",
    ),
  ];
}

const sum = (counts) => Object.values(counts).reduce((total, value) => total + value, 0);

function figure(label, value, of) {
  return el(
    "div",
    { class: "figure card" },
    el("dt", {}, label),
    el("dd", {}, value),
    of ? el("dd", { class: "of" }, of) : null,
  );
}

function section(title, content, lead = null) {
  return el(
    "section",
    { class: "stack tight" },
    el("h2", {}, title),
    lead && el("p", { class: "muted small" }, lead),
    content,
  );
}

function checklist(checks) {
  const lines = checks.map(({ question, figure: is, state, wanted }) => {
    const [label, kind] = CHECKS[state] ?? [state, ""];
    const said = el(
      "div",
      {},
      el("div", {}, question),
      el("div", { class: "small muted" }, `${is}; wanted: ${wanted}`),
    );
    return el("li", {}, el("span", { class: `badge ${kind}` }, label), said);
  });
  return el("ul", { class: "checklist card" }, ...lines);
}

function charts(found) {
  const edits = new Bars(
    "How much is edited",
    "changes by the share of the answer that they touch",
    count,
    "Nothing would change.",
  );
  edits.draw(grouped(found.histogram));
  const reasons = [
    ["skipped", found.skipped],
    ["bypassed", found.bypass],
    ["kept", found.kept],
  ];
  const passed = new Bars(
    "Passed on as it was",
    "by reason",
    count,
    "None: every answer was read, and could be changed.",
  );
  passed.draw(
    reasons.flatMap(([what, counts]) => Object.entries(counts).map(([why, value]) => [`${what}: ${why}`, value])),
    () => 5,
  );
  const answers = new Bars("Where the answers come from", "by upstream and model", count, "");
  answers.draw(Object.entries(found.upstreams), () => 3);
  return [el("div", { class: "charts" }, edits.element, passed.element, answers.element)];
}

/** Twenty bins as five, which can be read. */
function grouped(histogram) {
  const each = histogram.length / 5;
  return [0, 1, 2, 3, 4].map((bin) => [
    `${20 * bin} to ${20 * (bin + 1)} %`,
    histogram.slice(each * bin, each * (bin + 1)).reduce((a, b) => a + b, 0),
  ]);
}

function samples(found) {
  if (!found.length)
    return el("p", { class: "muted small" }, "There are none; texts are only kept with --log-content full.");
  return el("ol", { class: "samples" }, ...found.map(sample));
}

const KINDS = { same: "same", gone: "del", new: "ins" };

function sample({ created, model, upstream, edit_share: edited, confidence, question, pieces }) {
  const text = el("div", { class: "text", dir: "auto" });
  let run = [];
  const drawRun = () => {
    text.append(draw(el("span"), joined(run), ["del", "ins"]));
    run = [];
  };
  for (const [kind, piece] of pieces) {
    if (kind in KINDS) {
      run.push({ kind: KINDS[kind], text: piece });
      continue;
    }
    drawRun();
    text.append(el("span", { class: "muted" }, piece));
  }
  drawRun();
  const sure = Number.isFinite(confidence) ? `${share(confidence)} sure of the original` : null;
  return el(
    "li",
    { class: "card stack tight" },
    el(
      "div",
      { class: "row small muted" },
      el("span", { class: "badge warn" }, `${share(edited)} edited`),
      sure,
      textual("bdi", model || upstream),
      when(created),
    ),
    textual("p", question, { class: "text question" }),
    text,
  );
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
keys({ u: undoLast });
load();
