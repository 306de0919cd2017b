// The review queue: find corrections, judge them one by one or many at once, and see who agrees with whom.

import { get, settings } from "./api.js";
import { agreementTable } from "./agreement.js";
import { announce, at, button, el } from "./dom.js";
import { details } from "./details.js";
import { facets, recall, remember, wanted } from "./filters.js";
import { keys } from "./keys.js";
import { attempt, problemNote } from "./problems.js";
import { queueRow } from "./queue.js";
import { undoLast } from "./toast.js";
import { VERDICTS, send, userName } from "./verdict.js";

const LIMIT = 50;
const READ_AGAIN = 60;
const form = at("filters");
let known = { tags: [], log: null, role: "viewer" };
let rows = [];
let next = null;
let current = -1;
let panel = null;
let loading = null;
let coming = null;

async function load() {
  loading?.abort();
  loading = new AbortController();
  remember(form);
  rows = [];
  next = null;
  coming = null;
  current = -1;
  at("rows").replaceChildren();
  at("further").replaceChildren();
  at("count").textContent = "Loading…";
  await more();
  picked();
  at("queue").classList.remove("reading");
  if (rows.length && matchMedia("(min-width: 60rem)").matches) await open(0, false);
  else nothingOpen();
}

/** The next page of rows: whoever asks for it while it comes waits for the same. */
function more() {
  if (coming) return coming;
  const asked = readPage().finally(() => {
    if (coming === asked) coming = null;
  });
  coming = asked;
  return asked;
}

async function readPage() {
  const { signal } = loading;
  const query = wanted(form);
  query.set("limit", String(LIMIT));
  if (next) query.set("cursor", next);
  const page = await attempt(at("further"), () => get(`/v1/aligner/corrections?${query}`, { signal }));
  if (!page) {
    if (!signal.aborted) at("count").textContent = "";
    return;
  }
  next = page.next;
  for (const row of page.rows) {
    const index = rows.length;
    const drawn = queueRow(row, () => open(index), picked);
    rows.push({ row, ...drawn });
    at("rows").append(drawn.element);
  }
  at("further").replaceChildren(...(next ? [button("Show more", more)] : []));
  at("count").textContent = rows.length ? `${rows.length} shown${next ? ", and there are more" : ""}` : "";
  at("bulk").hidden = !rows.length || !mayJudge();
  if (!rows.length) at("further").append(wanted(form).size ? nothingFits() : nothingLogged());
  announce(`${rows.length} corrections are shown.`);
}

function emptyNote(title, cure) {
  return el("div", { class: "empty" }, el("h2", {}, title), el("p", {}, cure));
}

const nothingFits = () => emptyNote("Nothing fits these filters", "Clear them, or ask for less.");
const nothingLogged = () =>
  emptyNote("Nothing is logged yet", "Ask something in the playground, or send requests through the proxy.");

function nothingOpen() {
  at("details").replaceChildren(
    el("p", { class: "muted" }, rows.length ? "Choose a correction." : "There is nothing to show."),
  );
  panel = null;
}

const mayJudge = () => known.role === "reviewer" || known.role === "operator";

async function open(index, focus = true) {
  if (index < 0 || index >= rows.length) return;
  rows[current]?.mark(false);
  current = index;
  rows[index].mark(true);
  panel = null;
  // The queue holds the beginnings of long texts alone.
  const row = await attempt(at("details"), () => read(rows[index].row.id), true);
  if (!row || current !== index) return;
  show(row);
  if (!focus) return;
  rows[index].element.scrollIntoView({ block: "nearest" });
  at("details").focus({ preventScroll: !matchMedia("(max-width: 60rem)").matches });
}

function show(row) {
  const made = details(row, known, mayJudge(), (given) => noted(row.id, given));
  panel = made.panel;
  const back = button("Back to the queue", shut, { class: "button plain back" });
  at("queue").classList.add("reading");
  at("details").replaceChildren(back, ...made.children);
  at("details").scrollTop = 0;
}

const read = (id) => get(`/v1/aligner/corrections/${encodeURIComponent(id)}`);

function shut() {
  at("queue").classList.remove("reading");
  rows[current]?.title.focus();
}

async function step(by) {
  if (current + by >= rows.length && next) await more();
  await open(Math.min(Math.max(current + by, 0), rows.length - 1));
}

/** After a verdict, or after it was taken back: read the row again, and go on. */
async function noted(id, given) {
  const row = await read(id);
  rows.find((each) => each.row.id === id)?.update(row);
  agreement();
  if (rows[current]?.row.id !== id) return;
  if (given && at("onward").checked && (next || current + 1 < rows.length)) await step(1);
  else show(row);
}

function picked() {
  const chosen = rows.filter((each) => each.box.checked);
  at("picked").textContent = chosen.length ? `${chosen.length} selected` : "Select all shown";
  at("all").checked = chosen.length > 0 && chosen.length === rows.length;
  at("all").indeterminate = chosen.length > 0 && chosen.length < rows.length;
  for (const made of at("bulk-verdicts").children) made.disabled = chosen.length === 0;
}

async function judgeAll(verdict) {
  const chosen = rows.filter((each) => each.box.checked);
  const ids = chosen.map((each) => each.row.id);
  const said = (noted) => `${noted.noted} ${noted.noted === 1 ? "correction" : "corrections"} ${VERDICTS[verdict][1]}`;
  await attempt(at("problems"), () =>
    send({ ids, verdict }, said, async () => {
      if (chosen.length > READ_AGAIN) return Promise.all([load(), agreement()]);
      await Promise.all(
        chosen.map(async (each) => {
          each.update(await read(each.row.id));
          each.box.checked = false;
        }),
      );
      picked();
      if (chosen.includes(rows[current])) await open(current, false);
      return agreement();
    }),
  );
}

async function agreement() {
  try {
    at("agreement").replaceChildren(agreementTable(await get("/v1/aligner/agreement")));
  } catch (problem) {
    at("agreement").replaceChildren(problemNote(problem));
  }
}

function listen() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
  for (const select of form.querySelectorAll("select")) select.addEventListener("change", load);
  at("clear").addEventListener("click", () => {
    form.reset();
    at("user").value = userName.get();
    load();
  });
  at("all").addEventListener("change", (event) => {
    for (const each of rows) each.box.checked = event.target.checked;
    picked();
  });
  for (const verdict of ["accept", "reject", "both_bad"]) {
    at("bulk-verdicts").append(button(VERDICTS[verdict][0], () => judgeAll(verdict), { disabled: true }));
  }
  at("user").value = userName.get();
  at("user").addEventListener("change", (event) => userName.set(event.target.value));
  keys({
    a: () => panel?.give("accept"),
    r: () => panel?.give("reject"),
    e: () => panel?.give("edit"),
    b: () => panel?.give("both_bad"),
    u: undoLast,
    j: () => step(1),
    k: () => step(-1),
    x: () => rows[current] && rows[current].box.click(),
    "/": () => at("search").focus(),
  });
}

async function begin() {
  listen();
  const found = await attempt(at("problems"), settings);
  if (!found) return;
  known = found;
  at("named").hidden = Boolean(known.name);
  if (known.log === null) {
    const cure =
      "Start the proxy with --log corrections.db --log-content full: then every correction comes into this queue.";
    at("queue").replaceChildren(emptyNote("Nothing is logged here", cure));
    at("agreement").replaceChildren();
    form.hidden = true;
    return;
  }
  if (known.log.content !== "full") at("thin").hidden = false;
  await attempt(at("problems"), () => facets(form));
  recall(form);
  await Promise.all([load(), agreement()]);
}

begin();
