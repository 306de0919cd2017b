// Keys for what buttons do, and what was typed and not sent yet kept in this browser. All else works without a script.

import { announce, at } from "./dom.js";
import { keys } from "./keys.js";

const PREFIX = "aligner.draft/";
const SENT = "aligner.sent";
const DAYS = 7;
/** Notes of pages that come once something was taken. */
const TAKEN = ["step", "sent", "back", "passed"];
const press = (id) => () => document.getElementById(id)?.click();

const desk = document.getElementById("desk");
at("keys-open").hidden = false;
keys({
  e: () => enter("text"),
  c: () => enter("comment"),
  s: press("edit"),
  k: press("keep"),
  b: press("back"),
  p: press("pass"),
  a: press("agree"),
  d: press("disagree"),
  ...Object.fromEntries(Array.from("1234567", (digit) => [digit, () => reasons()[digit - 1]?.click()])),
});

function reasons() {
  return Array.from(document.querySelectorAll("input[name=reason]"));
}

function enter(id) {
  const field = document.getElementById(id);
  if (!field) return;
  const around = field.closest("details");
  if (around) around.open = true;
  field.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || !event.target.matches("textarea, input[name=reason]")) return;
  const isText = event.target.matches("textarea");
  if (event.key === "Escape" && isText) at("main").focus();
  else if (event.key === "Enter" && isText && (event.ctrlKey || event.metaKey)) press("edit")();
  // Enter on a check box would send the form.
  else if (!(event.key === "Enter" && !isText)) return;
  event.preventDefault();
});

const drafts = document.getElementById("drafts");
forgetSent();
if (desk) keepDraft();
if (drafts) offerOthers(`${PREFIX}${drafts.dataset.person}/`, desk && PREFIX + desk.dataset.draft);

function keepDraft() {
  const name = PREFIX + desk.dataset.draft;
  const { text, comment } = desk.elements;
  let held = Date.now();
  const draft = parsed(localStorage.getItem(name));
  // Where the server sends back what was sent, that is newer.
  if (draft && draft.from === text.defaultValue && !document.querySelector("#note[role=alert]")) restore(draft);
  desk.addEventListener("input", () => {
    const chosen = reasons().map((each) => each.checked);
    const kept = { at: Date.now(), from: text.defaultValue, text: text.value, comment: comment.value, chosen };
    try {
      localStorage.setItem(name, JSON.stringify(kept));
    } catch {
      announce("This browser is full: what you type is not kept until you send it.");
    }
    if (Date.now() - held < 1000 * Number(desk.dataset.hold)) return;
    held = Date.now();
    hold();
  });
  desk.addEventListener("submit", () => sessionStorage.setItem(SENT, name));
  at("afresh").addEventListener("click", () => {
    localStorage.removeItem(name);
    desk.reset();
    at("restored").hidden = true;
    text.focus();
  });

  function restore({ text: typed, comment: said, chosen }) {
    const isOther = typed !== text.value || said !== comment.value;
    text.value = typed;
    comment.value = said;
    reasons().forEach((each, i) => (each.checked = chosen[i] === true));
    at("restored").hidden = !isOther;
  }
}

function parsed(text) {
  try {
    const found = JSON.parse(text);
    const isDraft = found && ["from", "text", "comment"].every((field) => typeof found[field] === "string");
    return isDraft && Array.isArray(found.chosen) ? found : null;
  } catch {
    return null;
  }
}

/** Tell the server that somebody is at work; what they send counts also where it does not hear of it. */
async function hold() {
  const { csrf, key } = desk.elements;
  const body = new URLSearchParams({ csrf: csrf.value, key: key.value });
  try {
    const response = await fetch("/annotate/held", { method: "POST", body, redirect: "error" });
    if (response.status === 410) announce("Somebody else has this answer by now. What you send is kept besides.");
  } catch {
    // The server is away, or wants a new login: the draft is here.
  }
}

/** Only what the server has taken is forgotten. */
function forgetSent() {
  const name = sessionStorage.getItem(SENT);
  sessionStorage.removeItem(SENT);
  if (name && TAKEN.includes(new URLSearchParams(location.search).get("note"))) localStorage.removeItem(name);
}

/** What this person had typed for other answers, some days long. */
function offerOthers(prefix, but) {
  for (const name of Object.keys(localStorage)) {
    if (!name.startsWith(prefix) || name === but) continue;
    const draft = parsed(localStorage.getItem(name));
    // Whoever is at the second step has sent the first.
    const isFirst = but?.endsWith("/2") && name === `${but.slice(0, -1)}1`;
    if (draft && !isFirst && Date.now() - draft.at < DAYS * 86_400_000) offer(name, draft.text);
    else localStorage.removeItem(name);
  }
}

function offer(name, text) {
  const form = at("draft").content.firstElementChild.cloneNode(true);
  form.elements.key.value = name.split("/").at(-2);
  form.querySelector("bdi").textContent = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  form.querySelector("[type=button]").addEventListener("click", () => {
    localStorage.removeItem(name);
    form.remove();
    drafts.hidden = !drafts.querySelector("form");
  });
  drafts.append(form);
  drafts.hidden = false;
}
