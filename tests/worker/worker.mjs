// The edge worker in workerd, in front of a real runner and of runners that misbehave. Prints one line a check; exit
// status 0 when all hold.
//   node worker.mjs RUNNER SECRET
import { generateKeyPairSync, createVerify } from "node:crypto";
import { check, events, failures, fake, post, tunnel, until, worker } from "./support.mjs";

const [runner, secret] = process.argv.slice(2);
const token = "token-of-the-app-0001", other = "token-of-another-0002";
const callers = JSON.stringify({ app: { token, perMinute: 1000, atOnce: 8 }, other: { token: other, perMinute: 3, atOnce: 1 } });
const as = { "X-API-Key": token };
const first = (base, more = {}) => ({ CLAUDE_RUNNER_URL: base, RUNNER_SECRET: secret, CALLERS: callers, ...more });
const atRunner = async (path) => (await fetch(runner + path, { headers: { "X-Runner-Secret": secret } })).json();
const ok = (output) => ({ body: { success: true, output, exit_code: 0, duration_ms: 5 } });

// What callers of the published worker send and read.
async function publishedCallers() {
  const way = await tunnel(runner);
  const edge = await worker(first(way.base, { CF_ACCESS_CLIENT_ID: "id.access", CF_ACCESS_CLIENT_SECRET: "token.access" }));
  const health = await (await fetch(`${edge.base}/health`)).json();
  check("health: the published members", health.status === "healthy" && health.service === "sandbox-executor" && health.runner_url === way.base &&
    health.runner_configured === true && typeof health.timestamp === "string" && health.fallback.gemini_configured === false, health);
  const good = await post(edge.base, "/execute", { task: "[[text:Hello from home]]", repo: null, executor_type: "claude", options: { timeout_ms: 60000, sandbox: true } }, as);
  check("execute: a task that succeeds", good.status === 200 && good.json.success === true && good.json.logs === "Hello from home" &&
    good.json.metadata.delegated_to_runner === true && good.json.metadata.exit_code === 0 && good.json.metadata.runner_url === way.base &&
    good.json.metadata.execution_time_ms > 0 && good.json.request_id === good.headers.get("X-Request-ID"), good.text);
  const bad = await post(edge.base, "/execute", { task: "[[error:400]]" }, as);
  check("execute: a task that fails is a 500", bad.status === 500 && bad.json.success === false && bad.json.logs.length > 0 && bad.json.metadata.exit_code > 0, bad.text);
  const gemini = await post(edge.base, "/execute", { task: "x", executor_type: "gemini" }, as);
  check("execute: no Gemini here", gemini.status === 503 && gemini.json.error_code === "GEMINI_NOT_CONFIGURED", gemini.text);
  const lost = await post(edge.base, "/nothing", {}, as);
  check("an unknown path", lost.status === 404 && lost.json.error_code === "ROUTE_NOT_FOUND", lost.text);
  const preflight = await fetch(`${edge.base}/execute`, { method: "OPTIONS" });
  check("browsers may ask", preflight.headers.get("Access-Control-Allow-Origin") === "*" && good.headers.get("Access-Control-Allow-Origin") === "*");
  check("the secret and the Access token travel", way.seen.some((one) => one.path === "/execute" && one.headers["x-runner-secret"] === secret &&
    one.headers["cf-access-client-id"] === "id.access" && one.headers["cf-access-client-secret"] === "token.access"));
  await edge.dispose();
  way.close();
}

