// What somebody thinks of a correction: buttons, tags, a comment, and a place to edit.

import { isNamed, post } from "./api.js";
import { announce, button, el, fresh, labelled } from "./dom.js";
import { attempt } from "./problems.js";
import { shown } from "./text.js";
import { toast } from "./toast.js";

export const VERDICTS = {
  accept: ["Accept", "accepted", "a"],
  reject: ["Reject", "rejected", "r"],
  edit: ["Edit", "edited", "e"],
  both_bad: ["Both bad", "marked as both bad", "b"],
};

const USER = "aligner.user";

/** The name that goes with feedback where no key says who gives it; empty where one does. */
export const userName = {
  get: () => (isNamed ? "" : (localStorage.getItem(USER) ?? "")),
  set: (name) => localStorage.setItem(USER, name.trim()),
};

/** Send a verdict, and offer to take it back; `changed` is called after both. */
export async function send(feedback, said, changed) {
  const user = userName.get();
  const noted = await post("/v1/aligner/feedback", user ? { ...feedback, user } : feedback);
  toast(said(noted), async () => {
    try {
      await post("/v1/aligner/feedback/undo", { batch: noted.batch });
      toast("Taken back");
      await changed(null);
    } catch (problem) {
      toast(`Not taken back: ${problem.message}`);
    }
  });
  await changed(feedback);
  return noted;
}

/** The controls for one correction: {element, give(verdict)}. */
export class VerdictPanel {
  /** `row` has id and correction; `settings` are the proxy's; `noted` is told of each verdict, or null when undone. */
  constructor(row, settings, noted = async () => {}) {
    this.row = row;
    this.noted = noted;
    this.verdict = null;
    this.problems = el("div");
    this.buttons = Object.fromEntries(Object.keys(VERDICTS).map((verdict) => [verdict, this.#button(verdict)]));
    this.editor = this.#editor(settings);
    this.tags = (settings.tags ?? []).map((tag) => el("input", { type: "checkbox", value: tag }));
    this.comment = el("textarea", { rows: 2, maxlength: 2000, dir: "auto" });
    this.add = button("Add to the verdict", () => this.#send(this.verdict), { disabled: true });
    this.element = this.#whole();
  }

  /** Do what a verdict's button does. */
  give(verdict) {
    if (verdict === "edit") this.#openEditor();
    else this.#send(verdict);
  }

  /** Show which verdict stands. */
  mark(verdict) {
    this.verdict = verdict;
    for (const [each, made] of Object.entries(this.buttons))
      made.setAttribute("aria-pressed", String(each === verdict));
    this.add.disabled = verdict === null;
  }

  /** Show what was said before. */
  recall({ verdict, text, tags, comment }) {
    this.mark(verdict);
    this.edited = text ?? undefined;
    this.comment.value = comment ?? "";
    for (const tag of this.tags) tag.checked = (tags ?? []).includes(tag.value);
  }

  #button(verdict) {
    const [label, , key] = VERDICTS[verdict];
    const made = button(label, () => this.give(verdict), { "aria-pressed": "false", "aria-keyshortcuts": key });
    made.append(el("kbd", { "aria-hidden": "true" }, key));
    return made;
  }

  #editor(settings) {
    this.text = el("textarea", { rows: 6, dir: "auto", spellcheck: "true" });
    const isKept = !settings.log || settings.log.content === "full";
    const hint = isKept
      ? "Ctrl + Enter saves, Escape leaves."
      : "The log keeps no texts: what you write here is not kept.";
    const editor = el(
      "div",
      { class: "stack tight", hidden: true },
      labelled(fresh("edit"), "What the correction should have been", this.text, hint),
      el(
        "div",
        { class: "row" },
        button("Save the edit", () => this.#save(), { class: "button main" }),
        button("Cancel", () => this.#closeEditor()),
      ),
    );
    editor.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#closeEditor();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#save();
      else return;
      event.preventDefault();
    });
    return editor;
  }

  #whole() {
    const chips = this.tags.map((tag) => el("label", {}, tag, shown(tag.value)));
    return el(
      "div",
      { class: "stack verdict" },
      el("div", { class: "row", role: "group", "aria-label": "Your verdict" }, ...Object.values(this.buttons)),
      this.editor,
      el(
        "details",
        {},
        el("summary", {}, "Reasons and comment"),
        el(
          "div",
          { class: "stack tight" },
          el("fieldset", {}, el("legend", { class: "unseen" }, "Reasons"), el("div", { class: "tags" }, ...chips)),
          labelled(fresh("comment"), "Comment", this.comment),
          el("div", { class: "row" }, this.add),
        ),
      ),
      this.problems,
    );
  }

  #openEditor() {
    if (this.editor.hidden) {
      this.text.value = this.edited ?? this.row.correction;
      this.editor.hidden = false;
    }
    this.text.focus();
  }

  #closeEditor() {
    this.editor.hidden = true;
    this.buttons.edit.focus();
  }

  async #save() {
    if (await this.#send("edit", this.text.value)) this.#closeEditor();
  }

  async #send(verdict, text = verdict === "edit" ? this.edited : undefined) {
    if (this.isSending) return undefined;
    this.isSending = true;
    const before = this.verdict;
    const told = async (given) => {
      if (given && text !== undefined) this.edited = text;
      this.mark(given ? verdict : before);
      announce(given ? `Noted: ${VERDICTS[verdict][1]}` : "Taken back");
      await this.noted(given);
    };
    const said = () => `Noted: ${VERDICTS[verdict][1]}`;
    const noted = await attempt(this.problems, () => send(this.#feedback(verdict, text), said, told));
    this.isSending = false;
    return noted;
  }

  #feedback(verdict, text) {
    const tags = this.tags.filter((tag) => tag.checked).map((tag) => tag.value);
    const comment = this.comment.value.trim();
    return {
      id: this.row.id,
      verdict,
      ...(text === undefined ? {} : { text }),
      ...(tags.length ? { tags } : {}),
      ...(comment ? { comment } : {}),
    };
  }
}
