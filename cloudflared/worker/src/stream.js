// POST /run: a task's events as they come. When the way to the runner breaks, the stream goes on from the last whole
// event (Last-Event-ID) once the runner is back, without loss or repeat.
import { failure, pause } from "./answers.js";
import { deliver, prepare, readBody } from "./deliver.js";
import { callRunner } from "./runner.js";
import { unreachable } from "./run_async.js";

const EVENT_MAX = 70 << 20; // bytes of one event; the runner's largest line is 64 MiB
const RECONNECTS = 8;
const SILENCE_MS = 45000; // the runner comments every 15 s

export async function run(call) {
  const body = await readBody(call);
  if (!body) return failure(call, 400, "INVALID_REQUEST", call.broken);
  if (body.taskId !== undefined)
    return failure(call, 400, "INVALID_REQUEST", "taskId is the worker's to give; send an Idempotency-Key");
  await prepare(call, body);
  // Code is answered at once and leaves no task: it gets no name, and its fields are the runner's to judge.
  const isCode = body.prompt === undefined && body.code !== undefined;
  if (isCode) {
    call.detached = true;
    call.post.body = JSON.stringify(body);
  }
  const taken = await deliver(call, "/run");
  if (!taken) {
    const { status, body: said } = unreachable(call);
    return Response.json({ ...said, edge: { request_id: call.id, taskId: call.taskId, tried: call.tried } }, { status });
  }
  const { runner, response, done } = taken;
  const headers = { "X-Edge-Runner": runner.name, ...(!isCode && { "X-Edge-Task": call.taskId }) };
  const type = response.headers.get("Content-Type") ?? "application/json";
  if (!type.startsWith("text/event-stream") && response.status !== 202)
    return done(), new Response(response.body, { status: response.status, headers: { ...headers, "Content-Type": type } });
  const { readable, writable } = new TransformStream();
  call.until = pump(call, taken, writable.getWriter());
  call.ctx.waitUntil(call.until);
  return new Response(readable, {
    headers: { ...headers, "Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no" },
  });
}

async function pump(call, { runner, response, done }, writer) {
  const place = { lastId: undefined, ended: false };
  try {
    // A 202 stands for an answer that was lost: the task is there, its stream is not.
    if (response.status !== 202) await forward(response.body, writer, place);
    for (let n = 0; !place.ended && n < RECONNECTS && !call.signal?.aborted; n++) {
      await pause(Math.min(250 * 2 ** n, 10000));
      if (await again(call, runner, writer, place)) n = 0;
    }
    if (!place.ended) await sayLost(writer, call);
    await writer.close();
  } catch (error) {
    console.log(JSON.stringify({ event: "caller_gone", request_id: call.id, error: String(error) }));
    await writer.abort(error).catch(() => {});
  } finally {
    done();
  }
}

// Reads on where the stream broke; true when something came.
async function again(call, runner, writer, place) {
  const headers = { Accept: "text/event-stream", ...(place.lastId && { "Last-Event-ID": place.lastId }) };
  let response;
  try {
    response = await callRunner(call, runner, `/tasks/${call.taskId}/events`, { headers, signal: call.signal });
  } catch {
    return false;
  }
  if (response.status === 204) return place.ended = true;
  if (response.status === 404) return place.ended = true, await sayLost(writer, call), true;
  if (response.status !== 200) return await response.body?.cancel(), false;
  const before = place.lastId;
  await forward(response.body, writer, place);
  return place.lastId !== before;
}

function sayLost(writer, call) {
  const data = JSON.stringify({ error: `the runner went away; ask for /tasks/${call.taskId}`, reason: "runner_lost", tried: call.tried });
  return writer.write(new TextEncoder().encode(`event: error\ndata: ${data}\n\n`));
}

// Passes whole events on; half of one is kept back until the rest is there, and dropped when that never comes. Errors
// of the writer are the caller's and are thrown; those of the reader end the call.
async function forward(body, writer, place) {
  const reader = body.getReader();
  let rest = new Uint8Array(0);
  for (;;) {
    let chunk;
    try {
      chunk = await Promise.race([reader.read(), pause(SILENCE_MS).then(() => ({ done: true, silent: true }))]);
    } catch {
      return;
    }
    if (chunk.done) {
      if (chunk.silent) await reader.cancel().catch(() => {});
      return;
    }
    const bytes = rest.length ? joined(rest, chunk.value) : chunk.value;
    const end = lastEventEnd(bytes, Math.max(0, rest.length - 1));
    if (end) {
      const whole = bytes.subarray(0, end);
      note(whole, place);
      await writer.write(whole);
    }
    rest = bytes.slice(end);
    if (rest.length > EVENT_MAX) throw new Error("an event is too large");
    if (place.ended) return;
  }
}

function joined(a, b) {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

// Where the last whole event ends: after "\n\n". Bytes before `from` - 1 are known to hold none.
function lastEventEnd(bytes, from) {
  for (let at = bytes.length - 1; at > from; at--)
    if (bytes[at] === 10 && bytes[at - 1] === 10) return at + 1;
  return 0;
}

// Notes the last id, and whether the end has come. JSON has no line breaks: a line that begins so is the stream's own.
function note(bytes, place) {
  const text = new TextDecoder().decode(bytes);
  const ids = text.match(/^id: ?.*$/gm);
  if (ids) place.lastId = ids.at(-1).replace(/^id: ?/, "").trim();
  if (/^event: ?done$/m.test(text)) place.ended = true;
}
