// POST /execute: runs a task and answers with its result.
//
// Two forms. {"task","repo","executor_type","options"} is the published worker's, and is answered in its form. Anything
// else is the runner's own request, and is answered with the runner's own object, plus `edge`.
import { failure, outcome, sendWhenReady } from "./answers.js";
import { deliver, follow, preferWait, prepare, readBody } from "./deliver.js";
import { callRunner, jsonOf } from "./runner.js";
import { nobody } from "./run_async.js";

const DEFAULT_MS = 300000;
const MARGIN_MS = 90000; // beyond a task's own time limit: clone, clean-up, an answer on its way

export async function execute(call) {
  const body = await readBody(call);
  if (!body) return failure(call, 400, "INVALID_REQUEST", call.broken);
  const published = isPublished(body);
  const wants = /(^|[\s,])wait\s*=\s*(\d+)/.exec(call.request.headers.get("Prefer") ?? "");
  if (body.taskId !== undefined)
    return failure(call, 400, "INVALID_REQUEST", "taskId is the worker's to give; send an Idempotency-Key");
  if (published && (typeof body.task !== "string" || !body.task.trim()))
    return failure(call, 400, "INVALID_REQUEST", "Task is required");
  if (published && body.executor_type === "gemini") return sendWhenReady(call, gemini(call, body));
  await prepare(call, published ? translated(call, body) : body);
  call.timeoutMs = limitOf(published ? body.options : body);
  const ready = work(call, published);
  call.ctx.waitUntil(ready); // else nothing would be left to end the task when the caller goes away
  return wants ? sendWithin(call, ready, Number(wants[2])) : sendWhenReady(call, ready);
}

// Prefer: wait=N: 202 after N seconds. The task goes on, and so does the worker's part in it.
async function sendWithin(call, ready, seconds) {
  call.detached = true;
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, Math.min(seconds, 90) * 1000); });
  const end = await Promise.race([ready, late]);
  clearTimeout(timer);
  if (end) return Response.json(end.body, { status: end.status, headers: end.headers });
  return Response.json({ taskId: call.taskId, status: "pending" },
    { status: 202, headers: { Location: `/tasks/${call.taskId}`, "Preference-Applied": "wait" } });
}

// A request with a task, or with nothing that the published worker does not know.
const PUBLISHED = ["task", "executor_type", "repo", "branch", "commit_message", "instance_id", "project_id", "options"];

function isPublished(body) {
  return body.task !== undefined || Object.keys(body).every((name) => PUBLISHED.includes(name));
}

// The runner's request for a published one. Options that it does not know were ignored, and are.
function translated(call, { task, repo, options }) {
  return {
    prompt: call.config.promptPrefix + task,
    repo_url: repo,
    timeout_ms: options?.timeout_ms || DEFAULT_MS,
    allowed_tools: options?.allowed_tools,
    max_turns: options?.max_turns,
  };
}

function limitOf(body) {
  return Number(body?.timeout_ms) || Number(body?.timeoutMinutes) * 60000 || DEFAULT_MS;
}

async function work(call, published) {
  try {
    const { runner, result } = await resultOf(call);
    return published ? publishedForm(call, runner, result) : ownForm(call, runner, result);
  } catch (error) {
    console.error(JSON.stringify({ event: "failed", request_id: call.id, error: String(error.stack ?? error) }));
    return outcome(500, { success: false, error: "Internal Server Error", error_code: "INTERNAL_ERROR", request_id: call.id });
  }
}

// {runner, result: {status, body}}; without a runner the body says what was tried.
async function resultOf(call) {
  const taken = await deliver(call, "/execute", preferWait);
  if (!taken) return { result: await nobody(call) };
  const { runner, response, done } = taken;
  if (response.status >= 400) return done(), { runner, result: { status: response.status, body: await jsonOf(response) ?? {} } };
  const result = await follow(call, runner, response, Date.now() + call.timeoutMs + MARGIN_MS);
  done();
  if (result.status) return { runner, result };
  const error = `The runner took the task and went away; ask for /tasks/${call.taskId} later`;
  return { runner, result: { status: 503, body: { success: false, error, error_code: "RUNNER_LOST", taskId: call.taskId } } };
}

function ownForm(call, runner, { status, body, headers }) {
  const edge = { request_id: call.id, runner: runner?.name ?? null, taskId: call.taskId, tried: call.tried };
  return outcome(status, { ...body, edge }, headers);
}

function publishedForm(call, runner, { status, body, headers }) {
  const metadata = {
    execution_time_ms: Date.now() - call.startedAt,
    runner_duration_ms: body.duration_ms,
    runner_url: (runner ?? call.config.runners[0])?.url,
    task_id: call.taskId,
    tried: call.tried,
  };
  const answer = { success: false, error: body.error, request_id: call.id, timestamp: new Date().toISOString(), logs: body.output || body.error || "No output" };
  if (body.success !== true && String(body.error ?? "").includes("OAuth"))
    return outcome(401, { ...answer, error_code: "RUNNER_OAUTH_ERROR", metadata: { ...metadata, needs_reauth: true } });
  // Of what the runner found wrong, the published worker made a task that failed; what it was stands beside it.
  if (runner && status >= 400 && status < 500)
    return outcome(500, { ...answer, error_code: "RUNNER_FAILED",
      metadata: { ...metadata, delegated_to_runner: true, runner_status: status, false_positive_detected: false } });
  if (status !== 200)
    return outcome(status, { ...answer, error_code: body.error_code ?? "RUNNER_FAILED", metadata, ...(body.queued && { queued: true }) }, headers);
  metadata.delegated_to_runner = true;
  return outcome(body.success ? 200 : 500, {
    ...answer, success: body.success === true, ...(body.success === true && { error: undefined }),
    metadata: { ...metadata, exit_code: body.exit_code, false_positive_detected: false },
  });
}

// The Gemini runner of old installations: a plain /execute, for those who ask for it by name.
async function gemini(call, { task, repo, options }) {
  const runner = call.config.gemini;
  if (!runner)
    return outcome(503, { success: false, error: "Gemini executor requested but GEMINI_RUNNER_URL not configured",
      error_code: "GEMINI_NOT_CONFIGURED", request_id: call.id });
  call.tried = [];
  const result = await askGemini(call, runner, {
    prompt: call.config.promptPrefix + task, repo_url: repo, timeout_ms: options?.timeout_ms || DEFAULT_MS,
  });
  const answer = publishedForm(call, runner, result);
  answer.body.metadata.executor_type = "gemini";
  if (result.lost) Object.assign(answer.body.metadata, { delegated_to_runner: true, runner_failed: true });
  if (result.body.success === true || !String(result.body.error ?? "").includes("authentication")) return answer;
  answer.body.metadata.needs_reauth = true;
  return outcome(401, { ...answer.body, error_code: "GEMINI_AUTH_ERROR" });
}

// What it says is believed whatever the status is; an answer that is no JSON is none.
async function askGemini(call, runner, body) {
  try {
    const response = await callRunner(call, runner, "/execute", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: call.signal });
    const said = await jsonOf(response);
    if (said) return { status: 200, body: said };
    throw new Error(`it answered ${response.status} without JSON`);
  } catch (error) {
    return { lost: true, status: 503,
      body: { success: false, error: `Gemini runner unreachable: ${error.message}`, error_code: "GEMINI_RUNNER_UNREACHABLE" } };
  }
}
