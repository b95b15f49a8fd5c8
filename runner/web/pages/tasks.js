// Tasks: all of them, the newest first.
import { ask, every } from "./api.js";
import { badge, clock, h, money, number, plain, repoName, replace, span, toast, when } from "./ui.js";

// One task as a row of a list.
export function row(task) {
  const facts = [
    task.status === "running" && task.startedAt ? clock(task.startedAt) : task.duration_ms ? span(task.duration_ms) : null,
    task.total_cost_usd ? money(task.total_cost_usd) : null,
    task.repoUrl ? h("bdi", null, repoName(task.repoUrl)) : null,
    task.executor === "cloud" ? "cloud" : null,
    task.caller ? h("bdi", null, task.caller) : null,
    task.reason && task.status !== "completed" ? h("bdi", null, task.reason.replaceAll("_", " ")) : null,
  ].filter(Boolean);
  return h("li.task", null,
    badge(task.status),
    h("a.title", { href: `#/tasks/${task.taskId}`, dir: "auto", "data-key": task.taskId }, title(task)),
    h("span.facts", null, facts.map((fact) => h("span", null, fact)), when(task.endedAt ?? task.startedAt ?? task.createdAt)));
}

export const title = (task) => plain(task.title ?? task.kind ?? "").replace(/\s+/g, " ").trim() || task.taskId;

export function rows(tasks, nothing) {
  return tasks.length ? h("ul.tasks", null, tasks.map(row)) : h("p.none", null, nothing ?? "None.");
}

export async function show({ main, signal }) {
  const list = h("ul.tasks", { "aria-busy": "true" });
  const status = h("select", null, ["", "running", "pending", "waiting_login", "waiting_limit", "completed", "failed", "cancelled"].map((one) =>
    h("option", { value: one }, one ? one.replaceAll("_", " ") : "any state")));
  const search = h("input", { type: "search", placeholder: "in what is listed", autocomplete: "off" });
  const more = h("button", { hidden: true, onclick: () => reload(true) }, "More");
  const total = h("p.none", { role: "status" });
  let tasks = [], cursor = null, run = 0, whole = false, known = "";
  main.append(h("form.filters", { onsubmit: (event) => event.preventDefault() },
    h("label", null, "State ", status), h("label", null, "Search ", search)), list, total, more);

  const matches = (task) => {
    const words = search.value.trim().toLowerCase();
    return !words || [task.title, task.taskId, task.repoUrl, task.caller].some((text) => text?.toLowerCase().includes(words));
  };
  function draw(added) {
    const found = (added ?? tasks).filter(matches).map(row);
    if (added) list.append(...found);
    else replace(list, found);
    list.removeAttribute("aria-busy");
    const listed = list.childElementCount;
    total.textContent = listed ? `${number(listed)} listed${cursor ? ", there are more" : ""}.` : "There is no such task.";
    more.hidden = !cursor;
  }
  async function load(next) {
    const mine = ++run;
    const query = `${status.value ? `&status=${status.value}` : ""}${next && cursor ? `&cursor=${cursor}` : ""}`;
    const text = await (await ask("GET", `/tasks?limit=${next ? 500 : 100}${query}`, { signal })).text();
    if (mine !== run || (!next && text === known)) return;
    const answer = JSON.parse(text);
    known = next ? known : text;
    tasks = next ? tasks.concat(answer.tasks) : answer.tasks;
    whole = next || whole;
    cursor = answer.nextCursor;
    draw(next ? answer.tasks : undefined);
  }
  const reload = (next) => load(next).catch((error) => { if (!signal.aborted) toast(error.message); });
  status.addEventListener("change", () => { whole = false; known = ""; reload(false); });
  search.addEventListener("input", () => draw());
  // The first page follows what happens, until somebody has read on.
  await every(3000, signal, async () => {
    if (!whole) await load(false);
  });
}
