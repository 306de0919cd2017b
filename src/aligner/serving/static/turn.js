// One question, its answer as it comes, and its correction.

import { announce, button, el, fresh } from "./dom.js";
import { badge, draw, panes, parts } from "./diff.js";
import { drawHeat, legend } from "./heat.js";
import { problemNote } from "./problems.js";
import { Growing, shown, textual, write } from "./text.js";
import { timeBar } from "./timing.js";
import { VerdictPanel } from "./verdict.js";

const WHY = {
  truncated: "the answer was cut off at the upstream's limit",
  too_long: "the answer is too long for the Aligner",
  json: "the answer must be JSON",
};

/** How views are chosen, and remembered for the next turn. */
const VIEW = "aligner.view";

export class Turn {
  /** `question` is a text; `settings` are the proxy's. */
  constructor(question, settings) {
    this.question = question;
    this.settings = settings;
    this.result = null;
    this.verdict = null;
    this.panel = null;
    this.original = pane("Original", "Waiting for the upstream…");
    this.correction = pane("Correction", "Waits for the original…");
    this.state = el("span", { class: "badge info" }, "asking");
    this.correction.header.append(this.state);
    this.body = el("div", { class: "panes" }, this.original.element, this.correction.element);
    this.tools = el("div", { class: "row apart tools" });
    this.below = el("div", { class: "stack" });
    const id = fresh("turn");
    this.element = el(
      "article",
      { class: "card stack turn", "aria-labelledby": id, tabindex: "-1" },
      el(
        "h2",
        { class: "question", id },
        el("span", { class: "label" }, "Question"),
        textual("span", question, { class: "text" }),
      ),
      this.tools,
      this.body,
      this.below,
    );
  }

  /** Offer to stop it, where it can be seen while the answer comes. */
  offerStop(stop) {
    const made = button("Stop", stop);
    this.tools.replaceChildren(made);
    made.focus({ preventScroll: true });
  }

  /** What the next turn takes for this turn's answer. */
  get final() {
    const { answer, correction } = this.result;
    if (this.verdict?.verdict === "edit") return this.verdict.text;
    return this.verdict?.verdict === "reject" ? answer : correction;
  }

  started(start) {
    this.start = start;
    this.original.title.replaceChildren("Original", origin(start.model || start.upstream));
    this.correction.title.replaceChildren("Correction", origin(alignerNamed(start.aligner, this.settings.aligners)));
    this.original.busy(true);
    announce("The upstream answers.");
  }

  piece(text) {
    this.original.growing.add(text);
  }

  answered() {
    this.original.growing.draw();
    this.original.busy(false);
    this.correction.text.dataset.empty = "The Aligner reads…";
    this.state.textContent = "correcting";
    announce("The original is complete. The Aligner corrects it.");
  }

  correctionPiece(text) {
    this.correction.busy(true);
    this.correction.growing.add(text);
  }

  /** All is known: show what changed. */
  done(result) {
    this.result = result;
    this.original.busy(false);
    this.correction.busy(false);
    this.original.growing.stop();
    this.correction.growing.stop();
    this.state.replaceWith((this.state = this.#badges()));
    this.#offerViews();
    this.#drawView();
    this.below.replaceChildren(...this.#notes());
    if (result.seconds && Object.keys(result.seconds).length) this.below.append(timeBar(result.seconds));
    if (result.logged) this.#offerVerdict();
    announce(result.changed ? `Done: ${Math.round(100 * result.edit_share)} % edited.` : "Done: copied verbatim.");
  }

  /** Nothing came of it, or not all. */
  failed(problem, again) {
    this.#ended("failed", "bad");
    this.below.replaceChildren(problemNote(problem, again));
  }

  stopped() {
    this.#ended("stopped", "");
    announce("Stopped.");
  }

  #ended(word, kind) {
    this.tools.replaceChildren();
    for (const each of [this.original, this.correction]) {
      each.busy(false);
      each.growing.draw();
      each.text.dataset.empty = "Nothing came.";
    }
    this.state.className = `badge ${kind}`;
    this.state.textContent = word;
  }

  #badges() {
    const { confidence, skipped, bypass, mode } = this.result;
    const made = el("span", { class: "row badges" }, skipped || bypass ? null : badge(this.result));
    if (skipped) made.append(el("span", { class: "badge warn" }, "not corrected"));
    if (bypass) made.append(el("span", { class: "badge bad" }, "bypassed"));
    if (Number.isFinite(confidence)) {
      const title = "How sure the Aligner is that no change is needed";
      made.append(el("span", { class: "badge", title }, `${Math.round(100 * confidence)} % sure of the original`));
    }
    if ((mode ?? this.start?.mode) === "shadow") made.append(el("span", { class: "badge info" }, "shadow"));
    return made;
  }

  #notes() {
    const { skipped, bypass, kept_reason: kept, finish_reason: end } = this.result;
    const notes = [];
    if (skipped) notes.push(note("", "Passed on as it is: ", WHY[skipped] ?? skipped));
    if (bypass) notes.push(note("warn", "The Aligner failed, and the original was sent: ", bypass));
    if (kept) notes.push(note("", "The original was kept: ", kept));
    if (end === "length") notes.push(note("warn", "The upstream stopped at its limit of tokens.", ""));
    return notes;
  }

