// The edge worker: takes calls at Cloudflare's edge and hands them to a runner at home, to a second one when the first
// is away, or to a queue when both are. README.md says what is configured and what callers see.
import { admit } from "./callers.js";
import { configuration } from "./config.js";
import { execute } from "./execute.js";
import { health, unhealthy } from "./health.js";
import { Keeper } from "./keeper.js";
import { deliverQueued } from "./queue.js";
import { failure, preflight, withCors } from "./answers.js";
import { runAsync } from "./run_async.js";
import { run } from "./stream.js";
import { tasks } from "./tasks.js";

export { Keeper };

// What a request is worked on with. `signal` fires when the caller has gone.
function callOf(request, env, ctx) {
  return {
    request, env, ctx,
    config: configuration(env),
    url: new URL(request.url),
    id: requestId(request.headers.get("X-Request-ID")),
    startedAt: Date.now(),
    signal: request.signal,
  };
}

function requestId(given) {
  return given && /^[\w.:-]{1,64}$/.test(given) ? given : crypto.randomUUID();
}

async function answer(call) {
  const { request, url } = call;
  if (request.method === "OPTIONS") return preflight();
  if (isHealth(request)) return health(call);
  const handler = handlerOf(request.method, url.pathname);
  if (!handler) return failure(call, 404, "ROUTE_NOT_FOUND", "Not Found");
  const refused = await admit(call);
  if (refused) return refused;
  try {
    return await handler(call);
  } finally {
    // A stream counts until it ends.
    leave(call);
  }
}

function leave(call) {
  if (call.until) call.ctx.waitUntil(call.until.finally(() => call.leave()));
  else call.leave();
}

function isHealth(request) {
  return request.method === "GET" && new URL(request.url).pathname === "/health";
}

function handlerOf(method, path) {
  if (method === "POST" && path === "/execute") return execute;
  if (method === "POST" && path === "/run") return run;
  if (method === "POST" && path === "/run-async") return runAsync;
  return /^\/tasks\/[\w.-]+(\/\w+)?$/.test(path) ? tasks : undefined;
}

export default {
  async fetch(request, env, ctx) {
    let call;
    try {
      call = callOf(request, env, ctx);
      return withCors(await answer(call), call.id);
    } catch (error) {
      // A mistake in the configuration is said by its name; anything else only in the worker's log.
      const said = error.name === "ConfigError";
      console.error(JSON.stringify({ event: "failed", request_id: call?.id, error: String(error.stack ?? error) }));
      if (said && isHealth(request)) return withCors(unhealthy(env, error), crypto.randomUUID());
      call ??= { id: crypto.randomUUID(), startedAt: Date.now() };
      return withCors(failure(call, 500, said ? error.code : "INTERNAL_ERROR", said ? error.message : "Internal Server Error"), call.id);
    }
  },

  async queue(batch, env) {
    for (const message of batch.messages) await deliverQueued(message, configuration(env));
  },
};
