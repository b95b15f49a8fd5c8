// A browser's own WebSocket on a session's terminal, with the console's cookie: node terminal.mjs RUNNER SECRET
import { check, desktop, failures, launch, open } from "./support.mjs";

const [runner, secret] = process.argv.slice(2);
const browser = await launch();

// In a page: signs in, looks at the terminal, types, and tells what came until it is closed.
async function visit(page, url, secret) {
  return page.evaluate(async ({ url, secret }) => {
    if (secret)
      await fetch("/console/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ secret }) });
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    const seen = { texts: [], shown: "", opened: false };
    const decoder = new TextDecoder();
    return new Promise((resolve) => {
      socket.onopen = () => { seen.opened = true; };
      socket.onclose = (event) => resolve({ ...seen, code: event.code, clean: event.wasClean });
      socket.onmessage = ({ data }) => {
        if (typeof data === "string") {
          seen.texts.push(JSON.parse(data));
          if (seen.texts.at(-1).type === "live") {
            socket.send(JSON.stringify({ resize: { cols: 101, rows: 33 } }));
            socket.send(new TextEncoder().encode("echo grüße-$((40+2)); stty size; printf '%070000d\\n' 7; exit 5\r"));
          }
        } else {
          seen.shown += decoder.decode(data, { stream: true });
        }
      };
    });
  }, { url, secret });
}

try {
  const errors = [];
  const page = await open(browser, desktop, errors);
  await page.goto(`${runner}/`);
  const place = runner.replace("http", "ws");
  const seen = await visit(page, `${place}/sessions/browser/terminal`, secret);
  check("it opens", seen.opened && seen.texts[0]?.type === "open" && seen.texts[0].fresh === true, seen);
  check("characters beyond ASCII come and go whole", seen.shown.includes("\r\ngrüße-42\r\n"), seen.shown.slice(0, 500));
  check("its size is the browser's", seen.shown.includes("\r\n33 101\r\n"), seen.shown.slice(0, 500));
  check("much output is whole", seen.shown.includes(`${"0".repeat(69999)}7\r\n`), String(seen.shown.length));
  check("its end is told", seen.texts.at(-1).type === "exit" && seen.texts.at(-1).exitCode === 5, seen.texts);
  check("the browser calls the end clean", seen.code === 1000 && seen.clean, [seen.code, seen.clean]);

  const other = await open(browser, desktop, []);
  await other.route("http://elsewhere.example/**", (route) => route.fulfill({ contentType: "text/html", body: "<p>another site</p>" }));
  await other.goto("http://elsewhere.example/");
  await other.context().addCookies(await page.context().cookies());
  const refused = await visit(other, `${place}/sessions/browser/terminal`).catch((error) => ({ opened: false, error: String(error) }));
  check("a page of another site gets no terminal", !refused.opened, refused);
} finally {
  await browser.close();
}
process.exit(failures() ? 1 : 0);
