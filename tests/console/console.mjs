// The console in Chromium: every screen and every action, on a desk and on a phone, with the real runner, CLI and git;
// content that means harm; a runner that goes away. Prints one line a check; exit status 0 when all hold, 77 when there
// is no browser.
//   node console.mjs RUNNER SECRET REPOSITORY PICTURES
// RUNNER's CALLBACK_ALLOW takes 127.0.0.1, and a caller "batch" with the secret SECRET-batch has limits.
import crypto from "node:crypto";
import http from "node:http";
import { check, desktop, failures, inspect, launch, longTask, open, phone, until, way } from "./support.mjs";
import { versions } from "./versions.mjs";

const [runner, secret, repository, pictures] = process.argv.slice(2);
const headers = { "X-Runner-Secret": secret, "Content-Type": "application/json" };
const post = async (path, body) => (await fetch(runner + path, { method: "POST", headers, body: JSON.stringify(body) })).json();
const get = async (path) => (await fetch(runner + path, { headers })).json();
const path = await way(runner);
const browser = await launch();
const seen = [];

const picture = (page, name) => page.screenshot({ path: `${pictures}/console-${name}.png`, fullPage: name.endsWith("-whole") });
const go = (page, to) => page.goto(`${path.base}/#${to}`);

async function signIn(page, to = "/") {
  await go(page, to);
  await page.getByLabel("Runner secret").fill(secret);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation").waitFor();
}

// Tasks of every kind of end, and one whose webhook nobody takes.
async function history() {
  const refuses = http.createServer((_, response) => response.writeHead(410).end());
  await new Promise((resolve) => refuses.listen(0, "127.0.0.1", resolve));
  const [tools, failed, undelivered, umlauts] = await Promise.all([
    post("/execute", { prompt: "[[tool:Write {\"file_path\":\"note.txt\",\"content\":\"six by seven\"} with First I write **a note**, then I read it.]][[tool:Bash {\"command\":\"cat note.txt\"}]][[tool:Bash {\"command\":\"cat missing.txt\"}]][[text:## What I did\n\n- wrote `note.txt`\n- read it\n\n| file | size |\n|---|---|\n| note.txt | 12 |\n\n```sh\ncat note.txt\n```]]", allowedTools: ["Bash"], repoUrl: repository }),
    post("/execute", { prompt: "[[error:400]]" }),
    post("/execute", { prompt: "[[text:done]] and tell somebody", callbackUrl: `http://127.0.0.1:${refuses.address().port}/` }),
    post("/execute", { prompt: `Überprüfe die Größe: مرحبا بالعالم [[text:Grüße aus Köln. שלום עולם, this goes both ways.\n\n| ملف | حجم |\n|---|---|\n| ${"x".repeat(120)} | 12 |\n\n\`\`\`sh\ncat one.txt\n\`\`\`]]` }),
  ]);
  await until(async () => (await get("/tasks?webhook=dead")).tasks.length === 1);
  refuses.close();
  check("the runner has run what the screens show", tools.success && !failed.success && undelivered.success && umlauts.success, [tools, failed]);
  return { tools: tools.taskId, failed: failed.taskId, undelivered: undelivered.taskId, umlauts: umlauts.taskId };
}

