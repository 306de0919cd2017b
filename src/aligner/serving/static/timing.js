// Where the time of an answer went.

import { el, svg } from "./dom.js";

const STAGES = [
  ["upstream", "upstream", 1],
  ["queue", "queue", 6],
  ["read", "reading", 3],
  ["verify", "verifying", 4],
  ["edit", "editing", 2],
  ["overhead", "overhead", 5],
];

/** 812 ms, 4.2 s. */
export function told(seconds) {
  if (seconds >= 1) return `${Number(seconds.toFixed(seconds < 10 ? 2 : 1))} s`;
  const milliseconds = 1000 * seconds;
  return `${Number(milliseconds.toFixed(milliseconds < 10 ? 1 : 0))} ms`;
}

/** A bar of the stages, and the same as a list. */
export function timeBar(seconds) {
  const spent = STAGES.filter(([stage]) => typeof seconds[stage] === "number");
  const total = spent.reduce((sum, [stage]) => sum + seconds[stage], 0) || 1;
  let from = 0;
  const bars = spent.map(([stage, , kind]) => {
    const width = (1000 * seconds[stage]) / total;
    from += width;
    return svg("rect", { class: `kind kind-${kind}`, x: from - width, y: 0, width, height: 10 });
  });
  const items = spent.map(([stage, label, kind]) =>
    el(
      "li",
      {},
      el("span", { class: `swatch kind kind-${kind}`, "aria-hidden": "true" }),
      `${label} ${told(seconds[stage])}`,
    ),
  );
  return el(
    "div",
    { class: "times" },
    svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" }, ...bars),
    el("ul", { class: "legend", "aria-label": "Time spent" }, ...items),
  );
}
