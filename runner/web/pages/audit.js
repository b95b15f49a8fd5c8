// The audit log: who signed in, ran or changed what; the newest first, page by page.
import { get } from "./api.js";
import { tried } from "./sessions.js";
import { h, when } from "./ui.js";

const words = {
  "task.run": "ran a task", "task.cancel": "cancelled a task", "webhook.redeliver": "sent a webhook again",
  "login.begin": "began a login", "login.code": "gave a login's code", "login.cancel": "gave a login up", "login.refresh": "refreshed the login", "login.enter": "opened the login page",
  "console.enter": "signed in", "console.link": "made a sign-in link", "console.leave": "signed out", "secret.refused": "gave a wrong secret",
  "repo.remove": "dropped a repository", "python.run": "ran Python", "python.open": "opened a Python session", "python.close": "ended a Python session",
  "session.open": "opened a session", "session.close": "ended a session", "session.run": "ran a command in a session", "session.terminal": "opened a terminal",
  "session.write": "wrote a file", "session.delete": "deleted a file", "input.upload": "uploaded an input",
  "push.subscribe": "turned notifications on", "push.unsubscribe": "turned notifications off",
};

export async function drawAudit(place, signal) {
  const list = h("ul.files.audit", { hidden: true }), none = h("p.none", { role: "status" }, "Reading…");
  const more = h("button", { hidden: true, onclick: () => tried(load) }, "More");
  let cursor = null;
  async function load() {
    const answer = await get(`/audit?limit=50${cursor ? `&cursor=${cursor}` : ""}`, { signal });
    cursor = answer.nextCursor;
    list.append(...answer.entries.map(row));
    list.hidden = !list.childElementCount;
    none.textContent = list.hidden ? "Nothing has been done yet." : "";
    more.hidden = !cursor;
  }
  place.append(list, none, more);
  await load();
}

function row({ time, action, caller, address, target, detail }) {
  const link = action.startsWith("task.") && target ? h("a", { href: `#/tasks/${target}` }, h("bdi", null, target)) : target && h("bdi", null, target);
  return h("li", null, h("span", null, h("b", null, h("bdi", null, caller || "somebody")), " ", words[action] ?? action, target && [" ", link], detail && [" · ", h("bdi", null, detail)]),
    h("span.facts", null, when(time), address && h("bdi", null, address)));
}
