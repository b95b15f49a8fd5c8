// POST /run-async: 202 once a runner, or the queue, has the task.
import { failure } from "./answers.js";
import { deliver, prepare, readBody } from "./deliver.js";
import { enqueue } from "./queue.js";
import { jsonOf, reason } from "./runner.js";

export async function runAsync(call) {
  const body = await readBody(call);
  if (!body) return failure(call, 400, "INVALID_REQUEST", call.broken);
  if (body.taskId !== undefined)
    return failure(call, 400, "INVALID_REQUEST", "taskId is the worker's to give; send an Idempotency-Key");
  await prepare(call, body);
  call.detached = true; // it runs on when its caller goes away
  const taken = await deliver(call, "/run-async");
  const result = taken
    ? { status: taken.response.status, body: await jsonOf(taken.response) ?? {} }
    : await nobody(call);
  const edge = { request_id: call.id, runner: taken?.runner.name ?? null, taskId: call.taskId, tried: call.tried };
  return Response.json({ ...result.body, edge },
    { status: result.status, headers: result.status === 202 ? { Location: `/tasks/${call.taskId}` } : {} });
}

// No runner has taken it: the queue, or an answer that says why. What only waits for a login is not queued: its caller is
// to hear of it.
export async function nobody(call) {
  return (!needsLogin(call) && await enqueue(call)) || unreachable(call);
}

function needsLogin(call) {
  return call.tried.length > 0 && call.tried.every((one) => one.why === reason(401));
}

// What is said when no runner has taken the request. A login is the trouble when nobody was away for another reason.
export function unreachable(call) {
  if (needsLogin(call))
    return { status: 401, body: { success: false, error: "OAuth: the runner needs a login", error_code: "RUNNER_OAUTH_ERROR" } };
  const why = call.tried.map((one) => `${one.runner}: ${one.why}`).join("; ") || "no runner is configured";
  return { status: 503, body: { success: false, error: `Runner unreachable: ${why}`, error_code: "RUNNER_UNREACHABLE" } };
}
