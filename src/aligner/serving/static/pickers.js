// What is asked for, besides the question: upstream, model, Aligner, mode, and the like.

import { get } from "./api.js";
import { at, el } from "./dom.js";
import { shown } from "./text.js";
import { alignerNamed } from "./turn.js";

const CHOICES = "aligner.choices";
const TEXTS = ["upstream", "aligner", "model", "mode"];
const NUMBERS = ["temperature", "max_tokens"];
const UNKNOWN = "the upstream's own";

/** What is chosen; what is left open is left out. */
export function chosen() {
  const texts = TEXTS.map((name) => [name, at(name).value]);
  const numbers = NUMBERS.map((name) => [name, at(name).value && Number(at(name).value)]);
  return Object.fromEntries([...texts, ...numbers].filter(([, value]) => value !== ""));
}

/** Choose this, as far as it is there to be chosen. */
export function choose(wanted) {
  for (const name of [...TEXTS, ...NUMBERS]) {
    const field = at(name);
    const isThere = field.tagName !== "SELECT" || [...field.options].some(({ value }) => value === wanted[name]);
    if (wanted[name] && isThere) field.value = wanted[name];
  }
}

/** Fill the pickers with what the proxy has, and choose what was chosen the last time. */
export function fill({ upstreams = [], aligners = [], modes = [], mode = "" }) {
  const names = aligners.map(({ name }) => name);
  options(at("upstream"), upstreams);
  options(at("aligner"), names, (name) => alignerNamed(name, aligners));
  options(at("mode"), modes);
  at("mode").value = mode;
  try {
    choose(JSON.parse(localStorage.getItem(CHOICES)) ?? {});
  } catch {
    localStorage.removeItem(CHOICES);
  }
}

/** Where there is nothing to pick, the picker is not shown. */
function options(select, values, label = shown) {
  select.replaceChildren(...values.map((value) => el("option", { value }, label(value))));
  select.closest(".field").hidden = values.length < 2;
}

/** Keep what is chosen for the next time. */
export function remember() {
  localStorage.setItem(CHOICES, JSON.stringify(chosen()));
}

/** Offer the models of the chosen upstream. */
export async function listModels() {
  const query = new URLSearchParams(at("upstream").value ? { upstream: at("upstream").value } : {});
  const { models } = await get(`/v1/aligner/models?${query}`).catch(() => ({ models: [] }));
  at("models").replaceChildren(...models.map((value) => el("option", { value })));
  at("model").placeholder = models.length ? shown(models[0]) : UNKNOWN;
}
