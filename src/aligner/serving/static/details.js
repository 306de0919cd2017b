// One logged correction: what was asked and answered, what was changed, and what people thought of it.

import { badge, panes } from "./diff.js";
import { el, fresh } from "./dom.js";
import { stateBadge, when } from "./queue.js";
import { textual, write } from "./text.js";
import { timeBar } from "./timing.js";
import { VERDICTS, VerdictPanel, userName } from "./verdict.js";

const VIEW = "aligner.view";

/** What is shown of a row: {children, panel}; without `judges` there are no controls. */
export function details(row, settings, judges, noted) {
  const panel = judges ? new VerdictPanel(row, settings, noted) : null;
  const before = (row.feedback ?? []).findLast((each) => isOwn(each, settings));
  if (before) panel?.recall(before);
  const children = [heading(row), ...earlier(row), views(row), ...reasons(row)];
  if (Object.keys(row.seconds ?? {}).length) children.push(timeBar(row.seconds));
  children.push(
    panel
      ? panel.element
      : el(
          "p",
          { class: "note" },
          "You may read here. Verdicts need the role reviewer: aligner grant NAME --role reviewer.",
        ),
  );
  if (judges) children.push(onward());
  children.push(...votes(row), facts(row));
  return { children, panel };
}

/** Whether it was said by whoever looks at it. */
function isOwn({ reviewer, user }, { name }) {
  return (reviewer ?? "") === name && (user ?? "") === userName.get();
}

function heading(row) {
  const id = fresh("asked");
  return el(
    "div",
    { class: "stack tight", "aria-labelledby": id },
    el("div", { class: "row" }, row.skipped || row.bypass ? null : badge(row), stateBadge(row.state)),
    el(
      "h2",
      { class: "question", id },
      el("span", { class: "label" }, "Question"),
      textual("span", row.question || "(no text is kept)", { class: "text" }),
    ),
  );
}

/** The turns before the question. */
function earlier(row) {
  const turns = (row.messages ?? []).slice(0, -1);
  if (!turns.length) return [];
  const items = turns.map(({ role, content }) =>
    el("li", {}, textual("span", role, { class: "label" }), textual("div", content ?? "", { class: "text small" })),
  );
  const label = `${turns.length} earlier ${turns.length === 1 ? "message" : "messages"}`;
  return [el("details", {}, el("summary", {}, label), el("ol", { class: "stack tight" }, ...items))];
}

function views(row) {
  if (row.content !== "full")
    return el("p", { class: "note" }, "The log keeps no texts: start the proxy with --log-content full.");
  const chosen = localStorage.getItem(VIEW) ?? "side";
  const name = fresh("view");
  const place = el("div", { class: "stack tight" });
  const drawn = (view) => panes(row.answer, row.edits ?? [], view);
  const one = (value, label) => {
    const radio = el("input", { type: "radio", name, value, checked: value === chosen });
    radio.addEventListener("change", () => {
      localStorage.setItem(VIEW, value);
      place.lastChild.replaceWith(drawn(value));
    });
    return el("label", {}, radio, label);
  };
  place.append(
    el(
      "div",
      {},
      el(
        "div",
        { class: "choice", role: "radiogroup", "aria-label": "How the changes are shown" },
        one("side", "Side by side"),
        one("inline", "Inline"),
      ),
    ),
    drawn(chosen),
  );
  return place;
}

function reasons(row) {
  const told = [
    ["skipped", "Passed on as it was: ", row.skipped],
    ["bypass", "The Aligner failed, and the original was sent: ", row.bypass],
    ["kept", "The original was kept: ", row.kept_reason],
  ];
  return told.filter(([, , why]) => why).map(([, label, why]) => write(el("p", { class: "note" }, label), why));
}

function onward() {
  const box = el("input", {
    type: "checkbox",
    id: "onward",
    checked: localStorage.getItem("aligner.onward") !== "off",
  });
  box.addEventListener("change", () => localStorage.setItem("aligner.onward", box.checked ? "on" : "off"));
  return el("label", { class: "check" }, box, "Go on to the next after a verdict");
}

function votes(row) {
  const given = row.feedback ?? [];
  if (!given.length) return [];
  const items = given.map((each) =>
    el(
      "li",
      { class: "stack tight" },
      el(
        "div",
        { class: "row" },
        el("strong", {}, VERDICTS[each.verdict]?.[1] ?? each.verdict),
        textual("bdi", [each.reviewer, each.user].filter(Boolean).join(" / ") || "nobody by name"),
        el("span", { class: "muted" }, when(each.created)),
        ...(each.tags ?? []).map((tag) => textual("span", tag, { class: "badge" })),
      ),
      each.text ? textual("div", each.text, { class: "text quoted" }) : null,
      each.comment ? textual("div", each.comment, { class: "text muted" }) : null,
    ),
  );
  return [
    el(
      "section",
      { class: "stack tight small" },
      el("h3", {}, "Verdicts"),
      el("ol", { class: "stack tight" }, ...items),
    ),
  ];
}

function facts(row) {
  const found = [
    ["When", when(row.created)],
    ["Upstream", textual("bdi", row.upstream)],
    ["Model", textual("bdi", row.model)],
    ["Aligner", textual("bdi", row.aligner)],
    ["Mode", row.mode],
    ["Id", textual("bdi", row.id)],
  ];
  if (Number.isFinite(row.confidence))
    found.splice(5, 0, ["Sure of the original", `${Math.round(100 * row.confidence)} %`]);
  const items = found.flatMap(([label, value]) => [el("dt", { class: "muted" }, label), el("dd", {}, value)]);
  return el("details", {}, el("summary", {}, "Where it came from"), el("dl", { class: "keys facts" }, ...items));
}
