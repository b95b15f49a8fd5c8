// Sessions: boxes with shells that remember. One of them is session.js.
import { every, get, has, send } from "./api.js";
import { confirm, count, h, notice, replace, toast, when } from "./ui.js";

export async function show({ main, signal }) {
  if (!await has("/sessions")) {
    main.append(notice("plain", "This runner has no sessions yet."));
    return;
  }
  const list = h("div"), make = h("button.primary", null, "New session");
  make.addEventListener("click", async () => {
    make.disabled = true;
    const made = await tried(() => send("POST", "/sessions", {}));
    make.disabled = false;
    if (made && !signal.aborted) location.hash = `#/sessions/${made.id}`;
  });
  main.append(list, make);
  let before = "";
  async function draw() {
    const { sessions } = await get("/sessions", { signal });
    const print = JSON.stringify(sessions);
    if (print === before) return;
    before = print;
    replace(list, sessions.length ? h("ul.repos", null, sessions.map((one) => row(one, draw))) : h("p.none", null, "There is no session."));
  }
  await every(5000, signal, draw);
}

function row(one, draw) {
  return h("li.repo", null, h("a.title", { href: `#/sessions/${one.id}`, "data-key": one.id }, h("bdi", null, one.id)),
    facts(one),
    h("button.quiet", { "data-key": `end-${one.id}`, "aria-label": `End ${one.id}`, onclick: async () => {
      if (await endSession(one.id)) await tried(draw);
    } }, "End"));
}

// What is worth knowing of a session.
export function facts(one) {
  return h("span.facts", null, [
    h("span", null, one.state),
    h("bdi", null, one.cwd),
    one.shells.length > 0 && h("span", null, count(one.shells.length, "shell")),
    one.running > 0 && h("span", null, `${count(one.running, "process", "processes")} running`),
    one.lastUsedAt && h("span", null, "used ", when(one.lastUsedAt)),
    one.expiresAt && h("span", null, `ends ${new Date(one.expiresAt).toLocaleString()}`),
  ].filter(Boolean));
}

// Asks, and ends it. True when it has ended.
export async function endSession(id) {
  if (!await confirm(`End the session ${id}? Its files go with it.`, "End it")) return false;
  return Boolean(await tried(() => send("DELETE", `/sessions/${id}`)));
}

// Does it, or says why not.
export async function tried(action) {
  try {
    return await action() ?? true;
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message);
    return undefined;
  }
}
