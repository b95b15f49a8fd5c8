// POST /run-async: 202 once a runner, or the queue, has the task.
import { failure } from "./answers.js";
import { deliver, prepare, readBody } from "./deliver.js";
import { enqueue } from "./queue.js";
import { jsonOf } from "./runner.js";

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
    : await enqueue(call) ?? unreachable(call);
  const edge = { request_id: call.id, runner: taken?.runner.name ?? null, taskId: call.taskId, tried: call.tried };
  return Response.json({ ...result.body, edge },
    { status: result.status, headers: result.status === 202 ? { Location: `/tasks/${call.taskId}` } : {} });
}

export function unreachable(call) {
  if (call.needsLogin)
    return { status: 401, body: { success: false, error: "OAuth: the runner needs a login", error_code: "RUNNER_OAUTH_ERROR" } };
  const why = call.tried.map((one) => `${one.runner}: ${one.why}`).join("; ") || "no runner is configured";
  return { status: 503, body: { success: false, error: `Runner unreachable: ${why}`, error_code: "RUNNER_UNREACHABLE" } };
}
