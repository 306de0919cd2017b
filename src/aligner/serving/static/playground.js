// The playground: ask, watch the answer and its correction, judge it, and go on.

import { Problem, posting, settings } from "./api.js";
import { announce, at } from "./dom.js";
import { events } from "./events.js";
import { keys } from "./keys.js";
import { choose, chosen, fill, listModels, remember } from "./pickers.js";
import { problemNote } from "./problems.js";
import { packed, unpacked } from "./share.js";
import { copy, curl, python } from "./snippets.js";
import { toast, undoLast } from "./toast.js";
import { Turn } from "./turn.js";

const RESULT = ["answer", "correction", "edits", "doubt", "changed", "edit_share", "confidence", "seconds"];
const form = at("ask");
const field = at("question");
let known = { tags: [], log: null };
let turns = [];
let asking = null;
let conversation = crypto.randomUUID?.() ?? String(Math.random());

/** The conversation up to a turn, which is asked for next: each answer as it stands after its correction. */
function messages(until = turns) {
  const system = at("system").value.trim();
  const told = system ? [{ role: "system", content: system }] : [];
  for (const turn of until) {
    told.push({ role: "user", content: turn.question });
    if (turn.result && turn !== until.at(-1)) told.push({ role: "assistant", content: turn.final });
  }
  return told;
}

async function ask(question) {
  const turn = new Turn(question, known);
  turns = [...turns.filter((each) => each.result), turn];
  at("turns").replaceChildren(...turns.map((each) => each.element));
  at("start").hidden = true;
  turn.element.scrollIntoView({ block: "start" });
  // The address is that of a conversation that was shared, and this is another from here on.
  if (location.hash) history.replaceState(null, "", location.pathname);
  const body = { messages: messages(), conversation, ...chosen() };
  asking = new AbortController();
  busy(true);
  turn.offerStop(() => asking?.abort());
  try {
    await follow(turn, await posting("/v1/aligner/ask", body, { signal: asking.signal }));
    turn.offer(...tools(turn, body));
  } catch (problem) {
    if (problem.name === "AbortError") turn.stopped();
    else
      turn.failed(problem instanceof Problem ? problem : new Problem("The answer broke off", 0), () => again(question));
    field.value ||= question;
  } finally {
    busy(false);
    asking = null;
  }
}

function again(question) {
  if (field.value === question) field.value = "";
  ask(question);
}

async function follow(turn, response) {
  let start = {};
  let upstream = {};
  for await (const { name, data } of events(response.body)) {
    if (name === "start") turn.started((start = data));
    else if (name === "original") turn.piece(data.text);
    else if (name === "upstream") turn.answered((upstream = data));
    else if (name === "correction") turn.correctionPiece(data.text);
    else if (name === "error") throw new Problem(data.message, data.status ?? 502, data.code);
    else if (name === "done") {
      turn.done({ ...data, mode: start.mode, finish_reason: upstream.finish_reason });
      return;
    }
  }
  throw new Problem("The answer broke off", 0);
}

function tools(turn, body) {
  const { upstream, aligner, mode, conversation: _, ...rest } = body;
  // The first of each is what a request gets that names none.
  const named = { upstream: [upstream, known.upstreams], aligner: [aligner, known.aligners?.map(({ name }) => name)] };
  const others = Object.entries(named).filter(([, [name, all]]) => name && name !== all?.[0]);
  const ours = Object.fromEntries([...others.map(([kind, [name]]) => [kind, name]), ["mode", mode]]);
  if (!mode || mode === known.mode) delete ours.mode;
  const request = { model: turn.start?.model ?? "", ...rest, ...(Object.keys(ours).length ? { aligner: ours } : {}) };
  const base = `${location.origin}/v1`;
  return [
    ["curl", () => copy("The curl command", curl(base, request))],
    ["Python", () => copy("The Python program", python(base, request))],
    ["link", () => share(turn)],
  ];
}

async function share(turn) {
  const shared = turns.slice(0, turns.indexOf(turn) + 1).filter((each) => each.result);
  const fragment = await packed({
    ...chosen(),
    system: at("system").value,
    turns: shared.map(({ question, result, final }) => ({
      question,
      final,
      ...Object.fromEntries(RESULT.map((name) => [name, result[name]])),
    })),
  });
  const link = new URL(location.href);
  link.hash = fragment;
  history.replaceState(null, "", link);
  await copy("The link", String(link));
}

/** Show the conversation of the link by which the page was opened. */
async function openShared() {
  let shared = null;
  const kept = sessionStorage.getItem("aligner.fragment");
  sessionStorage.removeItem("aligner.fragment");
  try {
    shared = await unpacked(location.hash || (kept ?? ""));
  } catch (problem) {
    at("problems").replaceChildren(
      problemNote({ message: "This link cannot be read", cure: "Ask for it again: it may have been cut off." }),
    );
  }
  if (!shared) return;
  choose(shared);
  at("system").value = shared.system;
  turns = shared.turns.map((found) => {
    const turn = new Turn(found.question, known);
    turn.start = { model: shared.model, mode: shared.mode };
    turn.done({ ...found, logged: false });
    if (found.final !== found.correction) turn.verdict = { verdict: "edit", text: found.final };
    return turn;
  });
  at("turns").replaceChildren(...turns.map((turn) => turn.element));
  at("start").hidden = turns.length > 0;
  if (turns.length) toast("This conversation came with the link: nothing of it was asked here");
}

function busy(is) {
  at("send").disabled = is;
  at("again").disabled = is;
  if (!is) field.focus({ preventScroll: true });
}

function anew() {
  turns = [];
  conversation = crypto.randomUUID?.() ?? String(Math.random());
  at("turns").replaceChildren();
  at("start").hidden = false;
  history.replaceState(null, "", location.pathname);
  field.value = "";
  field.focus();
  announce("A new conversation.");
}

function judge(verdict) {
  const inFocus = turns.find((turn) => turn.element.contains(document.activeElement));
  const turn = inFocus ?? turns.findLast((each) => each.panel);
  turn?.panel?.give(verdict);
}

function listen() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const question = field.value.trim();
    if (!question || asking) return;
    field.value = "";
    remember();
    ask(question);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") (turns.at(-1)?.element ?? at("main")).focus();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  at("again").addEventListener("click", anew);
  at("upstream").addEventListener("change", listModels);
  window.addEventListener("hashchange", openShared);
  for (const example of document.querySelectorAll("#examples button")) {
    example.addEventListener("click", () => {
      field.value = example.textContent.trim();
      field.focus();
    });
  }
  keys({
    a: () => judge("accept"),
    r: () => judge("reject"),
    e: () => judge("edit"),
    b: () => judge("both_bad"),
    u: undoLast,
    "/": () => field.focus(),
  });
}

async function begin() {
  listen();
  try {
    known = await settings();
  } catch (problem) {
    at("problems").replaceChildren(problemNote(problem, () => location.reload()));
    return;
  }
  fill(known);
  at("unlogged").hidden = known.log !== null;
  // The examples are of the closed world of the Aligner that ships with the package.
  at("examples").hidden = !known.aligners?.[0]?.fingerprint?.startsWith("aligner:");
  await Promise.all([listModels(), openShared()]);
  at("send").disabled = false;
}

begin();
