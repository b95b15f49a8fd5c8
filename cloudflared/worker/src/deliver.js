// Brings one request to the first runner that takes it.
//
// Theory of operation. The worker names the task (taskId) and gives the request one Idempotency-Key; both travel to
// every runner that is tried, and a repeated request of a caller with an Idempotency-Key of its own makes the same ones.
// A runner that answers has taken the request or says that it has not. When its answer is lost, the same request is sent
// once more (the same key runs nothing twice), and then the runner is asked for the task by its name. Only when it
// cannot be asked either does the next one get the request, and the answer says that this is not known.
import { pause } from "./answers.js";
import { taskIdentity } from "./callers.js";
import { admits, noteFailure, noteSuccess } from "./health.js";
import { callRunner, isIllness, jsonOf, reason, verdictOf } from "./runner.js";

const WAIT_SECONDS = 25; // the runner then answers 202, and the worker asks again
const HEAD_MS = 40000;   // more than that without an answer is a lost one

// The body of the request, or undefined with call.broken set.
export async function readBody(call) {
  try {
    const body = JSON.parse(await call.request.text());
    if (body && typeof body === "object" && !Array.isArray(body)) return body;
    call.broken = "the body must be a JSON object";
  } catch (error) {
    call.broken = `the body is not JSON: ${error.message}`;
  }
  return undefined;
}

// What is sent to every runner. The task does not end when a connection breaks (detach): the worker ends it itself when
// its caller goes away, unless the caller asked for detach.
export async function prepare(call, body) {
  call.taskId = await taskIdentity(call);
  call.detached = body.detach === true;
  call.tried = [];
  call.post = {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": call.taskId },
    body: JSON.stringify({ ...body, taskId: call.taskId, detach: true }),
  };
}

// Tries the runners in their order. {runner, response, done} of the one that took it or found it wrong; else undefined,
// and call.tried says why of each. Until done() is called the task ends when the caller goes away.
export async function deliver(call, path, headers = {}) {
  for (const runner of await ordered(call)) {
    if (call.signal?.aborted) return undefined;
    const began = Date.now();
    const done = cancelWhenGone(call, runner);
    const { response, verdict, why } = await offer(call, runner, path, headers);
    call.tried.push({ runner: runner.name, outcome: verdict, ...(why && { why }), ms: Date.now() - began });
    if (response) {
      noteSuccess(call, runner);
      return { runner, response, done };
    }
    done();
  }
  return undefined;
}

// Those that may be tried, in their order; one whose last /health said that it has no login comes after the others: only
// the runner knows whether this request needs its login, and whether somebody has logged in since.
async function ordered(call) {
  const usable = [], last = [];
  for (const runner of call.config.runners) {
    const { admits: may, why, login } = await admits(call, runner);
    if (!may) call.tried.push({ runner: runner.name, outcome: "skipped", why, ms: 0 });
    else (login ? last : usable).push(runner);
  }
  return [...usable, ...last];
}

async function offer(call, runner, path, headers) {
  let answer = await post(call, runner, path, headers);
  if (answer.verdict === "unknown" && !call.signal?.aborted) {
    await pause(300);
    const again = await post(call, runner, path, headers);
    answer = again.verdict === "unknown" ? answer : again;
    if (again.verdict === "unknown" || again.verdict === "refused") answer = await look(call, runner, answer);
  }
  if (answer.ill) await noteFailure(call, runner, answer.why);
  return answer;
}

async function post(call, runner, path, headers) {
  try {
    const init = { ...call.post, headers: { ...call.post.headers, ...headers }, signal: call.signal };
    const response = await Promise.race([callRunner(call, runner, path, init), lateHead()]);
    const verdict = verdictOf(response.status);
    if (verdict === "taken" || verdict === "final") return { verdict, response };
    await response.body?.cancel();
    return { verdict, why: reason(response.status), ill: isIllness(response.status) };
  } catch (error) {
    return { verdict: "unknown", why: `no answer: ${error.message}`, ill: !call.signal?.aborted };
  }
}

async function lateHead() {
  await pause(HEAD_MS);
  throw new Error(`nothing came for ${HEAD_MS / 1000} s`);
}

// The answer was lost: has the runner the task?
async function look(call, runner, lost) {
  try {
    const response = await callRunner(call, runner, `/tasks/${call.taskId}`, { timeoutMs: 5000 });
    await response.body?.cancel();
    if (response.status === 200)
      return { verdict: "taken", response: Response.json({ taskId: call.taskId }, { status: 202 }) };
    if (response.status === 404) return { ...lost, verdict: "refused", why: `${lost.why}; it has no such task` };
  } catch { /* it cannot be asked */ }
  return { ...lost, verdict: "unknown", why: `${lost.why}; whether it runs the task cannot be known` };
}

// Follows a task that a runner has taken until it has ended, its caller has gone, or the time is over.
// {status, body} as /execute would have answered; status 0 when the runner went away and did not come back.
export async function follow(call, runner, response, deadline) {
  let silent = 0;
  if (response.status === 200) {
    const body = await jsonOf(response);
    if (body) return { status: 200, body };
  } else {
    await response.body?.cancel();
  }
  for (;;) {
    const waited = Date.now() - call.startedAt;
    await pause(Math.min(Math.max(waited / 10, 500), 15000));
    if (call.signal?.aborted || Date.now() > deadline) {
      await cancel(call, runner);
      return { status: 504, body: { success: false, error: "the time limit is over", reason: "timeout", taskId: call.taskId } };
    }
    const { status, body } = await result(call, runner);
    if (status === 200 && body) return { status, body };
    silent = status === 202 ? 0 : silent + 1;
    if (status === 202 && body?.status === "waiting_login") return paused(call, runner);
    if (silent >= 8) return { status: 0 };
  }
}

async function result(call, runner) {
  try {
    const response = await callRunner(call, runner, `/tasks/${call.taskId}/result`, { timeoutMs: 10000 });
    return { status: response.status, body: await jsonOf(response) };
  } catch {
    return { status: 0 };
  }
}

// The login was lost before the task could run: as the runner itself would have said.
async function paused(call, runner) {
  await cancel(call, runner);
  return { status: 401, body: { success: false, error: "OAuth: the runner needs a login", reason: "login_required", taskId: call.taskId } };
}

export async function cancel(call, runner) {
  try {
    const response = await callRunner(call, runner, `/tasks/${call.taskId}/cancel`, { method: "POST", timeoutMs: 10000 });
    await response.body?.cancel();
  } catch (error) {
    console.error(JSON.stringify({ event: "not_cancelled", request_id: call.id, task_id: call.taskId, error: String(error) }));
  }
}

function cancelWhenGone(call, runner) {
  if (call.detached || !call.signal) return () => {};
  const gone = () => call.ctx.waitUntil(cancel(call, runner));
  if (call.signal.aborted) gone();
  call.signal.addEventListener("abort", gone, { once: true });
  return () => call.signal.removeEventListener("abort", gone);
}

export const preferWait = { Prefer: `wait=${WAIT_SECONDS}` };
