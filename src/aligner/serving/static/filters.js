// What of the log is asked for: read from a form, kept in the page's address, and filled with what there is.

import { get } from "./api.js";
import { at, el } from "./dom.js";
import { shown } from "./text.js";

/** The moment in which a day begins where the reader is; `later` is how many days after it. */
export function dayBegins(day, later = 0) {
  const date = new Date(`${day}T00:00`);
  date.setDate(date.getDate() + later);
  return date.toISOString();
}

const READ = {
  edit_min: (value) => String(Number(value) / 100),
  edit_max: (value) => String(Number(value) / 100),
  since: (value) => dayBegins(value),
  // A day counts to its end.
  until: (value) => dayBegins(value, 1),
};

const given = (form) => [...new FormData(form)].filter(([, value]) => value);

/** What a form asks for, as the proxy reads it. */
export function wanted(form) {
  return new URLSearchParams(given(form).map(([name, value]) => [name, READ[name]?.(value) ?? value]));
}

/** Put the form's filters into the page's address. */
export function remember(form) {
  const query = new URLSearchParams(given(form));
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

/** Take them from there. */
export function recall(form) {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (!field) continue;
    field.value = value;
    if (at("more").contains(field)) at("more").open = true;
  }
}

/** Fill the pickers with the values that the log has. */
export async function facets(form) {
  const found = await get("/v1/aligner/facets");
  for (const select of form.querySelectorAll("[data-facet]")) {
    const values = found[select.dataset.facet] ?? [];
    const options = values.map((value) => el("option", { value }, shown(value)));
    select.replaceChildren(el("option", { value: "" }, "all"), ...options);
  }
}
