// The console's sessions in Chromium with the real runner: the list, a shell, files of every sort, names that mean harm,
// two who write at once. Prints one line a check; exit status 0 when all hold, 77 when there is no browser.
//   node sessions.mjs RUNNER SECRET - PICTURES
import { check, desktop, failures, inspect, launch, open, phone, until } from "./support.mjs";

const [runner, secret, , pictures] = process.argv.slice(2);
const headers = { "X-Runner-Secret": secret, "Content-Type": "application/json" };
const post = async (path, body) => (await fetch(runner + path, { method: "POST", headers, body: JSON.stringify(body) })).json();
const file = (path, init) => fetch(`${runner}/sessions/box/files/${path}`, { ...init, headers: { "X-Runner-Secret": secret, ...init?.headers } });
const exec = (command) => post("/sessions/box/exec", { command });
const browser = await launch();
const seen = [];
const picture = (page, name) => page.screenshot({ path: `${pictures}/console-${name}.png` });
const go = (page, to) => page.goto(`${runner}/#${to}`);
const narrow = { ...phone, viewport: { width: 320, height: 640 }, colorScheme: "light" };
const hostile = "<img src=x onerror=pwned=1>.txt";

async function signIn(page, to) {
  await go(page, to);
  await page.getByLabel("Runner secret").fill(secret);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("#nav a").first().waitFor();
}

async function prepare() {
  await post("/sessions", { id: "box" });
  const png = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP8z8DAwMDAxMDAwMDAAAANHQEDasKb6QAAAABJRU5ErkJggg==";
  await exec(`mkdir -p deep/er many; printf 'one\\ntwo\\n' >text.txt; printf 'a\\r\\nb\\r\\n' >dos.txt; printf '\\0\\1\\2' >bytes.bin; : >empty.txt; head -c 3000000 /dev/zero | tr '\\0' x >big.txt; ln -s deep link; echo '${png}' | base64 -d >picture.png; printf '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><script>pwned=1</script><rect width="40" height="40" onload="pwned=1"/></svg>' >drawing.svg; touch '${hostile}' 'Größe – שלום.txt' 'a b#c?d%20.txt'; for n in $(seq 600); do : >many/$n; done; printf '\\033[31mred\\033[0m <script>pwned=1</script>\\n' >escapes.txt; mkfifo pipe`);
}

async function screens(kind, options) {
  const page = await open(browser, options, seen);
  await signIn(page, "/sessions");
  await page.getByRole("link", { name: "box" }).waitFor();
  await inspect(page, `${kind}, sessions`);
  await picture(page, `${kind}-sessions-list`);
  await page.getByRole("link", { name: "box" }).click();
  await page.getByRole("link", { name: "Shell" }).waitFor();
  await page.getByRole("link", { name: "Files" }).click();
  await page.getByRole("link", { name: "text.txt" }).waitFor();
  await inspect(page, `${kind}, files`);
  await picture(page, `${kind}-files`);
  for (const [name, ready] of [["text.txt", ".editor"], ["picture.png", "img.shown"], ["big.txt", "pre.whole"]]) {
    await go(page, `/sessions/box/files?file=${encodeURIComponent(`/workspace/${name}`)}`);
    await page.locator(ready).waitFor();
    await inspect(page, `${kind}, ${name}`);
    await picture(page, `${kind}-file-${name.split(".")[1]}`);
  }
  await page.context().close();
}