async function screens(kind, options, tasks) {
  const page = await open(browser, options, seen);
  await go(page, "/tasks");
  await page.getByLabel("Runner secret").waitFor();
  await inspect(page, `${kind}, sign in`);
  await picture(page, `${kind}-enter`);
  await page.getByLabel("Runner secret").fill("not-the-secret-at-all");
  await page.getByRole("button", { name: "Sign in" }).click();
  check(`${kind}: a wrong secret is refused`, (await page.getByRole("alert").innerText()) === "That is not the secret.");
  await page.getByLabel("Runner secret").fill(secret);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("listed.").waitFor();
  check(`${kind}: signing in leads to where one wanted to go`, page.url().endsWith("#/tasks"));
  await inspect(page, `${kind}, tasks`);
  await picture(page, `${kind}-tasks`);
  const hanging = (await post("/run-async", { prompt: "[[tool:Bash {\"command\":\"tail -f /dev/null\"} with I wait.]]", allowedTools: ["Bash"] })).taskId;
  await go(page, "/");
  await page.getByRole("link", { name: "tail -f /dev/null" }).first().waitFor();
  await page.getByText("A webhook could not be delivered").waitFor();
  await inspect(page, `${kind}, now`);
  await picture(page, `${kind}-now`);
  await go(page, `/tasks/${hanging}`);
  await page.locator(".tool[data-state=running]").waitFor();
  check(`${kind}: a call that runs is open`, await page.locator(".tool[data-state=running]").evaluate((one) => one.open));
  await inspect(page, `${kind}, running task`);
  await picture(page, `${kind}-task-running`);
  await page.getByRole("button", { name: "Cancel", exact: true }).click();
  await inspect(page, `${kind}, a question`);
  await picture(page, `${kind}-question`);
  await page.getByRole("button", { name: "Cancel it" }).click();
  await page.locator(".top-line .badge", { hasText: "cancelled" }).waitFor();
  check(`${kind}: a task is cancelled`, (await get(`/tasks/${hanging}`)).status === "cancelled");
  await go(page, `/tasks/${tasks.tools}`);
  await page.getByRole("heading", { name: "Result" }).waitFor();
  const calls = page.locator(".tool");
  check(`${kind}: what succeeded is folded, what failed is open`,
    JSON.stringify(await calls.evaluateAll((all) => all.map((one) => [one.open, one.classList.contains("failed")]))) === "[[false,false],[false,false],[true,true]]",
    await calls.evaluateAll((all) => all.map((one) => [one.open, one.className])));
  check(`${kind}: Markdown is drawn`, await page.locator(".end table td").count() === 2 && await page.locator(".said strong").first().innerText() === "a note");
  check(`${kind}: no time is made up for what was over before`, (await page.locator(".tool .time").allInnerTexts()).every((text) => text === ""));
  await inspect(page, `${kind}, task`);
  await picture(page, `${kind}-task-whole`);
  await go(page, `/tasks/${tasks.failed}`);
  await page.getByText("Ended: ").waitFor();
  await inspect(page, `${kind}, failed task`);
  await picture(page, `${kind}-task-failed`);
  await go(page, `/tasks/${tasks.umlauts}`);
  await page.getByText("Grüße aus Köln").first().waitFor();
  await picture(page, `${kind}-task-languages`);
  await go(page, "/new");
  await page.getByLabel("Prompt").fill("[[text:Hello from the console]]");
  await inspect(page, `${kind}, new`);
  await page.getByText("Model and limits").click();
  await inspect(page, `${kind}, new, limits`);
  await picture(page, `${kind}-new-whole`);
  for (const [name, to, ready] of [["usage", "/usage", "By repository"], ["repos", "/repos", "1 repository"], ["sessions", "/sessions", /sessions yet|no session|New session/], ["callers", "/callers", "secret-1"], ["settings", "/settings", "signed in"]]) {
    await go(page, to);
    await page.getByText(ready).first().waitFor();
    await inspect(page, `${kind}, ${name}`);
    await picture(page, `${kind}-${name}`);
  }
  await go(page, "/nowhere");
  await page.getByText("nothing at this address").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Runner secret").waitFor();
  check(`${kind}: signed out`, (await page.context().cookies()).length === 0);
  await page.context().close();
}

