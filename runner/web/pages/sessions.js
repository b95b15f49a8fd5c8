// Sessions: boxes with shells that remember.
import { every, get, has, send } from "./api.js";
import { confirm, h, notice, replace, toast, when } from "./ui.js";

export async function show({ main, signal }) {
  if (!await has("/sessions")) {
    main.append(notice("plain", "This runner has no sessions yet."));
    return;
  }
  const list = h("div"), make = h("button.primary", null, "New session");
  make.addEventListener("click", () => tried(async () => { await send("POST", "/sessions", {}); await draw(); }));
  main.append(list, make);
  let before = "";
  async function draw() {
    const { sessions } = await get("/sessions", { signal });
    const print = JSON.stringify(sessions);
    if (print === before) return;
    before = print;
    replace(list, sessions.length ? h("ul.repos", null, sessions.map(row)) : h("p.none", null, "There is no session."));
  }
  const row = (one) => {
    const id = one.session_id ?? one.id;
    return h("li.repo", null, h("span.title", null, h("bdi", null, id)),
      h("span.facts", null, h("span", null, one.state ?? ""), h("bdi", null, one.cwd ?? ""), one.created_at && h("span", null, when(one.created_at))),
      h("button.quiet", { "data-key": id, onclick: async () => {
        if (!await confirm(`End the session ${id}? Its files go with it.`, "End it")) return;
        await tried(() => send("DELETE", `/sessions/${id}`));
        await draw();
      } }, "End"),
      shell(id));
  };
  await every(5000, signal, draw);
}

// One command at a time, as the API runs it.
function shell(id) {
  const command = h("input", { type: "text", autocomplete: "off", spellcheck: false, "aria-label": `Command in ${id}`, "data-key": `command-${id}` });
  const said = h("pre.output", { hidden: true, tabIndex: 0 });
  return h("form.shell", { onsubmit: async (event) => {
    event.preventDefault();
    said.hidden = false;
    said.textContent = "…";
    await tried(async () => {
      const answer = await send("POST", `/sessions/${id}/exec`, { command: command.value }, { timeoutMs: 150000 });
      said.textContent = `${answer.stdout}${answer.stderr}${answer.exit_code ? `\n[exit ${answer.exit_code}]` : ""}`;
    });
  } }, command, h("button", { type: "submit" }, "Run"), said);
}

async function tried(action) {
  try {
    await action();
  } catch (error) {
    toast(error.message);
  }
}
