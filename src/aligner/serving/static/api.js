// Requests to the proxy, and what to do when one fails.

let csrf = "";

/** Whether a key says who asks, as the settings tell. */
export let isNamed = false;

const CURES = {
  0: "Is the proxy still running? Check its terminal, then try again.",
  401: "The session has ended: reload the page to log in again.",
  403: "The operator grants roles: aligner grant NAME --role reviewer.",
  404: "It may have been deleted: reload the page.",
  429: "Wait a moment, then try again.",
  503: "Wait a moment, then try again; the proxy's terminal says more.",
};
const CURES_OF_CODES = {
  no_log: "Start the proxy with --log corrections.db --log-content full.",
  csrf_token: "The page is older than the session: reload it.",
};

/** Why a request failed, and what helps. */
export class Problem extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }

  get cure() {
    return CURES_OF_CODES[this.code] ?? CURES[this.status] ?? "Try again; the proxy's terminal says more.";
  }
}

/** The problem that an answer tells of. */
export async function problemOf(response) {
  let said = {};
  try {
    said = (await response.json()).error ?? {};
  } catch {
    // an answer of something in between
  }
  return new Problem(said.message ?? `the proxy answered with status ${response.status}`, response.status, said.code);
}

/** The answer to a request, if it is a good one; throws Problem. */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The proxy cannot be reached", 0);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** What is there, as JSON. */
export async function get(path, options) {
  return (await request(path, options)).json();
}

/** A request that changes something. */
export function posting(path, body, options = {}) {
  const headers = { "content-type": "application/json", ...(csrf ? { "x-csrf-token": csrf } : {}) };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), ...options });
}

/** The same, and its answer as JSON. */
export async function post(path, body) {
  return (await posting(path, body)).json();
}

/** Who asks, and what can be chosen here. */
export async function settings() {
  const found = await get("/v1/aligner/settings");
  csrf = found.csrf ?? "";
  isNamed = Boolean(found.name);
  return found;
}