// Each answer of the published worker, from what a runner says.
async function publishedForms() {
  let says = ok("fine");
  const runner_ = await fake(() => says), gemini = await fake(() => says);
  const edge = await worker(first(runner_.base, { GEMINI_RUNNER_URL: gemini.base, GEMINI_RUNNER_SECRET: "gemini-secret-0000" }));
  const send = (body) => post(edge.base, "/execute", body, as);
  await send({ task: "T", repo: "https://github.com/o/r", executor_type: "claude", options: { timeout_ms: 7000 }, branch: "b", instance_id: "i" });
  const { headers, body } = runner_.posts()[0], sent = JSON.parse(body);
  check("published: what the runner gets", sent.prompt === "T" && sent.repo_url === "https://github.com/o/r" && sent.timeout_ms === 7000 &&
    headers["x-runner-secret"] === secret && headers["x-request-id"] && headers["idempotency-key"] === sent.taskId &&
    ["task", "repo", "options", "branch", "instance_id", "executor_type"].every((name) => !(name in sent)), sent);
  await send({ task: "T" });
  check("published: five minutes by default", JSON.parse(runner_.posts()[1].body).timeout_ms === 300000);
  for (const empty of [{}, { task: "" }, { task: "  " }, { repo: "o/r" }, { task: 7 }]) {
    const none = await send(empty);
    check(`published: ${JSON.stringify(empty)} has no task`, none.status === 400 && none.json.error === "Task is required" && none.json.error_code === "INVALID_REQUEST" &&
      none.json.request_id === none.headers.get("X-Request-ID"), none.text);
  }
  const cases = [
    ["a task that failed", { body: { success: false, error: "it broke", output: "as far as it came", exit_code: 3, duration_ms: 9 } }, 500, undefined,
      (a) => a.logs === "as far as it came" && a.metadata.exit_code === 3 && a.metadata.runner_duration_ms === 9 && a.metadata.delegated_to_runner],
    ["one without output", { body: { success: false, error: "it broke", exit_code: 1 } }, 500, undefined, (a) => a.logs === "it broke"],
    ["one that says nothing", { body: { success: true } }, 200, undefined, (a) => a.logs === "No output" && a.success === true && !("error" in a)],
    ["a login that is lost", { body: { success: false, error: "OAuth token expired", duration_ms: 4 } }, 401, "RUNNER_OAUTH_ERROR", (a) => a.metadata.needs_reauth && a.metadata.runner_duration_ms === 4],
    ["no login", { status: 401, body: { success: false, error: "OAuth: log in" } }, 401, "RUNNER_OAUTH_ERROR", (a) => a.metadata.needs_reauth && a.error.includes("OAuth")],
    ["a request that the runner finds wrong", { status: 400, body: { success: false, error: "repoUrl: no" } }, 500, "RUNNER_FAILED", (a) => a.logs === "repoUrl: no" && a.metadata.runner_status === 400],
    ["a runner that is ill", { status: 502, body: {} }, 503, "RUNNER_UNREACHABLE", (a) => /^Runner unreachable: /.test(a.error) && a.metadata.runner_url === runner_.base],
  ];
  for (const [name, said, status, code, holds] of cases) {
    says = said;
    const { status: got, json } = await send({ task: "T" });
    check(`published: ${name}`, got === status && json.error_code === code && json.success === (status === 200) && json.request_id && json.metadata.execution_time_ms >= 0 && holds(json), json);
  }
  const ask = async (said) => { says = said; return send({ task: "T", executor_type: "gemini" }); };
  const good = await ask(ok("from Gemini")), bad = await ask({ body: { success: false, error: "authentication expired" } }), gone = await ask(undefined);
  check("published: a Gemini runner", good.json.logs === "from Gemini" && good.json.metadata.executor_type === "gemini" && good.json.metadata.runner_url === gemini.base &&
    gemini.posts()[0].headers["x-runner-secret"] === "gemini-secret-0000", good.text);
  check("published: its login is lost", bad.status === 401 && bad.json.error_code === "GEMINI_AUTH_ERROR" && bad.json.metadata.needs_reauth, bad.text);
  check("published: it is away", gone.status === 503 && gone.json.error_code === "GEMINI_RUNNER_UNREACHABLE" && /^Gemini runner unreachable: /.test(gone.json.error) &&
    gone.json.metadata.runner_failed && gone.json.metadata.executor_type === "gemini", gone.text);
  await edge.dispose();
  runner_.close();
  gemini.close();
}

