// How quick the console is, beside the runner's plain login page on the same machine at the same time. It prints; nothing
// here fails for being slow.
//   node speed.mjs RUNNER SECRET TASKS PICTURES
import { check, desktop, failures, launch, open } from "./support.mjs";

const [runner, secret, count, pictures] = process.argv.slice(2);
const headers = { "X-Runner-Secret": secret, "Content-Type": "application/json" };
const submit = (n) => fetch(`${runner}/run-async`, { method: "POST", headers, body: JSON.stringify({ prompt: `Task ${n}: look through the repository and say what is wrong with it`, repoUrl: `owner/project-${n % 7}` }) });
const at = (list, part) => [...list].sort((a, b) => a - b)[Math.floor(list.length * part)];

const made = [];
for (let n = 0; n < Number(count); n += 20) made.push(...await Promise.all(Array.from({ length: 20 }, (_, k) => submit(n + k))));
check("tasks wait", made.every((one) => one.status === 202), made.map((one) => one.status).filter((one) => one !== 202)[0]);

const browser = await launch();
const seen = [];
try {
  const page = await open(browser, desktop, seen);
  const paint = () => page.evaluate(() => new Promise((resolve) => {
    new PerformanceObserver((list) => resolve(list.getEntries()[0].startTime)).observe({ type: "paint", buffered: true });
  }));
  await page.goto(`${runner}/`);
  await page.getByLabel("Runner secret").fill(secret);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Running" }).waitFor();
  const console_ = [], login = [], list = [], api = [];
  for (let n = 0; n < 10; n++) {
    await page.goto(`${runner}/login`);
    login.push(await paint());
    await page.goto(`${runner}/`);
    console_.push(await paint());
    await page.getByRole("heading", { name: "Waiting" }).waitFor();
  }
  for (let n = 0; n < 20; n++) {
    const began = performance.now();
    await (await fetch(`${runner}/tasks?limit=1000`, { headers })).text();
    const between = performance.now();
    api.push(between - began);
    await page.goto(`${runner}/#/`);
    const drawn = await page.evaluate(() => new Promise((resolve) => {
      const start = performance.now();
      location.hash = "#/tasks";
      const look = () => document.querySelectorAll("main .task").length >= 100 && document.querySelector("main h1").textContent === "Tasks"
        ? requestAnimationFrame(() => resolve(performance.now() - start)) : requestAnimationFrame(look);
      look();
    }));
    list.push(drawn);
  }
  console.log(`     first paint with ${count} tasks: ${at(console_, 0.5).toFixed(0)} ms (the login page: ${at(login, 0.5).toFixed(0)} ms, ${(at(console_, 0.5) / at(login, 0.5)).toFixed(1)} times)`);
  console.log(`     the list of tasks on screen: ${at(list, 0.5).toFixed(0)} ms (p95 ${at(list, 0.95).toFixed(0)} ms); 1,000 of them from the runner: ${at(api, 0.5).toFixed(0)} ms (p95 ${at(api, 0.95).toFixed(0)} ms)`);
  await page.goto(`${runner}/#/tasks`);
  await page.getByRole("button", { name: "More" }).waitFor();
  for (let n = 0; n < 4; n++) {
    const before = await page.locator("main .task").count();
    const began = performance.now();
    await page.getByRole("button", { name: "More" }).click();
    await page.evaluate((before) => new Promise((resolve) => {
      const look = () => document.querySelectorAll("main .task").length > before ? resolve() : requestAnimationFrame(look);
      look();
    }), before);
    console.log(`     500 more: ${(performance.now() - began).toFixed(0)} ms, ${await page.locator("main .task").count()} listed`);
  }
  check("all are listed", await page.locator("main .task").count() === Number(count));
  await page.screenshot({ path: `${pictures}/console-desktop-2000.png` });
  const lines = "for i in $(seq 1200); do sleep 0.1; echo live-$(date +%s%3N)-; done";
  const live = await (await fetch(`${runner}/exec`, { method: "POST", headers: { ...headers, Prefer: "wait=0" }, body: JSON.stringify({ command: lines }) })).json();
  await page.goto(`${runner}/#/tasks/${live.taskId}`);
  const late = await page.evaluate(() => new Promise((resolve) => {
    const known = new Set(), delays = [];
    let first = true;
    const look = () => {
      for (const [, stamp] of document.querySelector("main").textContent.matchAll(/live-(\d{13})-/g)) {
        if (known.has(stamp)) continue;
        known.add(stamp);
        if (!first) delays.push(Date.now() - Number(stamp));
      }
      first = known.size === 0;
      if (delays.length < 20 && known.size < 1200) requestAnimationFrame(look);
      else resolve(delays);
    };
    look();
  }));
  check("live lines come", late.length >= 20, late.length);
  console.log(`     a line on screen after it was printed: ${at(late, 0.5)} ms (p95 ${at(late, 0.95)} ms)`);
  const { size } = await page.evaluate(() => ({ size: performance.getEntriesByType("resource").filter((one) => one.name.includes("/console/")).reduce((sum, one) => sum + one.decodedBodySize, 0) }));
  console.log(`     what the page has loaded: ${(size / 1024).toFixed(0)} KiB`);
  check("nothing is wrong on the console", seen.length === 0, seen);
} catch (error) {
  check("no surprise", false, String(error.stack ?? error));
} finally {
  await browser.close();
}
process.exit(failures() ? 1 : 0);
