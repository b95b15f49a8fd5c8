// The console: what is shown at which address, who is signed in, and whether the runner is there.
import { begin, session, signIn, signInByLink, signOut, watch } from "./api.js";
import { endToast, field, h, notice } from "./ui.js";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const line = document.getElementById("line");

// address -> [title, module]. The modules are loaded when they are needed.
const screens = [
  [/^\/$/, "Now", () => import("./now.js")],
  [/^\/tasks$/, "Tasks", () => import("./tasks.js")],
  [/^\/tasks\/([\w.-]+)$/, "Task", () => import("./task.js")],
  [/^\/new$/, "New task", () => import("./compose.js")],
  [/^\/usage$/, "Usage", () => import("./usage.js")],
  [/^\/repos$/, "Repositories", () => import("./repos.js")],
  [/^\/sessions$/, "Sessions", () => import("./sessions.js")],
  [/^\/sessions\/([\w.~-]+)(?:\/(files))?$/, "Session", () => import("./session.js")],
  [/^\/callers$/, "Callers", () => import("./callers.js")],
  [/^\/settings$/, "Settings", () => import("./settings.js")],
];
const links = [["/", "Now"], ["/new", "New"], ["/tasks", "Tasks"], ["/usage", "Usage"], ["/repos", "Repositories"], ["/sessions", "Sessions"], ["/callers", "Callers"], ["/settings", "Settings"]];

let leave = new AbortController();
let shown; // who the page was drawn for

const address = () => location.hash.slice(1).split("?")[0] || "/";

async function show({ focus = true } = {}) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const path = address();
  endToast();
  shown = session.caller;
  nav.hidden = session.caller === null;
  if (session.caller === null) return enter();
  drawNav(path);
  const [, title, load, params] = found(path);
  document.title = `${title} · Claude Runner`;
  main.className = "";
  const heading = h("h1", { tabIndex: -1 }, title);
  main.replaceChildren(heading);
  if (focus) heading.focus({ preventScroll: true });
  scrollTo(0, 0);
  if (!load) return main.append(notice("warm", "There is nothing at this address. ", h("a", { href: "#/" }, "Go to Now")));
  try {
    const { show: draw } = await load();
    if (!signal.aborted) await draw({ main, heading, params, signal });
  } catch (error) {
    if (signal.aborted || session.caller === null) return;
    if (error instanceof TypeError && await isReplaced()) return location.reload();
    main.append(notice("bad", error.message, " ", h("button", { onclick: () => show() }, "Try again")));
  }
}

// Whether the runner has another console by now, so that files of this one are gone. A page is loaded again for that once.
async function isReplaced() {
  const version = /\/console\/[0-9a-f]{16}\//;
  try {
    const page = await (await fetch("/", { headers: { Accept: "text/html" }, cache: "no-store" })).text();
    const [now] = version.exec(page), [mine] = version.exec(import.meta.url);
    if (now === mine || sessionStorage.getItem("console-replaced") === now) return false;
    sessionStorage.setItem("console-replaced", now);
    return true;
  } catch {
    return false;
  }
}

function found(path) {
  for (const [pattern, title, load] of screens) {
    const match = pattern.exec(path);
    if (match) return [pattern, title, load, match.slice(1)];
  }
  return [null, "Not found"];
}

function drawNav(path) {
  nav.replaceChildren(...links.map(([to, name]) =>
    h("a", { href: `#${to}`, "aria-current": (to === "/" ? path === "/" : path.startsWith(to)) && "page" }, name)),
  h("button.quiet", { onclick: () => signOut().catch((error) => say(error.message)) }, "Sign out"));
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

// The secret, once. The address stays: after signing in the page that was asked for is shown.
function enter() {
  document.title = "Sign in · Claude Runner";
  main.className = "narrow";
  const secret = h("input", { type: "password", name: "secret", autocomplete: "current-password", required: true, autofocus: true });
  const said = h("div");
  const button = h("button.primary", { type: "submit" }, "Sign in");
  const form = h("form.card", {
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        await signIn(secret.value);
      } catch (error) {
        said.replaceChildren(notice("bad", error.status === 403 ? "That is not the secret." : error.message));
        secret.select();
      }
      button.disabled = false;
    },
  }, h("h1", null, "Sign in"), said,
  // A password manager keeps secrets by name.
  h("input", { type: "text", name: "username", autocomplete: "username", value: "runner", hidden: true }),
  field("Runner secret", secret, "RUNNER_SECRET of the runner; this browser then holds a cookie for twelve hours of use."), button);
  main.replaceChildren(form);
}

function say(text) {
  if (line.textContent !== text) line.textContent = text;
}

watch(() => {
  say(session.online ? "" : "The runner cannot be reached. What you see is what was last known; it goes on by itself.");
  document.body.classList.toggle("away", !session.online);
  if (shown !== undefined && shown !== session.caller) show();
});
addEventListener("hashchange", () => show());

async function start() {
  try {
    await begin();
  } catch {
    say("The runner cannot be reached. Trying again…");
    setTimeout(start, 2000);
    return;
  }
  await byLink();
  if (shown === undefined) show({ focus: false });
}

// A link of `claude-runner login`: its token signs this browser in, once, and stays in no history.
async function byLink() {
  const token = /^#\/enter\?token=([\w-]+)$/.exec(location.hash)?.[1];
  if (!token) return;
  history.replaceState(null, "", "#/");
  if (session.caller !== null) return;
  try {
    await signInByLink(token);
  } catch (error) {
    say(error.status === 403 ? "That link has been used, or is over. Make another, or give the secret." : error.message);
  }
}
await start();

if ("serviceWorker" in navigator && isSecureContext) {
  const url = globalThis.trustedTypes?.createPolicy("console", { createScriptURL: (text) => text }).createScriptURL("/console/sw.js") ?? "/console/sw.js";
  // A press on a notification.
  navigator.serviceWorker.addEventListener("message", ({ data }) => {
    const url = new URL(data?.go ?? "/", location.origin);
    if (url.origin === location.origin) location.hash = url.hash || "#/";
  });
  navigator.serviceWorker.register(url, { scope: "/" }).catch(() => {}); // a private window has none
}