  #offerViews() {
    const chosen = localStorage.getItem(VIEW) ?? "side";
    const name = fresh("view");
    const one = (value, label) => {
      const radio = el("input", { type: "radio", name, value, checked: value === chosen });
      radio.addEventListener("change", () => {
        localStorage.setItem(VIEW, value);
        if (this.doubt) this.doubt.checked = false;
        this.#drawView();
      });
      return el("label", {}, radio, label);
    };
    this.views = el(
      "div",
      { class: "choice", role: "radiogroup", "aria-label": "How the changes are shown" },
      one("side", "Side by side"),
      one("inline", "Inline"),
    );
    this.tools.replaceChildren(el("div", { class: "row" }, this.views));
    if (!this.result.doubt?.length) return;
    this.doubt = el("input", { type: "checkbox" });
    this.doubt.addEventListener("change", () => this.#drawView());
    this.tools.firstChild.append(el("label", { class: "check" }, this.doubt, "Show doubt"));
  }

  #drawView() {
    const { answer, correction, edits, doubt } = this.result;
    const all = parts(answer, edits ?? []);
    const asHeat = this.doubt?.checked;
    const view = this.views.querySelector(":checked")?.value ?? "side";
    this.legend?.remove();
    if (view === "inline" && !asHeat) {
      const inline = panes(answer, edits ?? [], "inline");
      inline.querySelector("header").append(this.state);
      this.#show(inline);
      return;
    }
    this.correction.header.append(this.state);
    // Long texts are drawn where nobody sees them, and laid out once.
    const body = el("div", { class: "panes" }, this.original.element, this.correction.element);
    if (asHeat) {
      drawHeat(this.original.text, answer, doubt);
      write(clear(this.correction.text), correction ?? "");
      this.legend = legend(answer, doubt);
      this.below.prepend(this.legend);
    } else {
      draw(this.original.text, all, ["del"]);
      if (edits) draw(this.correction.text, all, ["ins"]);
      else write(clear(this.correction.text), correction ?? "");
    }
    this.#show(body);
  }

  #show(body) {
    this.body.replaceWith(body);
    this.body = body;
  }

  #offerVerdict() {
    let before = null;
    const noted = async (given) => {
      [before, this.verdict] = [this.verdict, given ?? before];
    };
    this.panel = new VerdictPanel(this.result, this.settings, noted);
    this.below.append(this.panel.element);
  }

  /** Offer what can be copied: pairs of a word for it and what copies it. */
  offer(...tools) {
    const made = tools.map(([label, press]) =>
      button(label, press, { class: "button plain", "aria-label": `Copy as ${label}` }),
    );
    this.tools.append(
      el(
        "div",
        { class: "row copies", role: "group", "aria-label": "Copy" },
        el("span", { class: "label" }, "Copy as"),
        ...made,
      ),
    );
  }
}

/** What an Aligner is called: of the default, its fingerprint, shortened, says more than its name. */
export function alignerNamed(name, aligners = []) {
  const found = aligners.find((each) => each.name === name);
  const told = name === "default" && found?.fingerprint?.replace(/(:\w{7})\w+$/, "$1");
  return shown(told || name);
}

function pane(title, empty) {
  const heading = el("h3", {}, title);
  const header = el("header", {}, heading);
  const text = el("div", {
    class: "text",
    dir: "auto",
    tabindex: "0",
    role: "group",
    "aria-label": title,
    "data-empty": empty,
  });
  return {
    element: el("section", { class: "pane" }, header, text),
    title: heading,
    header,
    text,
    growing: new Growing(text),
    busy: (is) => text.classList.toggle("busy", is),
  };
}

const origin = (name) => textual("bdi", ` ${name ?? ""}`, { class: "origin" });

function note(kind, told, reason) {
  return write(el("p", { class: `note ${kind}` }, told), shown(reason));
}

function clear(element) {
  element.replaceChildren();
  return element;
}
