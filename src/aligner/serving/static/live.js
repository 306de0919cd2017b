// The live page: reads the proxy's metrics every few seconds while it is looked at, and draws them.

import { request } from "./api.js";
import { Bars, Lines } from "./chart.js";
import { at, el } from "./dom.js";
import { keys } from "./keys.js";
import { problemNote } from "./problems.js";
import { Reading, growth, quantile } from "./prometheus.js";
import { told } from "./timing.js";
import { undoLast } from "./toast.js";

const SECONDS = 5;
const KEPT = 180;
const WINDOW = 12;
const STAGES = {
  upstream: "upstream",
  queue: "queue",
  read: "reading",
  verify: "verifying",
  edit: "editing",
  overhead: "overhead",
};
const BREAKERS = { 0: ["closed", "good"], 0.5: ["half-open", "warn"], 1: ["open", "bad"] };

const share = (value) => `${value > 0 && value < 0.1 ? (100 * value).toFixed(1) : Math.round(100 * value)} %`;
const count = (value) => (value >= 10_000 ? `${(value / 1000).toFixed(1)} k` : value.toLocaleString("en"));
const rate = (value) => `${Number(value.toFixed(value < 10 ? 1 : 0))}/s`;
const whole = (value) => String(Math.round(value));

const charts = {
  requests: new Lines("Requests", "a second, by their end", rate),
  shares: new Lines("Changed", "share of the answers that were read", share, 1),
  doubt: new Lines("Doubt", "that an answer can stay as it is", share, 1),
  p50: new Lines("Time, p50", "half of the answers take no longer", told),
  p95: new Lines("Time, p95", "95 of 100 answers take no longer", told),
  load: new Lines("Load", "requests being answered, corrections that wait", whole, 5),
  passed: new Bars(
    "Passed on uncorrected",
    "since the start: skipped on purpose, or bypassed after a failure",
    count,
    "None: every answer was read.",
  ),
};
const readings = [];
let isPaused = false;
let timer = 0;

/** Values of a figure for each reading, from what came in the minute before it. */
function series(figure) {
  return readings.map((after, i) => (i ? figure(readings[Math.max(0, i - WINDOW)], after) : null));
}

function labels(name, label) {
  return [...new Set(readings.flatMap((reading) => [...reading.by(name, label).keys()]))].sort();
}

function draw() {
  const times = readings.map(({ time }) => time);
  const last = readings.at(-1);
  const perSecond = (name, wanted) => (before, after) =>
    growth(before, after, name, wanted) / (after.time - before.time);
  charts.requests.draw(
    times,
    labels("aligner_requests_total", "outcome").map((outcome) => ({
      label: outcome,
      values: series(perSecond("aligner_requests_total", { outcome })),
    })),
  );
  charts.shares.draw(times, [{ label: "changed", values: series(changedShare) }]);
  charts.doubt.draw(
    times,
    [
      ["p50", 0.5],
      ["p95", 0.95],
    ].map(([label, part]) => ({ label, values: series((b, a) => quantile(part, b, a, "aligner_doubt", {})) })),
  );
  charts.doubt.element.hidden = !last.has("aligner_doubt_bucket");
  for (const [name, part] of [
    ["p50", 0.5],
    ["p95", 0.95],
  ]) {
    const stages = Object.entries(STAGES).map(([stage, label]) => ({
      label,
      values: series((b, a) => quantile(part, b, a, "aligner_stage_seconds", { stage })),
    }));
    charts[name].draw(times, stages);
  }
  charts.load.draw(
    times,
    [
      ["in flight", "aligner_in_flight"],
      ["waiting", "aligner_queue_depth"],
    ].map(([label, name]) => ({ label, values: readings.map((reading) => reading.sum(name)) })),
  );
  const passed = [
    ["skipped", "skipped"],
    ["bypassed", "bypassed"],
  ].flatMap(([result]) =>
    [...last.by("aligner_corrections_total", "reason", { result })].map(([reason, value]) => [
      `${result}: ${reason}`,
      value,
    ]),
  );
  charts.passed.draw(
    passed.sort(([, one], [, other]) => other - one),
    (label) => (label.startsWith("skipped") ? 5 : 2),
  );
  totals(last);
}

function changedShare(before, after) {
  const changed = growth(before, after, "aligner_corrections_total", { result: "changed" });
  const copied = growth(before, after, "aligner_corrections_total", { result: "copied" });
  return changed + copied ? changed / (changed + copied) : null;
}

function totals(last) {
  const result = (name) => last.sum("aligner_corrections_total", { result: name });
  const [changed, read] = [result("changed"), result("changed") + result("copied")];
  const dropped = last.sum("aligner_log_dropped");
  const breakers = [...last.by("aligner_breaker_state", "of")].map(([of, state]) => {
    const [label, kind] = BREAKERS[state] ?? [String(state), ""];
    return el(
      "span",
      { class: "row" },
      el("span", { class: "small" }, of),
      el("span", { class: `badge ${kind}` }, label),
    );
  });
  at("totals").replaceChildren(
    figure("Requests", count(last.sum("aligner_requests_total")), "since the start"),
    figure("Changed", read ? share(changed / read) : "–", `${count(changed)} of ${count(read)} answers read`),
    figure("Bypassed", count(result("bypassed")), "the Aligner failed, and the original was sent"),
    figure(
      "Log rows lost",
      count(dropped),
      dropped ? "the log could not take them: is its disk full?" : "the log takes all",
    ),
    figure("Breakers", el("span", { class: "stack tight breakers" }, ...breakers), ""),
  );
}

function figure(label, value, of) {
  return el(
    "div",
    { class: "figure card" },
    el("dt", {}, label),
    el("dd", {}, value),
    of ? el("dd", { class: "of" }, of) : null,
  );
}

async function read() {
  try {
    const response = await request("/metrics");
    readings.push(new Reading(await response.text(), Date.now() / 1000));
    if (readings.length > KEPT) readings.shift();
    at("problems").replaceChildren();
    draw();
  } catch (problem) {
    at("problems").replaceChildren(problemNote(problem));
  }
}

/** Read now and from then on, unless nobody looks. */
async function run() {
  clearTimeout(timer);
  const isOff = isPaused || document.hidden;
  at("pace").textContent = isPaused
    ? "Paused."
    : `Read every ${SECONDS} seconds while you look; rates are of the last minute.`;
  if (isOff) return;
  await read();
  clearTimeout(timer);
  timer = setTimeout(run, 1000 * SECONDS);
}

at("charts").append(...Object.values(charts).map(({ element }) => element));
at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  at("pause").setAttribute("aria-pressed", String(isPaused));
  run();
});
document.addEventListener("visibilitychange", run);
keys({ u: undoLast });
run();