async function ownCallers() {
  const edge = await worker(first(runner));
  const answer = await post(edge.base, "/execute", { prompt: "[[text:Mine]]" }, { ...as, "X-Request-ID": "req-77" });
  check("the runner's own object comes back", answer.status === 200 && answer.json.output === "Mine" && answer.json.taskId === answer.json.edge.taskId &&
    answer.json.edge.tried[0].outcome === "taken" && answer.headers.get("X-Request-ID") === "req-77", answer.text);
  const wrong = await post(edge.base, "/execute", { promt: "x" }, as);
  check("a wrong request is said as the runner says it", wrong.status === 400 && /did you mean 'prompt'/.test(wrong.json.error), wrong.text);
  const noJson = await fetch(`${edge.base}/execute`, { method: "POST", headers: as, body: "{" });
  check("a body that is not JSON", noJson.status === 400);
  const named = await post(edge.base, "/execute", { prompt: "x", taskId: "mine" }, as);
  check("the worker names the tasks", named.status === 400 && /Idempotency-Key/.test(named.json.error));
  const async_ = await post(edge.base, "/run-async", { prompt: "[[text:Later]]" }, as);
  check("run-async: 202 with the task", async_.status === 202 && async_.headers.get("Location") === `/tasks/${async_.json.taskId}`, async_.text);
  const get = (path, headers = as) => fetch(edge.base + path, { headers });
  const done = await until(async () => { const r = await get(`/tasks/${async_.json.taskId}/result`); return r.status === 200 && r.json(); });
  check("its result can be asked for", done?.output === "Later", done);
  check("another caller does not see it", (await get(`/tasks/${async_.json.taskId}`, { "X-API-Key": other })).status === 404);
  const soon = await post(edge.base, "/execute", { prompt: "[[drip:2000]][[text:slow]]" }, { ...as, Prefer: "wait=1" });
  check("Prefer: wait gives 202 and the task's place", soon.status === 202 && /^\/tasks\/e-/.test(soon.headers.get("Location")), soon.text);
  const stopped = await fetch(edge.base + soon.headers.get("Location"), { method: "DELETE", headers: as });
  check("a task can be cancelled", stopped.status === 200, await stopped.text());
  await edge.dispose();
}

async function gate() {
  const edge = await worker(first(runner));
  const say = (headers) => post(edge.base, "/execute", {}, headers);
  check("without a token: 403", (await say({})).status === 403);
  check("with a wrong one: 403", (await say({ "X-API-Key": "token-of-the-app-0002" })).status === 403);
  check("by Authorization", (await say({ Authorization: `Bearer ${token}` })).status === 400);
  check("by X-Runner-Secret", (await say({ "X-Runner-Secret": token })).status === 400);
  const answers = [];
  for (let n = 0; n < 4; n++) answers.push(await say({ "X-API-Key": other }));
  check("a caller's limit by the minute", answers.slice(0, 3).every((one) => one.status === 400) && answers[3].status === 429 &&
    Number(answers[3].headers.get("Retry-After")) > 0, answers.map((one) => one.status));
  await edge.dispose();
  const open = await worker({ CLAUDE_RUNNER_URL: runner, RUNNER_SECRET: secret, ANONYMOUS_PER_MINUTE: "1" });
  const said = [await post(open.base, "/execute", {}), await post(open.base, "/execute", {})].map((one) => one.status);
  check("callers without a token, where the owner wants that", said.join() === "400,429", said);
  await open.dispose();
  const broken = await worker({ CLAUDE_RUNNER_URL: runner });
  const mistake = await post(broken.base, "/execute", {});
  check("a mistake in the configuration is named", mistake.status === 500 && /RUNNER_SECRET not configured/.test(mistake.json.error) &&
    mistake.json.error_code === "MISSING_RUNNER_SECRET", mistake.text);
  const ill = await (await fetch(`${broken.base}/health`)).json();
  check("and by /health", ill.status === "degraded" && ill.runner_configured === false && ill.service === "sandbox-executor" && ill.runner_url === runner, ill);
  await broken.dispose();
}

async function atOnce() {
  let finish;
  const slow = await fake((request) => request.method === "POST" && new Promise((resolve) => { finish = () => resolve(ok("done")); }));
  const edge = await worker(first(slow.base, { CALLERS: JSON.stringify({ one: { token, atOnce: 1 } }) }));
  const running = post(edge.base, "/execute", { prompt: "x" }, as);
  await until(() => finish);
  const second = await post(edge.base, "/execute", { prompt: "x" }, as);
  check("a caller's limit at once", second.status === 429 && /at once/.test(second.json.error), second.text);
  finish();
  check("the one that ran is answered", (await running).json.output === "done");
  check("and there is room again", await until(async () => {
    const next = post(edge.base, "/execute", { prompt: "y" }, as);
    const before = slow.posts().length;
    await Promise.race([next, until(() => slow.posts().length > before, 3000)]);
    finish();
    return (await next).status === 200;
  }));
  await edge.dispose();
  slow.close();
}

