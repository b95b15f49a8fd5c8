// What the console's tests share: a browser, a way to the runner that can break and tell stories, and checks.
import { existsSync, readFileSync } from "node:fs";
import { once } from "node:events";
import http from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const program = process.env.CHROMIUM ?? "/usr/bin/chromium";
let failed = 0;

export function check(name, holds, more = "") {
  console.log(`${holds ? "ok  " : "FAIL"} ${name}${holds ? "" : ` ${typeof more === "string" ? more : JSON.stringify(more)}`}`);
  if (!holds) failed++;
}
export const failures = () => failed;

export function launch() {
  if (!existsSync(program)) {
    console.log(`no browser at ${program}`);
    process.exit(77);
  }
  return chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-gpu"] });
}

export const desktop = { viewport: { width: 1280, height: 860 } };
export const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: "dark" };

// A page of a fresh visitor; what its console says is added to `seen`.
export async function open(browser, options, seen) {
  const context = await browser.newContext({ permissions: ["clipboard-read", "clipboard-write"], ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  page.on("console", (message) => message.type() === "error" && seen.push(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => seen.push(String(error)));
  return page;
}

// Whether everybody can use what is shown, and whether it fits.
export async function inspect(page, name) {
  await page.evaluate(axe); // by the debugger: the page's own rules allow no such script
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  check(`${name}: axe finds nothing`, violations.length === 0, violations.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.html.slice(0, 120)} ${node.failureSummary.slice(0, 200)}`).slice(0, 3).join(" | ")}`));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(`${name}: fits the screen`, wide <= 0, `${wide} px too wide`);
  const small = await page.evaluate(() => [...document.querySelectorAll("button, a.button, nav a, input:not([type=checkbox]):not([hidden]), select, textarea")]
    .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height > 0 && one.getBoundingClientRect().height < 43.5).map((one) => one.outerHTML.slice(0, 80)));
  check(`${name}: fingers find what is to be touched`, small.length === 0, small);
}

// A way to the runner. `down`: nothing answers. `stories`: path -> handler(request, response) instead of the runner. `before`: a
// function that may change the request's url, or answer it and say true. `asked`: every path that was asked for.
export async function way(target) {
  const state = { down: false, stories: new Map(), before: () => false, asked: [] };
  const { hostname, port } = new URL(target);
  const server = http.createServer(async (request, response) => {
    if (state.down) return request.socket.destroy();
    state.asked.push(request.url);
    if (await state.before(request, response)) return;
    const story = state.stories.get(request.url.split("?")[0]);
    if (story) return story(request, response);
    const onward = http.request({ hostname, port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  state.base = `http://127.0.0.1:${server.address().port}`;
  state.cut = () => { state.down = true; server.closeAllConnections(); };
  state.close = () => { server.closeAllConnections(); server.close(); };
  return state;
}

export async function until(what, ms = 60000) {
  for (const end = Date.now() + ms; ; ) {
    const value = await what();
    if (value) return value;
    if (Date.now() > end) return undefined;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

// A task of `count` events that the runner never had: lines of 100 bytes and more, each with an id.
export function longTask(state, id, count) {
  const line = (n) => JSON.stringify({ id: n * 1000, event: "message", data: n % 3 === 1
    ? { type: "assistant", message: { content: [{ type: "tool_use", id: `t${n}`, name: "Bash", input: { command: `echo ${n}` } }] } }
    : n % 3 === 2 ? { type: "user", message: { content: [{ type: "tool_result", tool_use_id: `t${n - 1}`, content: `said ${n}` }] } }
    : { type: "assistant", message: { content: [{ type: "text", text: `Event ${n} **of many**` }] } } });
  const story = { count, readers: new Set(), line };
  state.stories.set(`/tasks/${id}`, (_, response) => {
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ taskId: id, kind: "claude", status: "running", startedAt: new Date().toISOString(), createdAt: new Date().toISOString(), attempts: 1, request: { prompt: "a long one" } }));
  });
  state.stories.set(`/tasks/${id}/events`, async (request, response) => {
    response.writeHead(200, { "Content-Type": "application/x-ndjson" });
    response.setMaxListeners(0);
    const last = request.headers["last-event-id"];
    let n = last === undefined ? 0 : Number(last) / 1000 + 1;
    while (n < story.count && !response.destroyed) {
      const part = [];
      for (let k = 0; k < 500 && n < story.count; k++) part.push(line(n++));
      if (!response.write(`${part.join("\n")}\n`)) await Promise.race([once(response, "drain"), once(response, "close")]);
    }
    const reader = { write: (text) => response.write(text) };
    story.readers.add(reader);
    response.on("close", () => story.readers.delete(reader));
  });
  // One more event, now.
  story.say = () => {
    const text = `${line(story.count++)}\n`;
    for (const reader of story.readers) reader.write(text);
  };
  return story;
}
