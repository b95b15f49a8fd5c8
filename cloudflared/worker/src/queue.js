// What no runner could take waits in a Cloudflare Queue, sealed, until one is back.
import { ask } from "./keeper.js";
import { callRunner } from "./runner.js";

const MESSAGE_MAX = 120 * 1024; // the platform's limit is 128 KiB
const RETRY_MAX_S = 600;

// Puts the request of the call into the queue. The answer's {status, body}, or undefined when it has no place there:
// none is configured, it is too large, or a runner may have it already.
export async function enqueue(call) {
  const { config } = call;
  const may = call.tried.every((one) => one.outcome !== "unknown");
  if (!config.queue || call.signal?.aborted) return undefined;
  const message = { taskId: call.taskId, caller: call.caller, requestId: call.id, sealed: await seal(config, call.taskId, call.post.body) };
  if (message.sealed.length > MESSAGE_MAX) {
    call.tried.push({ runner: "queue", outcome: "refused", why: `a request of more than ${MESSAGE_MAX >> 10} KiB does not fit into it`, ms: 0 });
    return undefined;
  }
  await ask(config, `task:${call.taskId}`, "queued", { set: { caller: call.caller } });
  await config.queue.send(message);
  call.tried.push({ runner: "queue", outcome: "taken", ms: 0,
    ...(!may && { why: "a runner may have the task already; the same key keeps that one from running it twice" }) });
  return {
    status: 202,
    headers: { Location: `/tasks/${call.taskId}` },
    body: { success: false, queued: true, status: "pending", taskId: call.taskId, error: "no runner could be reached; the task waits in the queue", error_code: "QUEUED" },
  };
}

// Hands a waiting task to the first runner that takes it; else it stays in the queue.
export async function deliverQueued(message, config) {
  const { taskId, requestId, sealed } = message.body;
  const body = await unseal(config, taskId, sealed);
  if (!body) {
    console.error(JSON.stringify({ event: "unreadable", task_id: taskId, why: "QUEUE_KEY has changed" }));
    message.ack();
    return;
  }
  for (const runner of config.runners) {
    if (!await handOver({ id: requestId, config }, runner, taskId, body)) continue;
    await ask(config, `task:${taskId}`, "queued", { remove: true });
    message.ack();
    return;
  }
  message.retry({ delaySeconds: Math.min(15 * 2 ** Math.min(message.attempts ?? 1, 6), RETRY_MAX_S) });
}

// True when the runner has the task now, had it before (409), or will never take it.
async function handOver(call, runner, taskId, body) {
  try {
    const response = await callRunner(call, runner, "/run-async", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": taskId },
      body,
      timeoutMs: 30000,
    });
    await response.body?.cancel();
    const final = response.status >= 400 && response.status < 500 && ![401, 403, 408, 409, 429].includes(response.status);
    if (final) console.error(JSON.stringify({ event: "refused", task_id: taskId, status: response.status }));
    return response.status === 202 || response.status === 409 || final;
  } catch {
    return false;
  }
}

async function sealKey(config) {
  config.sealKey ??= await crypto.subtle.digest("SHA-256", new TextEncoder().encode(`queue:${config.seal}`))
    .then((raw) => crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt", "decrypt"]));
  return config.sealKey;
}

async function seal(config, taskId, text) {
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const additionalData = new TextEncoder().encode(taskId);
  const bytes = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData }, await sealKey(config), new TextEncoder().encode(text)));
  return base64(iv) + "." + base64(bytes);
}

async function unseal(config, taskId, sealed) {
  try {
    const [iv, bytes] = sealed.split(".").map((part) => Uint8Array.from(atob(part), (c) => c.charCodeAt(0)));
    const additionalData = new TextEncoder().encode(taskId);
    return new TextDecoder().decode(await crypto.subtle.decrypt({ name: "AES-GCM", iv, additionalData }, await sealKey(config), bytes));
  } catch {
    return undefined;
  }
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