async function actions(tasks) {
  const page = await open(browser, desktop, seen);
  await signIn(page, "/new");
  await page.getByLabel("Prompt").fill("half a thou");
  await page.reload();
  check("a draft is kept", await page.getByLabel("Prompt").inputValue() === "half a thou");
  await page.getByLabel("Prompt").fill("[[text:Hello from the console]]");
  await page.getByLabel("Prompt").evaluate((one) => one.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, isComposing: true, bubbles: true })));
  check("Enter within a composition sends nothing", page.url().endsWith("#/new"));
  await page.getByText("Model and limits").click();
  await page.getByLabel("Turns at most").fill("3");
  await page.getByLabel("Repository").fill("not a repository");
  await page.getByRole("button", { name: "Run" }).click();
  check("what is wrong with a field is said", (await page.getByRole("alert").innerText()).includes("repoUrl"));
  await page.getByLabel("Repository").fill("");
  await page.getByLabel("Prompt").press("Control+Enter");
  await page.waitForURL(/#\/tasks\//);
  await page.locator(".end.good", { hasText: "Hello from the console" }).waitFor();
  const first = page.url().split("/").pop();
  check("a task is made with what was filled in", (await get(`/tasks/${first}`)).request.maxTurns === 3);
  await page.getByRole("button", { name: "Share" }).click();
  await page.getByText("The link is copied").waitFor();
  check("the link is the task's", (await page.evaluate(() => navigator.clipboard.readText())) === page.url());
  await page.getByRole("button", { name: "Run again" }).click();
  await page.waitForURL((url) => !url.href.endsWith(first));
  await page.locator(".end.good").waitFor();
  const second = await get(`/tasks/${page.url().split("/").pop()}`);
  check("a task is run again", second.request.prompt === "[[text:Hello from the console]]" && second.request.maxTurns === 3, second);
  await page.getByRole("link", { name: "Go on with a message" }).click();
  await page.getByLabel("Message").fill("[[text:I remember]]");
  await page.getByRole("button", { name: "Send" }).click();
  await page.locator(".end.good", { hasText: "I remember" }).waitFor();
  const third = await get(`/tasks/${page.url().split("/").pop()}`);
  check("a conversation goes on", third.request.resumeSessionId === second.sessionId, third.request);
  await go(page, "/tasks");
  await page.getByLabel("State").selectOption("failed");
  await page.getByText("1 listed.").waitFor();
  await page.getByLabel("State").selectOption("");
  await page.getByLabel("Search").fill("größe");
  check("tasks are found", await until(async () => {
    const found = await page.locator(".task").allInnerTexts();
    return found.length === 1 && found[0].includes("Überprüfe");
  }));
  await go(page, "/");
  await page.getByRole("button", { name: "Send again" }).click();
  await page.getByText("The webhook is sent again.").waitFor();
  check("a webhook is sent again", await until(async () => (await get(`/tasks/${tasks.undelivered}`)).webhook.attempts > 1), (await get(`/tasks/${tasks.undelivered}`)).webhook);
  await Promise.all(Array.from({ length: 60 }, (_, n) => fetch(`${runner}/sessions/nothing-${n}`, { method: "DELETE", headers })));
  await go(page, "/settings");
  await page.getByLabel("Find").fill("max_concurrent");
  check("settings are found", await until(async () => await page.locator("tbody tr:visible").count() === 1));
  check("who did what is told", await until(async () => (await page.locator(".audit").innerText()).includes("secret-1 ended a session nothing-")));
  await page.getByRole("button", { name: "More" }).click();
  check("also what was before", await until(async () => await page.locator(".audit li").count() > 50));
  check("no secret is shown", !(await page.content()).includes(secret));
  await go(page, "/repos");
  await page.getByRole("button", { name: /^Drop / }).click();
  await page.getByRole("button", { name: "Drop", exact: true }).click();
  await page.getByText("No repository is kept").waitFor();
  check("a repository is dropped", (await get("/repos")).mirrors.length === 0);
  await keyboard(page);
  await page.context().close();
}

// Everything can be reached without a mouse.
async function keyboard(page) {
  await go(page, "/");
  await page.reload();
  await page.getByRole("heading", { name: "Last" }).waitFor();
  await page.keyboard.press("Tab");
  check("the first key leads past the navigation", await page.evaluate(() => document.activeElement.className) === "skip");
  const reached = new Set();
  for (let n = 0; n < 15; n++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.textContent));
  }
  check("the keyboard reaches every screen", ["Now", "New", "Tasks", "Usage", "Repositories", "Sessions", "Callers", "Settings", "Sign out"].every((name) => reached.has(name)), [...reached]);
}

