// An error as people see it: what went wrong, and what helps.

import { announce, button, el } from "./dom.js";
import { write } from "./text.js";

/** A note about a problem; `again` is what its button does. */
export function problemNote(problem, again = null) {
  const note = el("div", { class: "note bad", role: "alert" });
  note.append(
    write(el("strong", { dir: "auto" }), problem.message),
    el("span", {}, problem.cure ?? "Reload the page."),
  );
  if (again) note.append(el("div", {}, button("Try again", again, { class: "button plain" })));
  return note;
}

/** Do what may fail; the problem is shown in `place`, and an earlier one goes; `keeps` leaves what is there till then. */
export async function attempt(place, work, keeps = false) {
  if (!keeps) place.replaceChildren();
  try {
    return await work();
  } catch (problem) {
    if (problem.name === "AbortError") return undefined;
    place.replaceChildren(problemNote(problem));
    announce("");
    return undefined;
  }
}