async function reading(page) {
  const at = (name) => go(page, `/sessions/box/files?file=${encodeURIComponent(`/workspace/${name}`)}`);
  await go(page, "/sessions/box/files");
  await page.getByRole("link", { name: hostile }).click();
  await page.locator(".editor").waitFor();
  check("a name of a file stays text", await page.evaluate(() => typeof pwned === "undefined" && !document.querySelector("main img")));
  for (const name of ["Größe – שלום.txt", "a b#c?d%20.txt", "empty.txt"]) {
    await at(name);
    check(`${name} is opened`, await page.locator(".editor").inputValue() === "");
  }
  await at("bytes.bin");
  await page.getByText("It is not text").waitFor();
  await at("drawing.svg");
  await page.locator("img.shown").waitFor();
  check("an image runs nothing", await page.evaluate(() => typeof pwned) === "undefined" && await page.locator("img.shown").evaluate((one) => one.naturalWidth) === 40);
  await at("big.txt");
  check("of a large file the beginning is shown", (await page.locator("pre.whole").textContent()).length === 256 << 10);
  await at("link");
  await page.getByRole("link", { name: "er/" }).waitFor();
  check("a link to a directory leads there", page.url().includes("path="));
  await at("missing.txt");
  await page.getByText("There is no such file.").waitFor();
  await at("pipe");
  await page.locator("main .notice").waitFor();
  await go(page, "/sessions/box/files?path=/workspace/many");
  await page.getByText("500 entries, there are more.").waitFor();
  await page.getByRole("button", { name: "More" }).click();
  await page.getByText("600 entries.").waitFor();
  await go(page, "/sessions/box/files?path=/etc");
  await page.getByRole("link", { name: "hosts", exact: true }).click();
  check("what is outside of the workspace is read too", await until(async () => (await page.locator(".editor").inputValue()).length > 0));
  await page.getByLabel("The topmost directory").click();
  await page.getByRole("link", { name: "workspace/" }).click();
  await page.getByRole("link", { name: "text.txt" }).waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), (async () => { await at("text.txt"); await page.getByRole("link", { name: "Download" }).click(); })()]);
  check("a file is downloaded under its name", download.suggestedFilename() === "text.txt");
}

