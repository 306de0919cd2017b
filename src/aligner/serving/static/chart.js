// Charts of our own: lines over time and bars, each with a table that says the same.

import { el, fresh, svg } from "./dom.js";
import { shown } from "./text.js";

const [WIDTH, HEIGHT] = [600, 160];

/** The first of 1, 2, 5, 10, 20, … that is not below. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

class Chart {
  constructor(title, hint) {
    const id = fresh("chart");
    this.legend = el("ul", { class: "legend" });
    this.plot = el("div", { class: "plot" });
    this.table = el("table", {}, el("caption", { class: "unseen" }, title), el("thead"), el("tbody"));
    this.more = el(
      "details",
      {},
      el("summary", {}, "As a table"),
      el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, this.table),
    );
    this.more.addEventListener("toggle", () => this.drawTable?.());
    const caption = el("figcaption", { id }, el("h2", {}, title), el("p", { class: "small muted" }, hint));
    this.element = el(
      "figure",
      { class: "card stack tight chart", "aria-labelledby": id },
      caption,
      this.plot,
      this.legend,
      this.more,
    );
  }

  fill(head, lines) {
    const [top, body] = [this.table.tHead, this.table.tBodies[0]];
    top.replaceChildren(
      el("tr", {}, ...head.map((label, i) => el("th", { scope: "col", class: i ? "number" : "" }, label))),
    );
    body.replaceChildren(
      ...lines.map(([first, ...rest]) =>
        el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", { class: "number" }, cell))),
      ),
    );
  }
}

/** Lines over time. */
export class Lines extends Chart {
  /** `format` makes text of a value; `top` is the least height of the scale. */
  constructor(title, hint, format, top = 0) {
    super(title, hint);
    this.format = format;
    this.top = top;
    this.high = el("span");
    this.from = el("span");
    this.nothing = el("p", { class: "nothing small muted" }, "Nothing came in the last minute.");
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.plot.append(
      el("div", { class: "scale", "aria-hidden": "true" }, this.high, el("span", {}, format(0))),
      this.drawing,
      this.nothing,
      el("div", { class: "span", "aria-hidden": "true" }, this.from, el("span", {}, "now")),
    );
  }

  /** `times` in seconds, and series of {label, values}; a value of null is a gap. */
  draw(times, series) {
    const high = roundUp(Math.max(this.top, ...series.flatMap(({ values }) => values.filter(Number.isFinite))));
    const last = times.at(-1) ?? 0;
    const span = Math.max(last - (times[0] ?? 0), 60);
    const at = (time, value) =>
      `${((1 - (last - time) / span) * WIDTH).toFixed(1)},${(HEIGHT - (value / high) * (HEIGHT - 4) - 2).toFixed(1)}`;
    this.high.textContent = this.format(high);
    this.nothing.hidden = series.some(({ values }) => values.some(Number.isFinite));
    this.from.textContent = `${Math.round(span / 60)} min ago`;
    const lines = [0, 0.5, 1].map((share) =>
      svg("path", { class: "grid", d: `M0 ${HEIGHT - share * (HEIGHT - 4) - 2}H${WIDTH}` }),
    );
    this.drawing.replaceChildren(...lines, ...series.map(({ values }, i) => curve(values, times, at, i + 1)));
    const now = series.map(({ label, values }) => `${label} ${told(values.at(-1), this.format)}`);
    this.drawing.setAttribute("aria-label", `Now: ${now.join(", ") || "nothing yet"}`);
    this.legend.replaceChildren(
      ...now.map((text, i) =>
        el("li", {}, el("span", { class: `swatch kind kind-${(i % 6) + 1}`, "aria-hidden": "true" }), text),
      ),
    );
    this.drawTable = () => {
      if (!this.more.open) return;
      const rows = times.map((time, i) => [
        new Date(1000 * time).toLocaleTimeString(),
        ...series.map(({ values }) => told(values[i], this.format)),
      ]);
      this.fill(["Time", ...series.map(({ label }) => label)], rows.reverse().slice(0, 60));
    };
    this.drawTable();
  }
}

function curve(values, times, at, kind) {
  let drawn = "";
  let isOn = false;
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) {
      isOn = false;
      return;
    }
    drawn += `${isOn ? "L" : "M"}${at(times[i], value)}`;
    if (!isOn && !Number.isFinite(values[i + 1])) drawn += "h0.01";
    isOn = true;
  });
  return svg("path", { class: `curve kind-${((kind - 1) % 6) + 1}`, d: drawn || "M0 0" });
}

const told = (value, format) => (Number.isFinite(value) ? format(value) : "–");

/** Bars, one for each label. */
export class Bars extends Chart {
  constructor(title, hint, format, nothing) {
    super(title, hint);
    this.format = format;
    this.nothing = nothing;
    this.legend.remove();
    this.plot.className = "bars";
  }

  /** Pairs of label and value, and which colour each has. */
  draw(pairs, kind = () => 1) {
    const high = Math.max(...pairs.map(([, value]) => value), 0) || 1;
    const bars = pairs.map(([label, value]) =>
      el(
        "div",
        { class: "bar" },
        el("bdi", {}, shown(label)),
        svg(
          "svg",
          { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: `kind kind-${kind(label)}`, width: (100 * value) / high, height: 10, rx: 1 }),
        ),
        el("span", { class: "number" }, this.format(value)),
      ),
    );
    this.plot.replaceChildren(...(bars.length ? bars : [el("p", { class: "muted small" }, this.nothing)]));
    this.more.hidden = true;
  }
}
