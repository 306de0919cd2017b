// A conversation in the fragment of a link, which browsers do not send to servers.

const VERSION = 1;
const MOST = 4_000_000;
const TEXTS = ["question", "answer", "correction", "final"];

/** What goes after the # of a link. */
export async function packed(conversation) {
  const bytes = new TextEncoder().encode(JSON.stringify({ version: VERSION, ...conversation }));
  const small = await whole(new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate-raw")));
  const letters = Array.from(small, (byte) => String.fromCharCode(byte)).join("");
  return `c=${btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

/** The conversation in a fragment, every field of it checked; null where there is none. */
export async function unpacked(fragment) {
  const coded = /^#c=([\w-]+)$/.exec(fragment)?.[1];
  if (!coded) return null;
  const bytes = Uint8Array.from(atob(coded.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));
  const plain = await whole(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")));
  return checked(JSON.parse(new TextDecoder().decode(plain)));
}

async function whole(stream) {
  const chunks = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > MOST) throw new Error("the conversation in this link is too long");
    chunks.push(chunk);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

const text = (value) => (typeof value === "string" ? value : "");
const number = (value) => (Number.isFinite(value) ? value : null);

function checked(found) {
  if (found?.version !== VERSION || !Array.isArray(found.turns)) throw new Error("this link holds no conversation");
  const fields = ["upstream", "aligner", "model", "mode", "system"];
  return { ...Object.fromEntries(fields.map((name) => [name, text(found[name])])), turns: found.turns.map(turn) };
}

function turn(found) {
  const texts = Object.fromEntries(TEXTS.map((name) => [name, text(found?.[name])]));
  const length = Array.from(texts.answer).length;
  const spans = (value, third) =>
    (Array.isArray(value) ? value : []).filter(
      ([start, end, last]) =>
        Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= length && third(last),
    );
  const edits = spans(found?.edits, (last) => typeof last === "string");
  const doubt = Array.isArray(found?.doubt) ? spans(found.doubt, Number.isFinite) : null;
  const seconds = Object.entries(found?.seconds ?? {}).filter(([, spent]) => Number.isFinite(spent) && spent >= 0);
  return {
    ...texts,
    edits,
    doubt,
    changed: found?.changed === true,
    edit_share: number(found?.edit_share) ?? 0,
    confidence: number(found?.confidence),
    seconds: Object.fromEntries(seconds),
  };
}