// A retry runs nothing twice, whoever retries.
async function lostAnswers() {
  const way = await tunnel(runner), back = await tunnel(runner);
  const edge = await worker(first(way.base, { SECOND_RUNNER_URL: back.base, SECOND_RUNNER_SECRET: secret }));
  const key = { ...as, "Idempotency-Key": "order-1" };
  const one = await post(edge.base, "/execute", { prompt: "[[text:once]]" }, key);
  const two = await post(edge.base, "/execute", { prompt: "[[text:once]]" }, key);
  check("a caller's key: the same task", one.json.taskId === two.json.taskId && two.json.output === "once", two.text);
  const strange = await post(edge.base, "/execute", { prompt: "[[text:other]]" }, key);
  check("a caller's key with another body: 409", strange.status === 409, strange.text);
  way.seen.length = 0;
  way.mode = "eat";
  const eaten = await post(edge.base, "/execute", { prompt: "[[text:eaten]]" }, as);
  const posts = way.seen.filter((one) => one.method === "POST");
  check("a lost answer: the same request once more", eaten.json.output === "eaten" && eaten.json.edge.runner === "first" && posts.length === 2 &&
    posts[0].headers["idempotency-key"] === posts[1].headers["idempotency-key"], eaten.text);
  way.mode = "eat and die";
  const before = (await atRunner("/tasks?limit=1000")).tasks.length;
  const gone = await post(edge.base, "/execute", { prompt: "[[text:taken and gone]]" }, as);
  const after = (await atRunner("/tasks?limit=1000")).tasks.length;
  check("taken, then away: the second gets the same task", gone.json.output === "taken and gone" && gone.json.edge.runner === "second" && after === before + 1, gone.text);
  check("and the answer says what cannot be known", gone.json.edge.tried[0].outcome === "unknown" && /cannot be known/.test(gone.json.edge.tried[0].why), gone.json.edge);
  await edge.dispose();
  way.close();
  back.close();
}

async function fallback() {
  const away = await tunnel(runner);
  away.mode = "down";
  const second = await fake(() => ok("from the second"));
  const edge = await worker(first(away.base, { SECOND_RUNNER_URL: second.base, SECOND_RUNNER_SECRET: "second-secret-0000", SECOND_ACCESS_CLIENT_ID: "a", SECOND_ACCESS_CLIENT_SECRET: "b" }));
  for (let n = 0; n < 5; n++) {
    const answer = await post(edge.base, "/execute", { prompt: "x" }, as);
    if (n === 0) check("the first is away: the second runs it, and why stands in the answer", answer.json.output === "from the second" &&
      answer.json.edge.tried.map((one) => one.runner).join() === "first,second" && /tunnel is down/.test(answer.json.edge.tried[0].why), answer.text);
    if (n === 4) check("after failures in a row it is left alone", /left alone/.test(answer.json.edge.tried[0].why) && away.seen.length < 4, [answer.json.edge, away.seen.length]);
  }
  check("each has its own secret and service token", second.posts().every((one) => one.headers["x-runner-secret"] === "second-secret-0000" && one.headers["cf-access-client-id"] === "a"));
  second.answers = () => ({ status: 400, body: { success: false, error: "prompt must be shorter" } });
  const wrong = await post(edge.base, "/execute", { prompt: "x" }, as);
  check("a wrong request is not carried around", wrong.status === 400 && wrong.json.error === "prompt must be shorter", wrong.text);
  const health = await (await fetch(`${edge.base}/health`)).json();
  check("health says which is away", health.runners[0].status === "unreachable" && health.runners[0].breaker === "open" && health.runners[1].status === "healthy", health);
  second.answers = () => ({ status: 507, body: { error: "disk" } });
  const none = await post(edge.base, "/execute", { task: "x" }, as);
  check("nobody left: 503, in the published form", none.status === 503 && none.json.error_code === "RUNNER_UNREACHABLE" && /second: its disk/.test(none.json.error), none.text);
  await edge.dispose();
  away.close();
  second.close();
}

