// Now: what needs the owner, what runs, what waits and why, what was last.
import { every, get, send } from "./api.js";
import { rows } from "./tasks.js";
import { count, h, notice, replace, toast, when } from "./ui.js";

export async function show({ main, signal }) {
  const needs = h("section", { "aria-label": "What needs you" });
  const state = h("p.lead");
  const running = h("section"), waiting = h("section"), last = h("section");
  main.append(needs, state, running, waiting, last);
  let before = "";
  await every(2000, signal, async () => {
    const [health, recent, webhooks, ...active] = await Promise.all([
      get("/health?verbose=true", { signal }),
      get("/tasks?limit=20", { signal }),
      get("/tasks?webhook=dead&limit=10", { signal }),
      ...["running", "pending", "waiting_login", "waiting_limit"].map((status) => get(`/tasks?status=${status}&limit=50`, { signal })),
    ]);
    const tasks = active.map((list) => list.tasks);
    const print = JSON.stringify([essence(health), recent, webhooks, tasks]);
    if (print === before) return;
    before = print;
    replace(needs, needed(health), webhooks.tasks.map(undelivered));
    replace(state, summary(health, webhooks.tasks.length > 0));
    const ended = recent.tasks.filter((task) => task.endedAt);
    replace(running, h("h2", null, "Running"), rows(tasks[0], "Nothing runs."));
    const waits = tasks.slice(1).flat();
    replace(waiting, waits.length ? [h("h2", null, `Waiting (${waits.length})`), rows(waits)] : null);
    replace(last, h("h2", null, "Last"), rows(ended, "No task has ended yet."), h("p", null, h("a", { href: "#/tasks" }, "All tasks")));
  });
}

// What of /health is shown; the rest changes all the time.
function essence({ status, reasons, remedies, oauth, tasks, queue, disk, auth_failures, cloud, usage, version }) {
  return { status, reasons, remedies, expired: oauth?.expired, tasks, queue, low: reasons && disk, auth_failures, cloud: cloud?.error, usage, version };
}

function summary(health, undelivered) {
  const { running, slots, queued } = health.tasks;
  const words = { healthy: "All is well.", degraded: "Something needs you.", draining: "The runner is shutting down: it takes no new tasks." };
  return [`${(undelivered && health.status === "healthy" ? words.degraded : words[health.status]) ?? health.status} `, `${running} of ${count(slots, "slot")} in use`, queued ? `, ${queued} waiting.` : "."];
}

const actions = {
  login_needed: () => ["Claude needs a login.", h("a.button", { href: "/login" }, "Log in")],
  usage_limit: (health) => {
    const until = Object.values(health.usage ?? {}).map((one) => one.resets_at).filter(Boolean).sort()[0];
    return ["The account's usage limit is reached; tasks wait. ", until && ["It ends ", new Date(until).toLocaleString(), "."]];
  },
  disk_low: (health) => [`The disk is nearly full: ${count(health.disk?.free_mb, "MB", "MB")} free.`, h("a.button", { href: "#/repos" }, "Drop repositories")],
  cloud_unreachable: (health) => [`Google Cloud cannot be reached: ${health.cloud?.error ?? "no answer"}`, h("a.button", { href: "#/settings" }, "See settings")],
};

// What the runner itself says of a reason that has no action here.
const told = (health, reason) => `${reason.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase())}: ${health.remedies?.[reason] ?? "see the settings."}`;

function needed(health) {
  const list = (health.reasons ?? []).map((reason) => notice("warm", actions[reason]?.(health) ?? told(health, reason)));
  if (health.credential === "none" && !health.reasons?.includes("login_needed"))
    list.push(notice("warm", "Claude has no login yet.", h("a.button", { href: "/login" }, "Log in")));
  if (health.status === "draining") list.push(notice("warm", "The runner is shutting down. Running tasks may end; new ones are refused."));
  const wrong = health.refused_callers ?? health.auth_failures;
  const last = wrong?.last;
  if (last && Date.now() - Date.parse(last) < 3600000)
    list.push(notice("plain", `${count(wrong.count, "wrong secret")} so far, the last `, when(last), "."));
  return list;
}

function undelivered(task) {
  const again = async (event) => {
    event.target.disabled = true;
    try {
      await send("POST", `/tasks/${task.taskId}/redeliver`);
      toast("The webhook is sent again.");
    } catch (error) {
      toast(error.message);
      event.target.disabled = false;
    }
  };
  return notice("warm", "A webhook could not be delivered: ", h("a", { href: `#/tasks/${task.taskId}` }, h("bdi", null, task.title ?? task.taskId)),
    h("button", { onclick: again, "data-key": `again-${task.taskId}` }, "Send again"));
}