// What is said stays text.
async function hostile() {
  const bad = "<img src=x onerror=pwned=1><script>pwned=1</script><a href=\"javascript:pwned=1\">x</a> [click](javascript:pwned=1) ![i](http://evil.test/i.png) \u001b[31mred\u001b[0m \u001b]0;title\u0007 {{7*7}}";
  const command = "printf '<script>pwned=1</script>\\033[31mred\\033[0m\\n'; head -c 1000000 /dev/zero | tr '\\0' x";
  const id = (await post("/execute", { prompt: `${bad} [[tool:Bash ${JSON.stringify({ command })} with ${bad.replaceAll("[", "(").replaceAll("]", ")")}]][[text:[click](javascript:pwned=1) <img src=x onerror=pwned=1> https://example.com/x]]`, allowedTools: ["Bash"], metadata: { x: bad } })).taskId;
  const page = await open(browser, desktop, seen);
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await signIn(page, `/tasks/${id}`);
  await page.locator(".end").waitFor();
  await page.locator(".tool summary").first().click();
  check("hostile text runs nothing", await page.evaluate(() => typeof pwned) === "undefined");
  check("hostile text makes no elements", await page.evaluate(() => document.querySelectorAll("main img, main script, main iframe, main [onerror]").length) === 0);
  check("no link runs a script", await page.evaluate(() => [...document.querySelectorAll("main a")].every((one) => /^(https?:|mailto:)/.test(one.href))));
  check("a link of a text tells nobody where it comes from", (await page.locator(".markdown a").first().getAttribute("rel")) === "noopener noreferrer");
  check("no escape of a terminal is left", !(await page.locator("main").innerText()).includes("\u001b"));
  const large = page.getByRole("button", { name: /^Show all/ }).first();
  if (await large.count()) await large.click();
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
  check("nothing is fetched from elsewhere", asked.every((url) => url.startsWith(path.base)), asked.filter((url) => !url.startsWith(path.base)));
  await picture(page, "desktop-hostile");
  await go(page, "/tasks");
  await page.getByText("listed.").waitFor();
  await go(page, "/");
  await page.getByRole("heading", { name: "Last" }).waitFor();
  check("nor in lists", await page.evaluate(() => typeof pwned) === "undefined" && await page.evaluate(() => document.querySelectorAll("main img, main script").length) === 0);
  await page.context().close();
}

// Another site can do nothing with the session.
async function otherSites() {
  const page = await open(browser, desktop, []);
  await signIn(page);
  const [cookie] = await page.context().cookies();
  check("the cookie is out of scripts' and other sites' reach", cookie.name === "runner_session" && cookie.httpOnly && cookie.sameSite === "Strict" && cookie.path === "/", cookie);
  const tls = await fetch(`${runner}/console/session`, { method: "POST", headers: { "Content-Type": "application/json", "X-Forwarded-Proto": "https" }, body: JSON.stringify({ secret }) });
  check("over TLS it is never sent without", /; Secure/.test(tls.headers.get("Set-Cookie")));
  check("nothing of it is kept by scripts", !(await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, document.cookie]))).includes(cookie.value));
  const call = (more) => page.evaluate(async (more) => (await fetch("/tasks/nothing/cancel", { method: "POST", headers: more })).status, more);
  const csrf = await page.evaluate(async () => (await (await fetch("/console/session")).json()).csrf);
  check("a change needs the session's token", await call({}) === 403 && await call({ "X-CSRF-Token": "x".repeat(csrf.length) }) === 403);
  check("and with it is made", await call({ "X-CSRF-Token": csrf }) === 404);
  check("a cookie of nobody's opens nothing", (await fetch(`${runner}/tasks`, { headers: { Cookie: `runner_session=${"a".repeat(cookie.value.length)}` } })).status === 403);
  check("nor does one that another site sends along", (await fetch(`${runner}/tasks`, { headers: { Cookie: `runner_session=${cookie.value}`, "Sec-Fetch-Site": "cross-site" } })).status === 403);
  const before = (await get("/tasks?limit=1000")).tasks.length;
  await page.route("http://evil.test/**", (route) => route.fulfill({ contentType: "text/html", body: `<iframe src="${path.base}/"></iframe>
    <form method="post" enctype="text/plain" action="${path.base}/run-async"><input name='{"prompt":"x","metadata":{"a":"' value='"}}'></form>
    <form method="post" enctype="text/plain" action="${path.base}/console/session"><input name='{"secret":"' value='"}'></form>` }));
  await page.goto("http://evil.test/");
  await until(() => page.frames().length === 2 && page.frames()[1].url() !== "");
  check("another site cannot frame it", !page.frames()[1].url().startsWith(path.base), page.frames()[1].url());
  const read = await page.evaluate((url) => fetch(`${url}/console/session`, { credentials: "include" }).then((answer) => answer.text(), () => "refused"), path.base);
  check("another site cannot read", read === "refused", read);
  await page.evaluate(() => document.forms[0].submit());
  await page.waitForURL(/run-async/);
  await page.goto("http://evil.test/");
  await page.evaluate(() => document.forms[1].submit());
  await page.waitForURL(/console\/session/);
  check("another site's forms do nothing", (await get("/tasks?limit=1000")).tasks.length === before && (await page.textContent("body")).includes("application/json"));
  const policy = (await fetch(`${runner}/`, { headers: { Accept: "text/html" } })).headers;
  check("the page allows no inline script, no other host, no frame", /default-src 'none'/.test(policy.get("Content-Security-Policy")) && !/unsafe/.test(policy.get("Content-Security-Policy")) &&
    /frame-ancestors 'none'/.test(policy.get("Content-Security-Policy")) && policy.get("X-Frame-Options") === "DENY");
  check("programs get JSON at /", (await (await fetch(`${runner}/`)).json()).service === "claude-runner");
  await page.context().close();
}