async function writing(page) {
  const text = async (name) => (await file(encodeURIComponent(name))).text();
  await go(page, "/sessions/box/files?file=/workspace/text.txt");
  await page.locator(".editor").fill("one\ntwo\nthree\n");
  await page.locator(".editor").press("Control+s");
  await page.getByText("Saved.").waitFor();
  check("a file is saved", await text("text.txt") === "one\ntwo\nthree\n");
  await file("text.txt", { method: "PUT", body: "by somebody else" });
  await page.locator(".editor").fill("mine");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.getByText("Somebody else has changed it").waitFor();
  check("what somebody else has written stays", await text("text.txt") === "by somebody else");
  await inspect(page, "a file that has changed");
  await page.getByRole("button", { name: "Save over it" }).click();
  await until(async () => await text("text.txt") === "mine");
  check("until the reader says otherwise", await text("text.txt") === "mine");
  await go(page, "/sessions/box/files?file=/workspace/dos.txt");
  await until(async () => await page.locator(".editor").inputValue() === "a\nb\n"); // not the file before
  await page.locator(".editor").fill("a\nb\nc\n");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  check("line ends stay as they were", await until(async () => await text("dos.txt") === "a\r\nb\r\nc\r\n"), await text("dos.txt"));
  await go(page, "/sessions/box/files?path=/workspace/deep");
  await page.getByLabel("Name of a new file").fill("fresh.txt");
  await page.getByRole("button", { name: "Make it" }).click();
  await page.locator(".editor").waitFor();
  check("a file is made", (await file("deep/fresh.txt")).status === 200);
  await go(page, "/sessions/box/files?path=/workspace/deep");
  await page.locator("input[type=file]").setInputFiles([{ name: "up one.txt", mimeType: "text/plain", buffer: Buffer.from("one") }, { name: "two.bin", mimeType: "", buffer: Buffer.alloc(3 << 20, 7) }]);
  await page.getByText("2 files uploaded.").waitFor();
  check("files are uploaded whole", await (await file("deep/up%20one.txt")).text() === "one" && (await (await file("deep/two.bin")).arrayBuffer()).byteLength === 3 << 20);
  await page.locator("input[type=file]").setInputFiles([{ name: "up one.txt", mimeType: "text/plain", buffer: Buffer.from("another") }]);
  await page.getByRole("button", { name: "Keep" }).click();
  check("an upload replaces nothing unasked", await (await file("deep/up%20one.txt")).text() === "one");
  await page.locator("input[type=file]").setInputFiles([{ name: "up one.txt", mimeType: "text/plain", buffer: Buffer.from("another") }]);
  await page.getByRole("button", { name: "Replace" }).click();
  check("and does when it is told to", await until(async () => await (await file("deep/up%20one.txt")).text() === "another"));
  await page.getByRole("button", { name: "Delete two.bin" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  check("a file is deleted", await until(async () => (await file("deep/two.bin")).status === 404));
}

// What the terminal shows, as text.
const screen = (page) => page.locator(".xterm-rows").innerText();
const shows = (page, text) => until(async () => (await screen(page)).replaceAll("\u00a0", " ").includes(text));

async function terminal(kind, options) {
  const page = await open(browser, options, seen);
  await signIn(page, "/sessions/box");
  await page.locator(".xterm-rows").waitFor();
  check(`${kind}: the terminal is a shell`, await shows(page, "$"), await screen(page));
  await page.keyboard.type("echo $((6*7))'<b>'; pwd; printf '\\033[31mred\\033[0m Größe שלום\\n'\n");
  check(`${kind}: what is typed runs`, await shows(page, "42<b>") && await shows(page, "/workspace") && await shows(page, "Größe"), await screen(page));
  const red = page.locator(".xterm-rows span", { hasText: /^red$/ });
  check(`${kind}: colours are drawn`, await until(async () => await red.count() > 0) &&
    await red.first().evaluate((one) => getComputedStyle(one).color !== getComputedStyle(document.querySelector(".xterm-rows")).color));
  const size = await page.evaluate(() => [document.querySelector(".xterm-rows").childElementCount, document.querySelector(".tty").clientHeight]);
  await page.keyboard.type("stty size\n");
  check(`${kind}: its size is the screen's`, await shows(page, `${size[0]} `), [size, await screen(page)]);
  await inspect(page, `${kind}, terminal`);
  await page.getByLabel("Read what is printed").check();
  check(`${kind}: a screen reader hears it`, await until(async () => (await page.locator(".xterm-accessibility").innerText()).includes("42<b>")));
  await inspect(page, `${kind}, terminal for screen readers`);
  await page.getByLabel("Read what is printed").uncheck();
  await page.locator(".tty").click();
  await picture(page, `${kind}-terminal`);
  return page;
}

async function terminals() {
  const page = await terminal("desktop", desktop);
  await page.keyboard.type("sh -c 'echo asleep-$((1+1)); exec sleep 1000'\n");
  await shows(page, "asleep-2"); // before that, the key would reach the shell itself
  await page.keyboard.press("Control+c");
  await page.keyboard.type("for i in $(seq 2000); do echo line $i; done\n");
  check("much output is kept up with", await shows(page, "line 2000"));
  await page.keyboard.type("marker=still-there; echo marked-$((1+1))\n");
  await shows(page, "marked-2"); // what is on its way when the page leaves may be lost
  await page.reload();
  await page.locator(".xterm-rows").waitFor();
  check("after a reload the screen is as it was", await shows(page, "line 2000"));
  await page.locator(".tty").click();
  await page.keyboard.type("clear; echo [$marker]\n");
  check("and so is the shell", await shows(page, "[still-there]"), await screen(page));
  await page.keyboard.type("exit 3\n");
  await page.getByText("The shell has ended (3).").waitFor();
  await inspect(page, "a shell that has ended");
  await page.getByRole("button", { name: "New shell" }).click();
  check("another is begun", await shows(page, "$"));
  await page.locator(".tty").click();
  await page.keyboard.type("echo $marker-\n");
  check("which is a fresh one", await until(async () => /^-\s*$/m.test((await screen(page)).replaceAll("\u00a0", " "))), await screen(page));
  await page.context().close();
  const other = await terminal("phone", phone);
  await other.keyboard.type("cat");
  await other.keyboard.press("Enter");
  await other.keyboard.type("purr\n");
  await until(async () => (await screen(other)).split("purr").length > 2); // typed, and said by cat
  await other.getByRole("button", { name: "Ctrl C" }).click();
  check("a phone has the keys that its keyboard lacks", await shows(other, "^C"));
  await other.context().close();
  const small = await terminal("narrow", narrow);
  await small.context().close();
}

async function life(page) {
  await go(page, "/sessions");
  await page.getByRole("button", { name: "New session" }).click();
  await page.waitForURL(/#\/sessions\/.+/);
  const id = page.url().split("/").pop();
  check("its terminal has a prompt", await shows(page, "$"));
  await page.getByRole("button", { name: "End the session" }).click();
  await page.getByRole("button", { name: "End it" }).click();
  await page.waitForURL(/#\/sessions$/);
  check("a session is made and ended", (await fetch(`${runner}/sessions/${id}`, { headers })).status === 404);
}

try {
  await prepare();
  await screens("desktop", desktop);
  await screens("phone", phone);
  await screens("narrow", narrow);
  await terminals();
  const page = await open(browser, desktop, seen);
  await signIn(page, "/sessions/box/files");
  for (const part of [reading, writing, life]) await part(page);
  const quiet = seen.filter((text) => !/status of (404|409|412|416|403)/.test(text));
  check("nothing is wrong on the console", quiet.length === 0, quiet);
} catch (error) {
  check("no surprise", false, String(error.stack ?? error));
} finally {
  await browser.close();
}
process.exit(failures() ? 1 : 0);
