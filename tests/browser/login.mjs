// The login page in Chromium at a phone's size: what a person does, with JavaScript and without, and against a
// page that misbehaves. Prints one line a check; exit status 0 when all hold, 77 when there is no browser.
//   node login.mjs RUNNER OAUTH SECRET PICTURES-FOLDER
// With ALL_PICTURES every picture is also taken on a desk, and in light and dark.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const [runner, oauth, secret, pictures] = process.argv.slice(2);
const program = process.env.CHROMIUM ?? "/usr/bin/chromium";
if (!existsSync(program)) {
  console.log(`no browser at ${program}`);
  process.exit(77);
}

const phone = { width: 390, height: 844 };
const seen = []; // what the console and the network said
let failed = 0;

function check(name, holds, more = "") {
  console.log(`${holds ? "ok  " : "FAIL"} ${name}${holds ? "" : ` ${more}`}`);
  if (!holds) failed++;
}

// A page of a fresh visitor.
async function open(browser, options = {}) {
  const context = await browser.newContext({ viewport: phone, deviceScaleFactor: 2, hasTouch: true, isMobile: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  page.on("console", (message) => message.type() === "error" && seen.push(message.text()));
  page.on("pageerror", (error) => seen.push(String(error)));
  page.on("request", (request) => new URL(request.url()).search && seen.push(`query: ${request.url()}`));
  return page;
}

async function picture(page, name) {
  const take = (more) => page.screenshot({ path: `${pictures}/login-${name}${more}.png`, fullPage: true });
  if (!process.env.ALL_PICTURES) return take("");
  for (const width of [390, 1280]) {
    await page.setViewportSize({ ...phone, width });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await take(`-${width}-${colorScheme}`);
    }
  }
  await page.setViewportSize(phone);
  await page.emulateMedia({ colorScheme: null });
}

async function enter(page, text = secret) {
  await page.goto(`${runner}/login`);
  await page.getByLabel("Runner secret").fill(text);
  await page.getByRole("button", { name: "Sign in" }).click();
}

// What the person does at Claude: the address of the link, agreed, gives a code.
async function agree(page) {
  const url = new URL(await page.getByRole("link", { name: "Open claude.com" }).getAttribute("href"));
  check("the link leads to Claude", (url.origin === "https://claude.com" && url.searchParams.has("code_challenge")) ||
    (url.origin === "https://claude.ai" && /^\?z-[\w-]{43}$/.test(url.search)));
  return (await (await fetch(oauth + url.pathname + url.search)).json()).paste;
}

async function start(page) {
  await page.getByRole("button", { name: "Start a login" }).click();
  await page.getByRole("link", { name: "Open claude.com" }).waitFor();
}

async function give(page, code) {
  await page.getByLabel("Code from Claude").fill(code);
  await page.getByRole("button", { name: "Log in" }).click();
}

// Nothing is wider than the screen, and what is touched is large enough.
async function checkLayout(page, name) {
  for (const width of [320, 1280, phone.width]) {
    await page.setViewportSize({ ...phone, width });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    check(`${name}: fits a screen of ${width} px`, wide <= 0, `${wide} px too wide`);
  }
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, a.button, input:not([type=hidden])")]
      .filter((element) => element.checkVisibility() && element.getBoundingClientRect().height < 44)
      .map((element) => element.outerHTML.slice(0, 80)));
  check(`${name}: fingers find the buttons`, small.length === 0, small.join());
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll("input:not([type=hidden]), textarea")]
      .filter((element) => element.checkVisibility() && element.labels.length === 0).length);
  check(`${name}: every field has a label`, unnamed === 0);
}

// The token server takes its time: the page says so and goes on by itself.
async function logInSlowly(page, kind) {
  const fault = (faults) => fetch(`${oauth}/_control`, { method: "POST", body: JSON.stringify({ faults }) });
  const code = await agree(page);
  await fault([{ path: "/v1/oauth/token", delayMs: 10000 }]);
  await give(page, code);
  await page.getByText("Checking the code…").waitFor();
  await picture(page, `${kind}-wait`);
  await checkLayout(page, `${kind}, wait`);
}