async function logins() {
  const dry = { status: "degraded", reasons: ["login_needed"], credential: "login", oauth: { expired: true } };
  const refuses = () => ({ status: 401, body: { success: false, error: "OAuth: log in" } });
  const home = await fake(refuses, dry), second = await fake(() => ok("second"));
  let edge = await worker(first(home.base), { queue: true });
  const said = await post(edge.base, "/execute", { task: "x" }, as);
  check("no login: RUNNER_OAUTH_ERROR, and nothing is queued", said.status === 401 && said.json.error_code === "RUNNER_OAUTH_ERROR" && said.json.metadata.needs_reauth === true, said.text);
  home.answers = () => ok("home");
  const since = await post(edge.base, "/execute", { task: "x" }, as);
  check("somebody has logged in since /health was asked: it runs", since.status === 200 && since.json.logs === "home", since.text);
  await edge.dispose();
  home.health = { status: "healthy", credential: "login", oauth: {} };
  home.answers = (request) => request.method === "POST" && request.url === "/execute"
    ? { status: 202, body: {}, headers: { Location: "/tasks/x" } }
    : request.url.endsWith("/result") ? { status: 202, body: { status: "waiting_login" } } : { body: {} };
  edge = await worker(first(home.base));
  const later = await post(edge.base, "/execute", { task: "x" }, as);
  check("a login lost on the way: the task is taken back", later.status === 401 && later.json.error_code === "RUNNER_OAUTH_ERROR" &&
    home.posts().some((one) => one.path.endsWith("/cancel")), later.text);
  await edge.dispose();
  home.health = dry;
  home.answers = () => ok("home");
  home.seen.length = 0;
  edge = await worker(first(home.base, { SECOND_RUNNER_URL: second.base, SECOND_RUNNER_SECRET: "second-secret-0000" }));
  check("no login: the second runs it", (await post(edge.base, "/execute", { task: "x" }, as)).json.logs === "second" && home.posts().length === 0);
  second.answers = () => ({ status: 507, body: { error: "disk" } });
  const last = await post(edge.base, "/execute", { prompt: "x" }, as);
  check("it comes last: what the second does not take is its own to judge", last.json.output === "home" &&
    last.json.edge.tried.map((one) => one.runner).join() === "second,first", last.text);
  home.answers = refuses;
  const none = await post(edge.base, "/run-async", { prompt: "x" }, as);
  check("a login is not all that is wrong: both reasons are said", none.status === 503 && /disk/.test(none.json.error) && /login/.test(none.json.error), none.text);
  await edge.dispose();
  home.close();
  second.close();
}

// Runner, second runner, queue; also without a Durable Object, where each isolate remembers by itself.
async function order() {
  const leaving = await fake(() => ok("home"), { status: "draining", credential: "login", oauth: {} });
  const full = await fake(() => ({ status: 429, body: { success: false, error: "full" } }));
  const edge = await worker(first(leaving.base, { SECOND_RUNNER_URL: full.base, SECOND_RUNNER_SECRET: "second-secret-0000",
    CALLERS: JSON.stringify({ app: { token, perMinute: 6 } }) }), { queue: true, keeper: false });
  const queued = await post(edge.base, "/execute", { prompt: "x" }, as);
  check("the order: the first, the second, the queue", queued.status === 202 && queued.json.edge.tried.map((one) => `${one.runner} ${one.outcome}`).join() ===
    "first skipped,second refused,queue taken", queued.text);
  check("one that shuts down is passed over, a full one is asked", leaving.posts().every((one) => one.path !== "/execute") &&
    /shutting down/.test(queued.json.edge.tried[0].why) && /full/.test(queued.json.edge.tried[1].why), queued.text);
  const said = [];
  for (let n = 0; n < 6; n++) said.push(await post(edge.base, "/execute", { prompt: "x" }, as));
  check("breakers without a Durable Object", /left alone/.test(said[4].json.edge.tried[0].why), said[4].text);
  check("limits without one", said[5].status === 429, said[5].text);
  await edge.dispose();
  leaving.close();
  full.close();
}

