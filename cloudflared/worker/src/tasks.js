// GET /tasks/{id}[/result|/events|/outputs], DELETE /tasks/{id}, POST /tasks/{id}/cancel: a caller's own tasks, wherever
// they run.
import { failure } from "./answers.js";
import { owns } from "./callers.js";
import { ask } from "./keeper.js";
import { callRunner } from "./runner.js";

const PASSED_ON = ["Accept", "Last-Event-ID", "Range"];

export async function tasks(call) {
  const { request, url, config } = call;
  const taskId = url.pathname.split("/")[2];
  if (!await owns(call, taskId)) return failure(call, 404, "NOT_FOUND", "there is no such task");
  const headers = Object.fromEntries(PASSED_ON.map((name) => [name, request.headers.get(name)]).filter(([, value]) => value));
  let away = 0;
  for (const runner of config.runners) {
    try {
      const streamed = url.pathname.endsWith("/events");
      const response = await callRunner(call, runner, url.pathname + url.search,
        { method: request.method, headers, signal: call.signal, ...(!streamed && { timeoutMs: 30000 }) });
      if (response.status < 500 && ![403, 404].includes(response.status) && (response.status < 300 || response.status > 399))
        return new Response(response.body, response);
      await response.body?.cancel();
      if (response.status !== 404) away++;
    } catch {
      away++;
    }
  }
  const { queued } = await ask(config, `task:${taskId}`, "queued", {});
  if (queued) return waiting(call, taskId, queued);
  if (away) return failure(call, 503, "RUNNER_UNREACHABLE", "the runner that may have this task cannot be reached now", {}, { "Retry-After": "30" });
  return failure(call, 404, "NOT_FOUND", "there is no such task");
}

function waiting(call, taskId, queued) {
  const asked = call.url.pathname === `/tasks/${taskId}` && call.request.method === "GET";
  return Response.json({ taskId, status: "pending", reason: "queued_at_edge", createdAt: new Date(queued.at).toISOString(), request_id: call.id },
    { status: asked ? 200 : 202, headers: { "Retry-After": "30" } });
}
