// Who may ask, and how much.
import { failure } from "./answers.js";
import { ask } from "./keeper.js";

const ANONYMOUS = "anonymous";

// Names the caller in the call and counts the request. An answer when it may not pass, else undefined; then
// call.leave() is to be called when the request has been answered.
export async function admit(call) {
  const { config } = call;
  const caller = await find(config.callers, presented(call.request.headers));
  if (!caller && !config.anonymousPerMinute)
    return failure(call, 403, "FORBIDDEN", config.callers.length ? "forbidden" : "this worker knows no callers: CALLERS is not configured");
  call.caller = caller?.name ?? ANONYMOUS;
  const limits = caller ?? { perMinute: config.anonymousPerMinute, atOnce: 8 };
  const verdict = await ask(config, `caller:${call.caller}`, "enter", { ...limits, id: call.id });
  if (verdict.wait)
    return failure(call, 429, "TOO_MANY_REQUESTS", verdict.why, {}, { "Retry-After": String(verdict.wait) });
  call.leave = () => call.ctx.waitUntil(ask(config, `caller:${call.caller}`, "leave", { id: call.id }));
  return undefined;
}

function presented(headers) {
  const bearer = /^Bearer\s+(.+)$/i.exec(headers.get("Authorization") ?? "");
  return headers.get("X-API-Key") ?? headers.get("X-Runner-Secret") ?? bearer?.[1] ?? "";
}

// All tokens are compared, as digests, so that time tells nothing.
async function find(callers, token) {
  let found;
  const given = await digest(token);
  for (const caller of callers) {
    caller.digest ??= await digest(caller.token);
    if (crypto.subtle.timingSafeEqual(given, caller.digest)) found = caller;
  }
  return token ? found : undefined;
}

function digest(text) {
  return crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
}

// The id of the task that a request makes: the same for the same caller and Idempotency-Key, told apart by a mark of
// the caller's, so that one caller's tasks stay its own.
export async function taskIdentity(call) {
  const given = call.request.headers.get("Idempotency-Key");
  const key = given ? await hmac(call.config, `key:${call.caller}:${given}`, 40) : crypto.randomUUID().replaceAll("-", "");
  return `e-${await mark(call)}-${key}`;
}

export async function owns(call, taskId) {
  return taskId.startsWith(`e-${await mark(call)}-`);
}

function mark(call) {
  return hmac(call.config, `caller:${call.caller}`, 12);
}

async function hmac(config, text, digits) {
  config.hmacKey ??= await crypto.subtle.importKey("raw", new TextEncoder().encode(config.seal || "none"),
    { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const bytes = new Uint8Array(await crypto.subtle.sign("HMAC", config.hmacKey, new TextEncoder().encode(text)));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, digits);
}