// The same service at Google asks for an identity token.
async function google() {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  let claims;
  const tokens = await fake((request, text) => {
    const [head, body, signature] = new URLSearchParams(text).get("assertion").split(".");
    const valid = createVerify("RSA-SHA256").update(`${head}.${body}`).verify(publicKey, Buffer.from(signature, "base64url"));
    claims = JSON.parse(Buffer.from(body, "base64url"));
    return valid ? { body: { id_token: "identity-of-the-edge" } } : { status: 401 };
  });
  const service = await fake(() => ok("from Google"));
  const key = { client_email: "edge@project.iam", private_key_id: "1", private_key: privateKey.export({ type: "pkcs8", format: "pem" }), token_uri: `${tokens.base}/token` };
  const edge = await worker({ CALLERS: callers, SECOND_RUNNER_URL: service.base, SECOND_RUNNER_SECRET: secret, SECOND_GOOGLE_KEY: JSON.stringify(key) });
  const answer = await post(edge.base, "/execute", { prompt: "x" }, as);
  check("a service at Google gets an identity token", answer.json.output === "from Google" && claims.target_audience === service.base &&
    service.seen.every((one) => one.headers["x-serverless-authorization"] === "Bearer identity-of-the-edge"), answer.text);
  check("one token serves many", tokens.seen.length === 1);
  await edge.dispose();
  tokens.close();
  service.close();
}

async function queue() {
  const way = await tunnel(runner);
  const edge = await worker(first(way.base), { queue: true });
  way.mode = "down";
  const answer = await post(edge.base, "/execute", { task: "[[text:from the queue]]" }, { ...as, "Idempotency-Key": "q-1" });
  const id = answer.json.metadata?.task_id;
  check("nobody is there: the queue takes it", answer.status === 202 && answer.json.error_code === "QUEUED" && answer.json.queued === true &&
    answer.headers.get("Location") === `/tasks/${id}`, answer.text);
  const waiting = await (await fetch(`${edge.base}/tasks/${id}`, { headers: as })).json();
  check("the task can be seen waiting", waiting.status === "pending" && waiting.reason === "queued_at_edge", waiting);
  way.mode = "up";
  const done = await until(async () => { const r = await fetch(`${edge.base}/tasks/${id}/result`, { headers: as }); return r.status === 200 && r.json(); });
  check("the runner is back: it runs", done?.output === "from the queue", done);
  const large = async () => post(edge.base, "/run-async", { prompt: "x".repeat(200000) }, as);
  way.mode = "down";
  const refused = await large();
  check("what does not fit into the queue is said", refused.status === 503 && /120 KiB/.test(refused.json.error), refused.text);
  await edge.dispose();
  way.close();
}