// A link, as from a QR code.
async function byLink() {
  const { path: to } = await post("/console/links");
  const page = await open(browser, phone, []);
  await page.goto(runner + to);
  await page.getByRole("heading", { name: "Last" }).waitFor();
  check("a link signs a phone in", !page.url().includes("token") && (await page.context().cookies()).length === 1);
  await page.goBack().catch(() => {});
  check("its token stays in no history", !page.url().includes("token"));
  const other = await open(browser, phone, []);
  await other.goto(runner + to);
  await other.getByText("That link has been used").waitFor();
  check("and is good once", await other.getByLabel("Runner secret").isVisible() && (await other.context().cookies()).length === 0);
  await page.goto(`${runner}/login`);
  check("the login page knows the console's session", await page.getByRole("button", { name: /login|Log in/i }).count() > 0 && await page.locator("input[name=secret]").count() === 0);
  await page.context().close();
  await other.context().close();
}

// Callers: whose secrets there are, when they were used, and what each may do.
async function callers() {
  const page = await open(browser, { ...phone, viewport: { width: 320, height: 640 } }, seen);
  await signIn(page, "/callers");
  const row = (name) => page.locator(".repo", { hasText: name });
  await row("batch").waitFor();
  const facts = async (name) => (await row(name).locator(".facts").allInnerTexts()).map((text) => text.split(/\s*\n\s*/).filter(Boolean));
  const [, limits] = await facts("batch");
  check("a caller's limits stand at its name", JSON.stringify(limits) === JSON.stringify(["at most 2 tasks at once", "30 a minute", "$0.5 in 24 hours", "only claude, command", "no network", "no push"]), limits);
  check("a caller without limits has no such line", (await facts("secret-1")).length === 2, await facts("secret-1"));
  check("a caller that never came is told apart", (await facts("batch"))[0].includes("never used"), await facts("batch"));
  const limited = await fetch(`${runner}/exec`, { method: "POST", headers: { ...headers, "X-Runner-Secret": `${secret}-batch` }, body: JSON.stringify({ command: "true", egress: "open" }) });
  check("they are the limits that hold", limited.status === 403, limited.status);
  await row("batch").getByText("1 request", { exact: true }).waitFor();
  const used = (await facts("batch"))[0];
  check("its last use is shown", used[0].startsWith("used") && used.includes("from 127.0.0.1"), used);
  await inspect(page, "narrow, callers with limits");
  await picture(page, "narrow-callers-limits-whole");
  await page.context().close();
}

// The smallest screen, with what is long and what reads from the right.
async function narrow(tasks) {
  const page = await open(browser, { ...phone, viewport: { width: 320, height: 640 }, colorScheme: "light" }, seen);
  await signIn(page, `/tasks/${tasks.umlauts}`);
  const cell = page.locator(".end table td").last();
  await cell.waitFor();
  const width = await cell.evaluate((one) => one.getBoundingClientRect().width);
  check("a short cell beside a long one can be read", width >= 64, width);
  check("code reads from the left in any text", await page.locator(".end pre").getAttribute("dir") === "ltr");
  await inspect(page, "narrow, task in two directions");
  await picture(page, "narrow-task-languages-whole");
  await go(page, "/settings");
  const from = page.locator(".settings td:last-child", { hasText: "default" }).first();
  await from.waitFor();
  const lines = await from.evaluate((one) => { const range = document.createRange(); range.selectNodeContents(one); return range.getClientRects().length; });
  check("no word of a setting is broken", lines === 1, lines);
  await inspect(page, "narrow, settings");
  await page.locator(".settings").scrollIntoViewIfNeeded();
  await picture(page, "narrow-settings");
  await page.locator(".audit").scrollIntoViewIfNeeded();
  await picture(page, "narrow-audit");
  await page.context().close();
}

