// How answers look: the published worker's form for its callers, and the runner's own for everybody else.

const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
  "Access-Control-Allow-Headers":
    "Content-Type, X-API-Key, Authorization, X-Runner-Secret, Idempotency-Key, Prefer, Last-Event-ID, X-Request-ID",
  "Access-Control-Expose-Headers": "X-Request-ID, Location, Retry-After",
};

export function preflight() {
  return new Response(null, { headers: { ...CORS, "Access-Control-Max-Age": "86400" } });
}

export function withCors(response, id) {
  const answer = new Response(response.body, response);
  for (const [name, value] of Object.entries(CORS)) answer.headers.set(name, value);
  answer.headers.set("X-Request-ID", id);
  return answer;
}

// An error of the worker's own. `more` adds members; `headers` adds headers.
export function failure(call, status, code, message, more = {}, headers = {}) {
  return Response.json(
    { success: false, error: message, error_code: code, request_id: call.id, duration_ms: Date.now() - call.startedAt, ...more },
    { status, headers });
}

// What a request came to, however it is sent.
export function outcome(status, body, headers = {}) {
  return { status, body, headers };
}

// Sends the outcome when it is there. When that takes longer than `quietSeconds`, the status is 200 and white space
// keeps the connection open until the object comes: nothing between here and the caller waits in silence for 100 s.
export async function sendWhenReady(call, promise) {
  const first = await Promise.race([promise, pause(call.config.quietSeconds * 1000)]);
  if (first) return Response.json(first.body, { status: first.status, headers: first.headers });
  const { readable, writable } = new TransformStream();
  call.until = trickle(writable.getWriter(), promise, call);
  call.ctx.waitUntil(call.until);
  return new Response(readable, { headers: { "Content-Type": "application/json", "Cache-Control": "no-store" } });
}

async function trickle(writer, promise, call) {
  const encoder = new TextEncoder();
  try {
    let end;
    while (!end) {
      await writer.write(encoder.encode(" "));
      end = await Promise.race([promise, pause(15000)]);
    }
    await writer.write(encoder.encode(JSON.stringify(end.body)));
    await writer.close();
  } catch (error) {
    console.log(JSON.stringify({ event: "caller_gone", request_id: call.id, error: String(error) }));
  }
}

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
