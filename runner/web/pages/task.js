// One task: the conversation as it comes, what came of it, and what can be done with it.
import { every, get, has, send } from "./api.js";
import { Conversation } from "./conversation.js";
import { drawDiff } from "./diff.js";
import { active, badge, clock, confirm, h, money, notice, number, plain, replace, repoName, size, span, toast, when } from "./ui.js";

export async function show({ main, heading, params: [id], signal }) {
  const task = await get(`/tasks/${id}`, { signal });
  const top = h("div.top-line"), actions = h("div.row"), line = h("p.state", { role: "status" }), after = h("div");
  heading.replaceChildren(h("bdi", null, headline(task)));
  document.title = `${headline(task)} · Claude Runner`;
  const talk = new Conversation(id, { signal, onState: (state) => said(line, state) });
  main.append(top, actions, asked(task), talk.element, line, after);
  let known = "";
  const look = async () => {
    const now = await get(`/tasks/${id}`, { signal });
    const print = `${now.status} ${now.attempts} ${now.webhook?.state}`;
    if (print === known) return now;
    known = print;
    replace(top, facts(now));
    replace(actions, buttons(now, look));
    if (!active(now.status)) await drawAfter(after, now, signal);
    return now;
  };
  await look();
  every(2000, signal, async () => { if (known.startsWith("completed") || !active(known.split(" ")[0])) return; await look(); });
  await talk.run();
  if (!signal.aborted) await look();
}

const headline = (task) => plain(task.request?.prompt ?? task.request?.command ?? task.request?.code ?? task.taskId).replace(/\s+/g, " ").trim().replace(/^(.{120}).+/s, "$1…") || task.taskId;

function said(line, state) {
  const words = { live: "", ended: "", lost: "The connection broke; it goes on where it was." };
  line.textContent = words[state] ?? "";
}

function facts(task) {
  const usage = task.usage ?? {};
  return [
    badge(task.status),
    h("span.facts", null, [
      task.status === "running" && task.startedAt ? clock(task.startedAt) : task.duration_ms ? h("span", null, span(task.duration_ms)) : null,
      task.total_cost_usd ? h("span", null, money(task.total_cost_usd)) : null,
      usage.output_tokens ? h("span", null, `${number((usage.input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0))} tokens in, ${number(usage.output_tokens)} out`) : null,
      task.request?.repoUrl ? h("bdi", null, repoName(task.request.repoUrl)) : null,
      task.executor === "cloud" ? h("span", null, "cloud") : null,
      task.caller ? h("bdi", null, task.caller) : null,
      h("span", null, when(task.createdAt)),
    ]),
    task.status === "waiting_login" && notice("warm", "It waits for a login.", h("a.button", { href: "/login" }, "Log in")),
    task.status === "waiting_limit" && notice("warm", "It waits until the account's usage limit ends."),
    task.webhook?.state === "dead" && notice("warm", "Its webhook could not be delivered.", h("button", { onclick: () => redeliver(task) }, "Send again")),
  ];
}

async function redeliver(task) {
  await tried(() => send("POST", `/tasks/${task.taskId}/redeliver`), "The webhook is sent again.");
}

async function tried(action, word) {
  try {
    const answer = await action();
    if (word) toast(word);
    return answer;
  } catch (error) {
    toast(error.message);
    return undefined;
  }
}

function buttons(task, look) {
  const running = active(task.status);
  const cancel = async () => {
    if (!await confirm("Cancel this task? All that it has started is ended.", "Cancel it")) return;
    await tried(() => send("POST", `/tasks/${task.taskId}/cancel`), "The task is cancelled.");
    await look();
  };
  const again = async () => {
    const { prompt, ...rest } = task.request;
    const made = await tried(() => send("POST", "/run-async", { prompt, ...rest }, { headers: { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) } }));
    if (made) location.hash = `#/tasks/${made.taskId}`;
  };
  const share = async () => {
    try {
      if (navigator.share && matchMedia("(pointer: coarse)").matches) await navigator.share({ url: location.href, title: headline(task) });
      else await navigator.clipboard.writeText(location.href), toast("The link is copied. Whoever opens it needs the secret.");
    } catch { /* they thought better of it */ }
  };
  return [
    running && h("button.danger", { onclick: cancel, "data-key": "cancel" }, "Cancel"),
    !running && task.kind === "claude" && h("button", { onclick: again, "data-key": "again" }, "Run again"),
    !running && task.sessionId && h("a.button", { href: `#/new?continue=${task.taskId}`, "data-key": "go-on" }, "Go on with a message"),
    h("button.quiet", { onclick: share, "data-key": "share" }, "Share"),
  ];
}

function asked(task) {
  const { prompt, command, code, ...rest } = task.request ?? {};
  const text = plain(prompt ?? command ?? code ?? "");
  return h("details.asked-for", { open: text.length < 1200 }, h("summary", null, "What was asked"),
    h("pre", { dir: "auto", tabIndex: 0 }, text.slice(0, 200000)),
    Object.keys(rest).length > 0 && h("details", null, h("summary", null, "All fields"), h("pre", { dir: "auto", tabIndex: 0 }, JSON.stringify(rest, null, 2))));
}

async function drawAfter(after, task, signal) {
  const { outputs } = await get(`/tasks/${task.taskId}/outputs`, { signal });
  const parts = [];
  if (outputs?.length) parts.push(h("section", null, h("h2", null, "Outputs"), h("ul.files", null, outputs.map((file) => {
    const path = file.path ?? file.name;
    return h("li", null, h("a", { href: `/tasks/${task.taskId}/outputs/${path.split("/").map(encodeURIComponent).join("/")}`, download: "" }, h("bdi", null, path)), " ", size(file.sizeBytes ?? file.size ?? 0));
  })), h("a.button", { href: `/tasks/${task.taskId}/outputs.tgz`, download: "" }, "All of them")));
  if (task.gitCommit) parts.push(h("section", null, h("h2", null, "Commit"), h("p", { dir: "auto" }, `${task.gitCommit.sha?.slice(0, 12)} ${task.gitCommit.message ?? ""} ${task.gitCommit.pushed ? "(pushed)" : "(not pushed)"}`)));
  if (task.request?.repoUrl && await has("/tasks/{id}/diff")) {
    const place = h("section", null, h("h2", null, "Changes"));
    parts.push(place);
    drawDiff(place, task.taskId, signal);
  }
  after.replaceChildren(...parts);
}