async function logIn(browser, kind, options) {
  const page = await open(browser, options);
  await page.goto(`${runner}/login`);
  await checkLayout(page, `${kind}, entry`);
  const { version } = await (await fetch(`${runner}/health`)).json();
  check(`${kind}: the version is told`, await page.getByText(`Claude Runner ${version}`).isVisible());
  await picture(page, `${kind}-entry`);
  await enter(page, "not-the-secret-at-all");
  check(`${kind}: a wrong secret is refused`, await page.getByRole("alert").innerText() === "That is not the secret.");
  await picture(page, `${kind}-refused`);
  await enter(page);
  await page.getByRole("button", { name: "Start a login" }).waitFor();
  await checkLayout(page, `${kind}, home`);
  await picture(page, `${kind}-home`);
  await start(page);
  await checkLayout(page, `${kind}, code`);
  await picture(page, `${kind}-code`);
  await give(page, "only-half-a-code");
  await page.getByRole("alert").waitFor();
  check(`${kind}: half a code may be tried again`, (await page.getByRole("alert").innerText()).includes("not the full code"));
  await picture(page, `${kind}-again`);
  await give(page, "wrong#code");
  await page.getByText("The login failed. The code was not accepted").waitFor();
  await picture(page, `${kind}-failed`);
  await start(page);
  await logInSlowly(page, kind);
  await page.getByText("Logged in.", { exact: false }).waitFor();
  check(`${kind}: logged in`, await page.getByText("Tasks run under this login.").isVisible());
  await checkLayout(page, `${kind}, done`);
  await picture(page, `${kind}-done`);
  await start(page);
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("The login was cancelled.").waitFor();
  await picture(page, `${kind}-cancelled`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Runner secret").waitFor();
  check(`${kind}: left`, true);
  await page.context().close();
}

// Two devices: one begins, the other one sees it and ends it; the first notices by itself.
async function twoDevices(browser) {
  const first = await open(browser), second = await open(browser);
  await enter(first);
  await start(first);
  await enter(second);
  await second.getByRole("link", { name: "Open claude.com" }).waitFor();
  await second.getByRole("button", { name: "Cancel" }).click();
  await first.getByText("The login was cancelled.").waitFor();
  check("script: another device's cancel is noticed", true);
  const cookies = await first.context().cookies(`${runner}/login`);
  check("the cookie is out of scripts' and other sites' reach",
    cookies.length > 0 && cookies.every((cookie) => cookie.httpOnly && cookie.sameSite === "Strict" && cookie.path === "/login"));
  check("the cookie is not sent elsewhere", (await first.context().cookies(`${runner}/tasks`)).length === 0);
  await first.context().close();
  await second.context().close();
}

// Another site cannot frame the page, nor post its forms.
async function otherSites(browser) {
  const page = await open(browser);
  await enter(page);
  await page.getByRole("button", { name: "Start a login" }).waitFor();
  const before = seen.length;
  await page.route("http://evil.test/**", (route) => route.fulfill({
    contentType: "text/html",
    body: `<iframe src="${runner}/login"></iframe><form method="post" action="${runner}/login/start"><input name="csrf" value="x"></form>`,
  }));
  await page.goto("http://evil.test/");
  for (const end = Date.now() + 20000; !page.frames()[1]?.url() && Date.now() < end; ) await page.waitForTimeout(30);
  const framed = page.frames().map((frame) => frame.url()).filter((url) => url.startsWith(runner));
  check("another site cannot frame it", page.frames().length === 2 && framed.length === 0, framed.join());
  seen.length = before;
  await page.evaluate(() => document.forms[0].submit());
  await page.getByText("Your visit has ended.").waitFor();
  check("another site's form does nothing", true);
  seen.length = before;
  await page.context().close();
}

const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-gpu"] });
try {
  await logIn(browser, "script", {});
  await logIn(browser, "plain", { javaScriptEnabled: false, colorScheme: "dark" });
  await twoDevices(browser);
  const quiet = seen.filter((text) => !/status of (403|429)/.test(text));
  check("nothing is wrong on the console, and no URL has a query", quiet.length === 0, quiet.join("; "));
  await otherSites(browser);
} catch (error) {
  check("no surprise", false, error.message);
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