// What is said for a moment: for everybody, and not longer than its screen or its time.
async function moments() {
  const page = await open(browser, desktop, seen);
  await page.clock.install();
  const wait = async () => (await post("/run-async", { prompt: "[[tool:Bash {\"command\":\"tail -f /dev/null\"}]]", allowedTools: ["Bash"] })).taskId;
  const said = page.getByRole("status").filter({ hasText: "The task is cancelled." });
  const cancel = async (first) => {
    const id = await wait();
    if (first) await signIn(page, `/tasks/${id}`);
    else await go(page, `/tasks/${id}`);
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.getByRole("button", { name: "Cancel it" }).click();
    await said.waitFor();
  };
  await cancel(true);
  check("what was done is said as a status", await said.count() === 1 && !await said.evaluate((one) => Boolean(one.closest("[aria-hidden], [hidden]"))));
  await page.getByRole("link", { name: "Now" }).click();
  await page.getByRole("heading", { name: "Now" }).waitFor();
  check("it does not stay on the next screen", await page.locator("#toast").innerText() === "");
  await cancel(false);
  await page.clock.fastForward(10000);
  check("nor longer than its time", await until(async () => await page.locator("#toast").innerText() === ""));
  await page.context().close();
}

// Notifications: the browser's push service is not to be had here, so subscribing is played; the worker's part is real.
async function told() {
  const keys = crypto.createECDH("prime256v1");
  keys.generateKeys();
  const endpoint = "https://push.example.org/console-test";
  const page = await open(browser, { ...phone, permissions: ["notifications"] }, seen);
  await page.addInitScript(({ endpoint, p256dh, auth }) => {
    let made = null;
    PushManager.prototype.getSubscription = async () => made;
    PushManager.prototype.subscribe = async (options) => {
      globalThis.asked = options.applicationServerKey.length;
      return made = { endpoint, options, toJSON: () => ({ endpoint, keys: { p256dh, auth } }), unsubscribe: async () => { made = null; return true; } };
    };
    Notification.requestPermission = async () => "granted";
    Object.defineProperty(Notification, "permission", { get: () => "granted" });
  }, { endpoint, p256dh: keys.getPublicKey("base64url"), auth: crypto.randomBytes(16).toString("base64url") });
  await page.goto(`${runner}/#/settings`);
  await page.getByLabel("Runner secret").fill(secret);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Turn on here" }).waitFor();
  await page.getByLabel("What is done").uncheck();
  await page.getByRole("button", { name: "Turn on here" }).click();
  await page.getByText("(this one)").waitFor();
  const { subscriptions } = await get("/push");
  check("a browser turns notifications on", subscriptions.length === 1 && subscriptions[0].needsYou && !subscriptions[0].done && await page.evaluate(() => asked) === 65, subscriptions);
  await page.getByRole("heading", { name: "Notifications" }).scrollIntoViewIfNeeded();
  await inspect(page, "phone, notifications");
  await picture(page, "phone-notifications");
  await page.getByRole("button", { name: "Turn off here" }).click();
  await page.getByRole("button", { name: "Turn on here" }).waitFor();
  check("and off", (await get("/push")).subscriptions.length === 0);
  await page.context().close();
}

// The runner is away and comes back; a session ends.
async function away() {
  const page = await open(browser, phone, []);
  const id = (await post("/run-async", { prompt: "[[drip:400]][[text:this answer takes its time, and in the middle of it the phone sleeps and the way breaks, and nothing of it is lost]]", includePartialMessages: true })).taskId;
  await signIn(page, `/tasks/${id}`);
  await page.locator(".part").waitFor();
  path.cut();
  await page.getByText("cannot be reached").waitFor();
  await picture(page, "phone-away");
  check("an absent runner is said", true);
  path.down = false;
  await page.locator(".end.good").waitFor();
  await until(async () => (await page.locator("#line").innerText()) === "");
  check("it goes on where it was", (await page.locator(".end").innerText()).includes("nothing of it is lost") && await page.locator("#line").innerText() === "", await page.locator(".said").allInnerTexts());
  await page.context().clearCookies();
  await go(page, "/repos");
  await page.getByLabel("Runner secret").waitFor();
  check("a session that has ended asks for the secret, and keeps the place", page.url().endsWith("#/repos"));
  await page.context().close();
}

