// Usage: tasks, cost, tokens and success by day, caller and repository, from the list of tasks.
import { get } from "./api.js";
import { count, h, money, number, repoName } from "./ui.js";

const DAYS = 14;
const PAGES = 10; // of 1,000 tasks

export async function show({ main, signal }) {
  const place = h("div", { "aria-busy": "true" }, h("p.none", null, "Adding up…"));
  main.append(place);
  const since = new Date();
  since.setHours(0, 0, 0, 0);
  since.setDate(since.getDate() - DAYS + 1);
  const health = await get("/health?verbose=true", { signal });
  const { tasks, whole } = await tasksSince(since, signal);
  place.removeAttribute("aria-busy");
  const sum = add(tasks);
  place.replaceChildren(...[
    windows(health.usage),
    h("p.lead", null, `${count(sum.tasks, "task")} in ${DAYS} days, ${rate(sum)}, ${money(sum.cost)}, ${number(sum.tokens)} tokens${whole ? "." : ". There were more: only the last are counted."}`),
    table("By day", "Day", days(tasks, since), (sums) => sums.tasks),
    table("By caller", "Caller", group(tasks, (task) => task.caller || "no name"), (sums) => sums.tasks),
    table("By repository", "Repository", group(tasks, (task) => (task.repoUrl ? repoName(task.repoUrl) : "none")), (sums) => sums.tasks),
  ].filter(Boolean));
}

async function tasksSince(since, signal) {
  const tasks = [];
  let cursor = "";
  for (let page = 0; page < PAGES; page++) {
    const answer = await get(`/tasks?limit=1000${cursor}`, { signal });
    const young = answer.tasks.filter((task) => new Date(task.createdAt) >= since);
    tasks.push(...young);
    if (young.length < answer.tasks.length || !answer.nextCursor) return { tasks, whole: true };
    cursor = `&cursor=${answer.nextCursor}`;
  }
  return { tasks, whole: false };
}

function add(tasks) {
  const sums = { tasks: tasks.length, ended: 0, good: 0, cost: 0, tokens: 0 };
  for (const task of tasks) {
    if (task.status === "completed" || task.status === "failed") sums.ended++;
    if (task.status === "completed") sums.good++;
    sums.cost += task.total_cost_usd ?? 0;
    const usage = task.usage ?? {};
    sums.tokens += (usage.input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0) + (usage.output_tokens ?? 0);
  }
  return sums;
}

const rate = (sums) => (sums.ended ? `${Math.round((sums.good / sums.ended) * 100)} % succeeded` : "none has ended");

function group(tasks, nameOf) {
  const groups = new Map();
  for (const task of tasks) {
    const name = nameOf(task);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(task);
  }
  return [...groups].map(([name, list]) => [name, add(list)]).sort((a, b) => b[1].tasks - a[1].tasks).slice(0, 50);
}

function days(tasks, since) {
  const key = (date) => date.toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
  const lists = new Map();
  for (let n = DAYS - 1; n >= 0; n--) {
    const day = new Date(since);
    day.setDate(day.getDate() + n);
    lists.set(key(day), []);
  }
  for (const task of tasks) lists.get(key(new Date(task.createdAt)))?.push(task);
  return [...lists].map(([name, list]) => [name, add(list)]);
}

// The plot is a table that everybody can read; its bars are for the eye.
function table(caption, first, rows, measure) {
  const most = Math.max(1, ...rows.map(([, sums]) => measure(sums)));
  return h("div.scroll", { tabIndex: 0, role: "region", "aria-label": caption }, h("table.plot", null,
    h("caption", null, caption),
    h("thead", null, h("tr", null, [first, "Tasks", "Succeeded", "Cost", "Tokens"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, rows.map(([name, sums]) => {
      const bar = h("span.bar", { "aria-hidden": "true" });
      bar.style.inlineSize = `${(measure(sums) / most) * 100}%`;
      return h("tr", null, h("th", { scope: "row" }, h("bdi", null, name)), h("td.plotted", null, bar, h("span", null, number(sums.tasks))),
        h("td", null, sums.ended ? `${Math.round((sums.good / sums.ended) * 100)} %` : "–"), h("td", null, sums.cost ? money(sums.cost) : "–"), h("td", null, sums.tokens ? number(sums.tokens) : "–"));
    }))));
}

function windows(usage) {
  const known = Object.entries(usage ?? {}).filter(([, one]) => one && typeof one.used_percent === "number");
  if (!known.length) return null;
  return h("section", null, h("h2", null, "Usage windows"), known.map(([name, one]) => h("p", null,
    h("label", null, `${name.replaceAll("_", " ")}: ${Math.round(one.used_percent)} % `, h("meter", { min: 0, max: 100, value: one.used_percent })),
    one.resets_at ? ` until ${new Date(one.resets_at).toLocaleString()}` : "")));
}
