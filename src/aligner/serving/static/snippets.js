// The same request for a terminal and for a program.

import { at, el } from "./dom.js";
import { toast } from "./toast.js";

const HIDDEN =
  /[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

const hex = (code, width) => code.toString(16).padStart(width, "0");

/** How each language writes a sign by its number: JSON in halves where it has two. */
const byNumber = {
  json: (sign) =>
    sign
      .split("")
      .map((half) => `\\u${hex(half.charCodeAt(0), 4)}`)
      .join(""),
  python: (sign) => (sign.length > 1 ? `\\U${hex(sign.codePointAt(0), 8)}` : `\\u${hex(sign.charCodeAt(0), 4)}`),
};

/** A value in which every sign can be seen, so that nothing hides in what somebody pastes. */
function written(value, language, indent = 2) {
  return JSON.stringify(value, null, indent).replace(HIDDEN, byNumber[language]);
}

/** For curl; the key stays in the environment. */
export function curl(base, body) {
  const quoted = written(body, "json").replaceAll("'", "'\\''");
  return [
    `curl ${base}/chat/completions \\`,
    "  -H 'content-type: application/json' \\",
    '  -H "authorization: Bearer $ALIGNER_API_KEY" \\',
    `  -d '${quoted}'`,
    "",
  ].join("\n");
}

/** For the `openai` package; the key stays in the environment. */
export function python(base, { model, messages, aligner, ...sampling }) {
  const fields = Object.entries(sampling).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`);
  const body = aligner ? [`    extra_body={"aligner": ${written(aligner, "python", 0)}},`] : [];
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${written(base, "python")}, api_key=os.environ.get("ALIGNER_API_KEY", "none"))`,
    "completion = client.chat.completions.create(",
    `    model=${written(model, "python")},`,
    `    messages=${written(messages, "python", 4).replaceAll("\n", "\n    ")},`,
    ...fields,
    ...body,
    ")",
    "print(completion.choices[0].message.content)",
    "",
  ].join("\n");
}

/** Put a text on the clipboard; where the browser does not let us, show it to be copied by hand. */
export async function copy(title, text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${title} copied`);
  } catch {
    const area = el("textarea", { readonly: true, rows: 12, "aria-label": title });
    area.value = text;
    at("copy-title").textContent = title;
    at("copy-text").replaceChildren(area);
    at("copy").showModal();
    area.select();
  }
}