async function streams() {
  const way = await tunnel(runner);
  const edge = await worker(first(way.base));
  const stream = async (body) => {
    const response = await fetch(`${edge.base}/run`, { method: "POST", headers: { ...as, "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return { response, text: await response.text() };
  };
  const plain = await stream({ prompt: "[[text:Streamed]]" });
  const list = events(plain.text);
  check("run: events from the first to the last", plain.response.headers.get("Content-Type").startsWith("text/event-stream") && list[0].event === "task" &&
    list.at(-1).event === "done" && JSON.parse(list.at(-1).data).output === "Streamed", plain.text.slice(0, 300));
  const wrong = await stream({ promt: "x" });
  check("run: a wrong request is said as the runner says it", wrong.response.status === 400 && /did you mean 'prompt'/.test(wrong.text), wrong.text);
  const code = await stream({ code: "print(6 * 7)" });
  check("run: Python code is answered as the runner answers it", code.response.status === 200 && JSON.parse(code.text).stdout === "42\n" && !code.response.headers.get("X-Edge-Task"), code.text);
  const strange = await stream({ code: "1", colour: "red" });
  check("run: and refused as the runner refuses it", strange.response.status === 422 && JSON.parse(strange.text).detail[0].loc[1] === "colour", strange.text);
  Object.assign(way, { mode: "cut", cutAfter: 3000 });
  const broken = await stream({ prompt: "[[drip:40]][[text:a long answer that is cut somewhere in the middle, and goes on as if nothing had been, to its very end]]", includePartialMessages: true });
  const got = events(broken.text);
  const replay = await (await fetch(`${runner}/tasks/${JSON.parse(got[0].data).taskId}/events`, { headers: { "X-Runner-Secret": secret } })).text();
  check("run: a broken way loses and repeats nothing", way.cuts === 1 && JSON.stringify(got) === JSON.stringify(events(replay)), [way.cuts, got.length, events(replay).length]);
  const leave = new AbortController();
  const response = await fetch(`${edge.base}/run`, { method: "POST", headers: { ...as, "Content-Type": "application/json" }, body: JSON.stringify({ prompt: "[[hang]]" }), signal: leave.signal });
  const id = response.headers.get("X-Edge-Task");
  leave.abort();
  check("run: a caller that goes away ends its task", await until(async () => (await atRunner(`/tasks/${id}`)).status === "cancelled"), await atRunner(`/tasks/${id}`));
  await edge.dispose();
  way.close();
}

async function gone() {
  const edge = await worker(first(runner), { caller: true });
  let leave;
  const door = await fake(() => new Promise((resolve) => { leave = () => resolve({}); }));
  const call = post(edge.base, "/execute", { prompt: "[[hang]]", metadata: { test: "gone" } }, { ...as, "X-Leave": door.base });
  const task = await until(async () => (await atRunner("/tasks?status=running")).tasks?.find((one) => one.metadata?.test === "gone"));
  leave();
  check("execute: a caller that goes away ends its task", task && (await call).status === 499 &&
    await until(async () => (await atRunner(`/tasks/${task.taskId}`)).status === "cancelled"), task);
  await edge.dispose();
  door.close();
}

// Nothing is silent for long.
async function patience() {
  const slow = await fake((request) => request.method === "POST" && new Promise((resolve) => setTimeout(() => resolve(ok("late")), 1500)));
  const edge = await worker(first(slow.base, { ANSWER_SECONDS: "1" }));
  const answer = await post(edge.base, "/execute", { task: "x" }, as);
  check("a late answer begins with white space", answer.status === 200 && answer.text.startsWith(" ") && answer.json.logs === "late", answer.text);
  await edge.dispose();
  slow.close();
}

// Who says nothing is not waited for; who asks for a login at the door is told apart from who is away.
async function limits() {
  const silent = await fake(() => ok("never asked"), null), second = await fake(() => ok("second"));
  silent.answers = () => new Promise(() => {});
  let edge = await worker(first(silent.base, { SECOND_RUNNER_URL: second.base, SECOND_RUNNER_SECRET: "second-secret-0000" }));
  const past = await post(edge.base, "/execute", { prompt: "x" }, as);
  check("limits: a runner that says nothing is passed over", past.json.output === "second" && past.json.edge.tried[0].why.length > 0 && silent.posts().length === 0, past.text);
  await edge.dispose();
  const door = await fake(() => ({ status: 302, headers: { Location: "https://team.cloudflareaccess.com/login" } }));
  edge = await worker(first(door.base, { SECOND_RUNNER_URL: second.base, SECOND_RUNNER_SECRET: "second-secret-0000" }));
  const shown = await post(edge.base, "/execute", { prompt: "x" }, as);
  check("limits: Access at the door is named, and the second asked", shown.json.output === "second" && /Cloudflare Access asks for a login/.test(shown.json.edge.tried[0].why), shown.text);
  await edge.dispose();
  const endless = await fake((request) => ({ status: 202, body: { status: "running" }, headers: request.url === "/execute" ? { Location: "/tasks/x" } : {} }));
  edge = await worker(first(endless.base));
  // The worker's margin is 90 s beyond the task's own limit, so this one is over after one.
  const over = await post(edge.base, "/execute", { prompt: "x", timeout_ms: -89000 }, as);
  check("limits: a task that outlives its limit is taken back and answered", over.json?.reason === "timeout" && over.json.success === false && endless.posts().some((one) => one.path.endsWith("/cancel")), over.text);
  await edge.dispose();
  for (const one of [silent, second, door, endless]) one.close();
}

// What is written for the owner is what the worker reads.
async function written() {
  const { readFileSync, readdirSync } = await import("node:fs");
  const folder = new URL("../../cloudflared/worker/", import.meta.url);
  const text = (name) => readFileSync(new URL(name, folder), "utf8");
  const source = readdirSync(new URL("src/", folder)).map((name) => text(`src/${name}`)).join("\n");
  const reads = (name) => source.includes(`env.${name}`) || source.includes(`"${name}"`) || source.includes(`"${name.replace(/_CLIENT_(ID|SECRET)$/, "")}"`);
  const rows = text("README.md").split("\n").filter((line) => line.startsWith("| `")).map((line) => line.split("|")[1]).join();
  const told = [...rows.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name);
  check("written: README.md lists what is read, and nothing else", told.length > 15 && told.every(reads), told.filter((name) => !reads(name)));
  const settings = [...text("wrangler.toml").matchAll(/^#? ?([A-Z_]{3,}) = /gm)].map(([, name]) => name);
  const secrets = Object.keys(JSON.parse(text("secrets.example.json")));
  const asked = [...new Set([...source.matchAll(/env\.([A-Z_]+)/g)].map(([, name]) => name)), ...settings, ...secrets];
  check("written: every name of wrangler.toml, of secrets.example.json and of the source is told", asked.length > 10 && asked.every((name) => told.includes(name)), asked.filter((name) => !told.includes(name)));
  const bound = [...text("wrangler.toml").matchAll(/class_name = "(\w+)"|new_sqlite_classes = \["(\w+)"\]/g)].map((one) => one[1] ?? one[2]);
  check("written: the class of wrangler.toml is there", bound.length === 2 && bound.every((name) => new RegExp(`export (class ${name}\\b|\\{[^}]*\\b${name}\\b)`).test(text("src/index.js"))), bound);
}

// What the worker adds to a request, measured beside the same request without it.
async function cost() {
  const instant = await fake(() => ok("now"));
  const edge = await worker(first(instant.base));
  const time = async (base, headers) => {
    const took = [];
    for (let n = 0; n < 220; n++) {
      const began = performance.now();
      await post(base, "/execute", { prompt: "x" }, headers);
      if (n >= 20) took.push(performance.now() - began);
    }
    return took.sort((a, b) => a - b);
  };
  const direct = await time(instant.base, {}), through = await time(edge.base, as);
  const ms = (list, at) => list[Math.floor(list.length * at)].toFixed(2);
  console.log(`     direct ${ms(direct, 0.5)} ms (p95 ${ms(direct, 0.95)}), through the worker ${ms(through, 0.5)} ms (p95 ${ms(through, 0.95)}): ` +
    `it adds ${(ms(through, 0.5) - ms(direct, 0.5)).toFixed(2)} ms`);
  await edge.dispose();
  instant.close();
}

// The breaker's own clock.
async function breaker() {
  const { Breaker } = await import("../../cloudflared/worker/src/breaker.js");
  const one = new Breaker();
  for (let n = 0; n < 3; n++) one.note({ event: "failed", why: "away" }, 1000);
  const shut = one.note({ event: "try" }, 5000), tries = one.note({ event: "try" }, 12000), others = one.note({ event: "try" }, 12001);
  check("breaker: open after three failures, one tries after ten seconds, the others wait", !shut.admits && tries.admits && !others.admits);
  one.note({ event: "failed", why: "away" }, 12100);
  check("breaker: it waits twice as long then", !one.note({ event: "try" }, 31000).admits && one.note({ event: "try" }, 32200).admits);
  one.note({ event: "worked" }, 32300);
  check("breaker: closed when it worked", one.note({ event: "try" }, 32400).admits && !one.note({ event: "look" }, 32400).open);
}

const only = process.argv[4];
for (const part of [publishedCallers, publishedForms, ownCallers, gate, atOnce, lostAnswers, fallback, logins, order, google, queue, streams, gone, patience, limits, written, breaker, cost]) {
  if (only && part.name !== only) continue;
  const began = performance.now();
  try {
    await part();
    console.log(`     ${part.name} took ${((performance.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    check(`${part.name}: no surprise`, false, String(error.stack ?? error));
  }
}
process.exit(failures() ? 1 : 0);
