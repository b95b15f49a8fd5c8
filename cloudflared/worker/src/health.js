// How the runners are: asked now and then, remembered in this isolate, and told to whoever asks /health.
import { callRunner, reason } from "./runner.js";
import { ask } from "./keeper.js";

const PROBE_MS = 2500;
const COPY_MS = 2000;
const probes = new Map(); // runner's URL -> {at, health, pending}
const copies = new Map(); // runner's URL -> {at, state}

// What /health of the runner said: {ok, status, login, why}. Asks when the last answer is older than config.healthMs;
// one that is half as old is asked behind the caller's back.
export async function healthOf(call, runner) {
  let known = probes.get(runner.url);
  if (!known) probes.set(runner.url, known = { at: 0 });
  const age = Date.now() - known.at;
  if (age < call.config.healthMs / 2) return known.health;
  known.pending ??= probe(call, runner).then((health) => {
    Object.assign(known, { at: Date.now(), health, pending: undefined });
    return health;
  });
  call.ctx.waitUntil(known.pending);
  return age < call.config.healthMs ? known.health : known.pending;
}

async function probe(call, runner) {
  try {
    const response = await callRunner(call, runner, "/health", { timeoutMs: PROBE_MS });
    const body = response.status === 200 ? await response.json() : undefined;
    if (!body?.status) return { ok: false, status: "unreachable", why: reason(response.status) };
    const reasons = Array.isArray(body.reasons) ? body.reasons : [];
    const login = reasons.includes("login_needed") || (body.oauth?.expired === true && body.credential !== "api_key");
    return { ok: body.status !== "draining", status: body.status, login, reasons, why: body.status === "draining" ? "it is shutting down" : "" };
  } catch (error) {
    return { ok: false, status: "unreachable", why: String(error.message ?? error) };
  }
}

// Whether the runner is worth a try now: {admits, why, login}.
export async function admits(call, runner) {
  const state = await breakerState(call, runner);
  if (state.open && !state.admits) return { admits: false, why: `left alone after failures (${state.why})` };
  const health = await healthOf(call, runner);
  if (health.ok) return { admits: true, login: health.login };
  await noteFailure(call, runner, health.why);
  return { admits: false, why: health.why };
}

async function breakerState(call, runner) {
  const copy = copies.get(runner.url);
  if (copy && !copy.state.open && Date.now() - copy.at < COPY_MS) return copy.state;
  const state = await ask(call.config, `runner:${runner.name}`, "breaker", { event: "try" });
  copies.set(runner.url, { at: Date.now(), state });
  if (state.open) probes.delete(runner.url); // the one that tries looks afresh
  return state;
}

export async function noteFailure(call, runner, why) {
  copies.delete(runner.url);
  probes.delete(runner.url);
  await ask(call.config, `runner:${runner.name}`, "breaker", { event: "failed", why });
}

// A closed breaker need not be told that it is.
export function noteSuccess(call, runner) {
  const copy = copies.get(runner.url);
  if (copy && !copy.state.open && !copy.state.why) return;
  copies.delete(runner.url);
  call.ctx.waitUntil(ask(call.config, `runner:${runner.name}`, "breaker", { event: "worked" }));
}

// GET /health: the members of the published worker, and what is known of each runner.
export async function health(call) {
  const { config } = call;
  const [first] = config.runners;
  const runners = await Promise.all(config.runners.map(async (runner) => {
    const [known, breaker] = await Promise.all(
      [healthOf(call, runner), ask(config, `runner:${runner.name}`, "breaker", { event: "look" })]);
    return { name: runner.name, status: known.status, reasons: known.reasons ?? [], breaker: breaker.open ? "open" : "closed", why: known.why || breaker.why };
  }));
  const usable = runners.some((one) => one.status === "healthy" || one.status === "degraded");
  return Response.json({
    status: usable || !runners.length ? "healthy" : "degraded",
    service: "sandbox-executor",
    timestamp: new Date().toISOString(),
    version: "3.0.0",
    runner_url: first?.url ?? null,
    runner_configured: Boolean(first),
    fallback: {
      gemini_runner_url: config.gemini?.url ?? null,
      gemini_configured: Boolean(config.gemini),
      second_configured: config.runners.length > 1,
      queue_configured: Boolean(config.queue),
    },
    runners,
  });
}

// The same when the worker is not configured as it must be.
export function unhealthy(env, error) {
  return Response.json({
    status: "degraded",
    service: "sandbox-executor",
    timestamp: new Date().toISOString(),
    version: "3.0.0",
    runner_url: env.CLAUDE_RUNNER_URL ?? null,
    runner_configured: Boolean(env.CLAUDE_RUNNER_URL && env.RUNNER_SECRET),
    error: error.message,
  });
}