// A hundred thousand events.
async function many() {
  const story = longTask(path, "many", 50000);
  const page = await open(browser, desktop, seen);
  await signIn(page, "/tasks/many");
  const cdp = await page.context().newCDPSession(page);
  const heap = async () => {
    await cdp.send("HeapProfiler.collectGarbage");
    return (await cdp.send("Runtime.getHeapUsage")).usedSize / 1e6;
  };
  const shows = (n) => until(() => page.evaluate((text) => document.querySelector("main").textContent.includes(text), `Event ${n} `), 60000);
  const began = performance.now();
  check("50,000 events: the last is shown", await shows(49998));
  console.log(`     50,000 events were read and shown in ${(performance.now() - began).toFixed(0)} ms`);
  const half = await heap(), nodesHalf = await page.evaluate(() => document.querySelectorAll("*").length);
  for (let n = 0; n < 100; n++) {
    const lines = [];
    for (let k = 0; k < 500; k++) lines.push(story.line(story.count++));
    for (const reader of story.readers) reader.write(`${lines.join("\n")}\n`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  check("100,000 events: the last is shown", await shows(99999));
  const full = await heap(), nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  console.log(`     memory of the page: ${half.toFixed(1)} MB after 50,000 events, ${full.toFixed(1)} MB after 100,000 (${(full / half).toFixed(2)} times); ${nodesHalf} and ${nodes} elements`);
  check("the document does not grow", nodes < nodesHalf * 1.5, [nodesHalf, nodes]);
  check("memory does not grow with the events", full < half * 1.5 + 5, [half, full]);
  const late = [];
  for (let n = 0; n < 40; n++) {
    while (story.count % 3 !== 0) story.say();
    const text = `Event ${story.count} `;
    const shown = page.evaluate((text) => new Promise((resolve) => {
      const look = () => document.querySelector(".pages").lastElementChild?.textContent.includes(text) ? resolve(performance.timeOrigin + performance.now()) : requestAnimationFrame(look);
      look();
    }), text);
    await new Promise((resolve) => setTimeout(resolve, 15));
    const written = performance.timeOrigin + performance.now();
    story.say();
    late.push((await shown) - written);
  }
  late.sort((a, b) => a - b);
  console.log(`     a live event is on screen after ${late[20].toFixed(0)} ms (p95 ${late[37].toFixed(0)} ms)`);
  const above = await until(async () => {
    await page.evaluate(() => scrollTo(0, 0));
    return (await page.locator(".page").first().textContent()).match(/Event (\d+) /)?.[1] < 98000;
  });
  check("earlier ones come back", above);
  // Earlier ones come above what is read: the document grows, and what is read must not move.
  const top = () => page.locator(".page").first().textContent();
  const topmost = await top();
  await page.evaluate(async () => {
    const frame = () => new Promise(requestAnimationFrame);
    scrollTo(0, 0);
    for (let n = 0; n < 2; n++) await frame(); // it has been told, and asks for them
    scrollTo(0, 2000);
    await frame();
  });
  const read = await page.evaluateHandle(() => document.elementFromPoint(innerWidth / 2, innerHeight / 2));
  const place = () => read.evaluate((element) => element.isConnected ? element.getBoundingClientRect().top : NaN);
  const before = await place();
  story.say();
  await page.locator(".newer", { hasText: /\d new|To the end/ }).waitFor();
  check("more came above", await until(async () => await top() !== topmost));
  const after = await place();
  check("what is read stays where it is", Math.abs(after - before) < 2, [before, after]);
  await picture(page, "desktop-many");
  await page.locator(".newer").click();
  check("and one press leads to the end", await shows(Math.floor((story.count - 1) / 3) * 3));
  await page.context().close();
}

const parts = { screens: null, actions, callers, narrow, moments, hostile, otherSites, byLink, told, away, versions: () => versions({ browser, path, runner, signIn, go, seen }), many };
const only = process.env.ONLY?.split(",");
try {
  const tasks = await history();
  for (const [name, part] of Object.entries(parts)) {
    if (only && !only.includes(name)) continue;
    const began = performance.now();
    if (name === "screens") {
      await screens("desktop", desktop, tasks);
      await screens("phone", phone, tasks);
    } else await part(tasks);
    console.log(`     ${name} took ${((performance.now() - began) / 1000).toFixed(1)} s`);
  }
  const quiet = seen.filter((text) => !/status of (403|429|400)/.test(text));
  check("nothing is wrong on the console", quiet.length === 0, quiet);
} catch (error) {
  check("no surprise", false, String(error.stack ?? error));
} finally {
  await browser.close();
  path.close();
}
process.exit(failures() ? 1 : 0);
