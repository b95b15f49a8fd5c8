// One session: its shell in a terminal (or one command at a time), and its files.
import { every, get, has, send } from "./api.js";
import { drawFiles } from "./files.js";
import { endSession, facts, tried } from "./sessions.js";
import { h, notice, replace } from "./ui.js";

export async function show({ main, heading, params: [id, part], signal }) {
  const session = await get(`/sessions/${id}`, { signal });
  const top = h("div.top-line"), place = h("div.session");
  heading.replaceChildren(h("bdi", null, id));
  document.title = `${id} · Claude Runner`;
  replace(top, facts(session));
  main.append(top, h("div.row", null,
    tab(`#/sessions/${id}`, "Shell", part !== "files"), tab(`#/sessions/${id}/files`, "Files", part === "files"),
    h("button.quiet", { onclick: async () => { if (await endSession(id)) location.hash = "#/sessions"; } }, "End the session")), place);
  if (part === "files") await drawFiles(place, id, signal);
  else if (await has("/sessions/{id}/terminal")) await terminal(place, id, signal);
  else place.append(shell(id, signal));
  await every(5000, signal, async () => replace(top, facts(await get(`/sessions/${id}`, { signal }))));
}

const tab = (href, name, here) => h("a.button", { href, "aria-current": here && "page" }, name);

// The terminal is large: it is loaded when it is used.
async function terminal(place, id, signal) {
  const { drawTerminal } = await import("./terminal.js");
  if (await drawTerminal(place, id, signal)) return;
  place.append(notice("plain", "This build of the console has no terminal; commands are run one at a time."), shell(id, signal));
}

// One command at a time, as the API runs it.
function shell(id, signal) {
  const command = h("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: false, "aria-label": "Command", dir: "auto" });
  const said = h("div", { role: "log", "aria-label": "What it printed", tabIndex: 0 }), button = h("button", { type: "submit" }, "Run");
  return h("div", null, said, h("form.shell", { onsubmit: async (event) => {
    event.preventDefault();
    if (button.disabled || !command.value.trim()) return;
    button.disabled = true;
    const text = command.value, out = h("pre.output", { dir: "auto", tabIndex: 0 }, "…");
    said.append(h("pre.typed", { dir: "auto" }, `$ ${text}`), out);
    command.value = "";
    const answer = await tried(() => send("POST", `/sessions/${id}/exec`, { command: text }, { signal, timeoutMs: 150000 }));
    out.textContent = answer ? `${answer.stdout}${answer.stderr}${answer.exit_code ? `\n[exit ${answer.exit_code}]` : ""}`.slice(-200000) || "(nothing)" : "(it was not run, or its answer was lost)";
    while (said.childElementCount > 100) said.firstElementChild.remove();
    button.disabled = false;
    command.focus({ preventScroll: true });
    command.scrollIntoView({ block: "nearest" });
  } }, command, button));
}
