// The console's files are fetched once: they have addresses that never lead to anything else. A newer runner's console is there at
// the next load, an open page of an older one mends itself, and what is kept opens while the runner is away.
import { check, desktop, open, phone, until } from "./support.mjs";

const file = /^\/console\/[0-9a-f]{16}\//;

export async function versions({ browser, path, runner, signIn, go, seen }) {
  const page_ = await (await fetch(`${runner}/`, { headers: { Accept: "text/html" } })).text();
  const version = /\/console\/([0-9a-f]{16})\//.exec(page_)[1];
  await withoutWorker({ browser, path, signIn, go, seen });
  await withWorker({ browser, path, signIn, go, seen, runner, version });
}

// A browser without service workers, as a private window: its own cache is enough.
async function withoutWorker({ browser, path, signIn, go, seen }) {
  const page = await open(browser, { ...desktop, serviceWorkers: "block" }, seen);
  await signIn(page);
  await page.getByRole("heading", { name: "Last" }).waitFor();
  path.asked.length = 0;
  await page.goto("about:blank");
  await go(page, "/");
  await page.getByRole("heading", { name: "Last" }).waitFor();
  check("a second load asks for no file again", path.asked.includes("/") && !path.asked.some((url) => file.test(url)), path.asked);
  await page.context().close();
}

const controlled = (page) => page.evaluate(() => navigator.serviceWorker.ready.then(() => new Promise((resolve) => {
  const look = () => navigator.serviceWorker.controller ? resolve() : setTimeout(look, 20);
  look();
})));

async function withWorker({ browser, path, signIn, go, seen, runner, version }) {
  const page = await open(browser, phone, []);
  await signIn(page);
  await controlled(page);
  await page.reload(); // from here on all goes through the worker
  await page.getByRole("heading", { name: "Last" }).waitFor();
  path.cut();
  await page.reload();
  await page.getByText("The runner cannot be reached. Trying again").waitFor();
  check("the console opens while the runner is away, and says so", true);
  path.down = false;
  await page.getByRole("heading", { name: "Last" }).waitFor();
  path.before = (_, response) => Boolean(response.writeHead(530, { "Content-Type": "text/html" }).end("<h1>error 1033</h1>"));
  await page.reload();
  await page.getByText("The runner cannot be reached. Trying again").waitFor();
  check("also behind a tunnel that answers for it", true);
  path.before = () => false;
  await page.getByRole("heading", { name: "Last" }).waitFor();

  // The runner is replaced by one with another version of every file.
  const next = version.replace(/./g, (digit) => (15 - parseInt(digit, 16)).toString(16));
  const wanted = [];
  path.before = async (request, response) => {
    if (request.url === "/" && request.headers.accept?.includes("text/html")) {
      const text = await (await fetch(`${runner}/`, { headers: { Accept: "text/html" } })).text();
      response.writeHead(200, { "Content-Type": "text/html", "Cache-Control": "no-cache" }).end(text.replaceAll(version, next));
      return true;
    }
    if (!file.test(request.url)) return false;
    wanted.push(request.url);
    request.url = request.url.includes(next) ? request.url.replace(next, version) : request.url.replace(version, "0000000000000000");
    return false;
  };
  const script = () => page.evaluate(() => document.querySelector("script[type=module]").src);
  await page.evaluate(() => { location.hash = "#/usage"; }); // a screen that was never opened, so its file is not kept
  await page.getByText("By repository").first().waitFor();
  check("an open page whose files are gone loads the newer console by itself", (await script()).includes(next) && page.url().endsWith("#/usage"), wanted);
  await go(page, "/");
  await page.reload();
  await page.getByRole("heading", { name: "Last" }).waitFor();
  check("the newer console is there at the next load", (await script()).includes(next));
  const kept = () => page.evaluate(async () => (await Promise.all((await caches.keys()).map(async (name) => (await (await caches.open(name)).keys()).map((one) => new URL(one.url).pathname)))).flat());
  check("what the older one left is dropped", await until(async () => {
    const paths = await kept();
    return paths.some((one) => one.includes(next)) && !paths.some((one) => one.includes(version));
  }), await kept());
  check("no answer of the runner is kept", (await kept()).every((one) => one === "/" || one.startsWith("/console/") && one !== "/console/session"), await kept());
  path.before = () => false;
  await page.context().close();
}
