// What the worker's tests share: the worker in workerd, a tunnel that can break, runners that do as they are told.
import { readdirSync, readFileSync } from "node:fs";
import http from "node:http";
import { Miniflare } from "miniflare";

const source = new URL("../../cloudflared/worker/src/", import.meta.url);
let failed = 0;

export function check(name, holds, more = "") {
  console.log(`${holds ? "ok  " : "FAIL"} ${name}${holds ? "" : ` ${typeof more === "string" ? more : JSON.stringify(more)}`}`);
  if (!holds) failed++;
}
export const failures = () => failed;

// Waits until the function gives something true.
export async function until(what, ms = 20000) {
  for (const end = Date.now() + ms; ; ) {
    const value = await what();
    if (value) return value;
    if (Date.now() > end) return undefined;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// A caller inside workerd: it asks the worker, and goes away when the address in X-Leave answers. Cloudflare's edge drops
// the request of a client that closes its connection in this way; workerd's own listener waits for the next write.
const CALLER = `export default { async fetch(request, env, ctx) {
  const gone = new AbortController();
  ctx.waitUntil(fetch(request.headers.get("X-Leave")).then(() => gone.abort()));
  try { return await env.EDGE.fetch(new Request(request, { signal: gone.signal })); }
  catch { return new Response("gone", { status: 499 }); }
} }`;

// The worker with these variables. {base, dispose()}
export async function worker(bindings, { queue = false, keeper = true, caller = false } = {}) {
  const modules = readdirSync(source).map((name) => ({ type: "ESModule", path: name, contents: readFileSync(new URL(name, source), "utf8") }));
  modules.sort((a, b) => (b.path === "index.js") - (a.path === "index.js"));
  const settings = readFileSync(new URL("../wrangler.toml", source), "utf8");
  const engine = {
    compatibilityDate: /compatibility_date = "(.*)"/.exec(settings)[1],
    compatibilityFlags: JSON.parse(/compatibility_flags = (.*)/.exec(settings)[1]),
  };
  const edge = {
    name: "edge", modules, bindings, ...engine,
    ...(keeper && { durableObjects: { KEEPER: "Keeper" } }),
    ...(queue && { queueProducers: { QUEUE: "runner-tasks" }, queueConsumers: { "runner-tasks": { maxBatchTimeout: 2 } } }),
  };
  const front = { name: "caller", modules: true, script: CALLER, serviceBindings: { EDGE: "edge" }, ...engine };
  const mf = new Miniflare({ host: "127.0.0.1", port: 0, cf: false, workers: caller ? [front, edge] : [edge] });
  const base = (await mf.ready).origin;
  return { base, dispose: () => mf.dispose() };
}

async function listen(server) {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

// A way to the runner that can break. mode: "up"; "down" (530, as Cloudflare says of a tunnel that is away); "eat" (the
// next POST reaches the runner, its answer does not come back); "eat and die" (and then it is down); "cut" (streams
// break after `cutAfter` bytes, once).
export async function tunnel(target) {
  const state = { mode: "up", seen: [], cutAfter: 0 };
  const { hostname, port } = new URL(target);
  const server = http.createServer((request, response) => {
    state.seen.push({ method: request.method, path: request.url, headers: request.headers });
    if (state.mode === "down") return response.writeHead(530).end("error code: 1033");
    const eats = state.mode.startsWith("eat") && request.method === "POST";
    const dies = eats && state.mode.endsWith("die");
    if (eats) state.mode = dies ? "down" : "up";
    const onward = http.request({ hostname, port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      if (eats) return response.destroy();
      response.writeHead(answer.statusCode, answer.headers);
      let bytes = 0;
      answer.on("data", (chunk) => {
        bytes += chunk.length;
        if (state.mode === "cut" && bytes > state.cutAfter) {
          state.mode = "up";
          state.cuts = (state.cuts ?? 0) + 1;
          response.write(chunk.subarray(0, chunk.length >> 1), () => response.destroy());
          answer.destroy();
        } else response.write(chunk);
      });
      answer.on("end", () => response.end());
      answer.on("error", () => response.destroy());
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  state.base = await listen(server);
  state.close = () => { server.closeAllConnections(); server.close(); };
  return state;
}

// A runner that does as it is told: answers(request, body, url) -> {status, body, headers, after}, or undefined for no
// answer at all. /health says `health`.
export async function fake(answers, health = { status: "healthy", credential: "login", oauth: { expired: false } }) {
  const state = { seen: [], answers, health };
  const server = http.createServer(async (request, response) => {
    let text = "";
    for await (const part of request) text += part;
    state.seen.push({ method: request.method, path: request.url, headers: request.headers, body: text });
    if (request.url === "/health" && state.health) return send(response, 200, state.health);
    const said = await state.answers(request, text && request.headers["content-type"]?.includes("json") ? JSON.parse(text) : text);
    if (!said) return response.destroy();
    send(response, said.status ?? 200, said.body, said.headers);
  });
  state.base = await listen(server);
  state.close = () => { server.closeAllConnections(); server.close(); };
  state.posts = () => state.seen.filter((one) => one.method === "POST");
  return state;
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body ?? {}));
}

export async function post(base, path, body, headers = {}) {
  const response = await fetch(base + path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) });
  const text = await response.text();
  let json;
  try { json = JSON.parse(text); } catch { /* not JSON */ }
  return { status: response.status, headers: response.headers, text, json };
}

// The events of a stream: [{id, event, data}]
export function events(text) {
  return text.split("\n\n").filter((block) => /^(id|data|event):/m.test(block)).map((block) => ({
    id: /^id: ?(.*)$/m.exec(block)?.[1],
    event: /^event: ?(.*)$/m.exec(block)?.[1],
    data: /^data: ?(.*)$/m.exec(block)?.[1],
  }));
}
