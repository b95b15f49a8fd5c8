// The runner's public contract, with the session's cookie and token.

const listeners = new Set();
export const session = { caller: null, csrf: null, online: true, draining: false, routes: new Set() };

export class Failure extends Error {
  constructor(status, message, fields) {
    super(message);
    this.status = status;
    this.fields = fields ?? [];
  }
}

// Calls back when somebody signs in or out, or the runner comes or goes.
export function watch(listener) {
  listeners.add(listener);
}
function changed() {
  for (const listener of listeners) listener(session);
}

function setOnline(online) {
  if (session.online === online) return;
  session.online = online;
  changed();
}

// fetch() of a path of the runner's, with a body as JSON, or `raw` as it is. Throws a Failure: status 0 when it cannot be
// reached.
export async function ask(method, path, { body, raw, headers, signal, timeoutMs = 30000 } = {}) {
  const init = { method, headers: { ...headers }, credentials: "same-origin", cache: "no-store", ...(raw !== undefined && { body: raw }) };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  if (method !== "GET" && session.csrf) init.headers["X-CSRF-Token"] = session.csrf;
  const signals = [signal, timeoutMs && AbortSignal.timeout(timeoutMs)].filter(Boolean);
  let response;
  try {
    response = await fetch(path, { ...init, ...(signals.length && { signal: AbortSignal.any(signals) }) });
  } catch (error) {
    if (signal?.aborted) throw error;
    setOnline(false);
    throw new Failure(0, "The runner cannot be reached.");
  }
  if (response.status >= 502 && response.status <= 530 && response.status !== 507 && !isProblem(response)) {
    setOnline(false);
    throw new Failure(0, "The runner cannot be reached.");
  }
  setOnline(true);
  if (response.ok || response.status === 304) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 403 && session.caller !== null && !path.startsWith("/console/")) await lookAgain();
  throw new Failure(response.status, problem.detail ?? problem.error ?? `The runner answered ${response.status}.`, problem.errors);
}

const isProblem = (response) => (response.headers.get("Content-Type") ?? "").startsWith("application/problem+json");

export async function get(path, options) {
  return (await ask("GET", path, options)).json();
}
export async function send(method, path, body, options) {
  return (await ask(method, path, { body, ...options })).json();
}

// Whether this browser is still signed in.
async function lookAgain() {
  const before = session.caller;
  Object.assign(session, await get("/console/session"));
  if (session.caller !== before) changed();
}

export async function begin() {
  Object.assign(session, await get("/console/session"));
  changed();
}

export async function signIn(secret) {
  Object.assign(session, await send("POST", "/console/session", { secret }));
  changed();
}

// By the token of a link, which is good once.
export async function signInByLink(token) {
  Object.assign(session, await send("POST", "/console/session", { token }));
  changed();
}

export async function signOut() {
  await send("DELETE", "/console/session");
  Object.assign(session, { caller: null, csrf: null });
  changed();
}

// Whether this runner has a route ("/sessions"), as its own document says.
let document_;
export async function has(path) {
  document_ ??= get("/openapi.json").catch((error) => { document_ = undefined; throw error; });
  return path in (await document_).paths;
}
// The fields of a request that this runner takes.
export async function fieldsOf(name) {
  await has("/");
  const properties = (await document_).components.schemas[name].properties;
  return (field) => field in properties && !/not supported yet/.test(properties[field].description ?? "");
}

// Runs the function now and every `ms` after it has ended, while the page can be seen. It stops with the signal.
export async function every(ms, signal, run) {
  while (!signal.aborted) {
    let wait = ms;
    try {
      await run();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Failure)) throw error;
      wait = error.status === 0 ? Math.max(ms, 3000) : ms;
    }
    await new Promise((resolve) => {
      const timer = setTimeout(done, wait);
      function seen() { if (!document.hidden) done(); }
      function done() {
        clearTimeout(timer);
        document.removeEventListener("visibilitychange", seen);
        resolve();
      }
      signal.addEventListener("abort", done, { once: true });
      document.addEventListener("visibilitychange", seen);
    });
    while (document.hidden && !signal.aborted) await visible(signal);
  }
}

function visible(signal) {
  return new Promise((resolve) => {
    const look = () => { if (!document.hidden || signal.aborted) { document.removeEventListener("visibilitychange", look); resolve(); } };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
    look();
  });
}
