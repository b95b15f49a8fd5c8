// New: a task, or one that goes on with the conversation of an earlier one. What is written is kept until it is sent.
import { fieldsOf, get, send } from "./api.js";
import { title } from "./tasks.js";
import { field, h, notice, repoName } from "./ui.js";

const DRAFT = "draft";

export async function show({ main, heading, signal }) {
  const continued = new URLSearchParams(location.hash.split("?")[1]).get("continue");
  const [takes, { mirrors }, earlier] = await Promise.all([
    fieldsOf("RunAsyncRequest"), get("/repos", { signal }), continued ? get(`/tasks/${continued}`, { signal }) : null]);
  const place = continued ? `${DRAFT}-${continued}` : DRAFT;
  const draft = read(place);
  const input = {
    prompt: h("textarea", { rows: 8, required: true, dir: "auto", value: draft.prompt ?? "" }),
    repoUrl: h("input", { type: "text", list: "repos", autocomplete: "off", spellcheck: false, value: draft.repoUrl ?? "", placeholder: "owner/name or a URL" }),
    gitBranch: h("input", { type: "text", autocomplete: "off", spellcheck: false, value: draft.gitBranch ?? "" }),
    model: h("input", { type: "text", list: "models", autocomplete: "off", value: draft.model ?? "" }),
    timeoutMinutes: h("input", { type: "number", min: 1, max: 10080, inputMode: "numeric", value: draft.timeoutMinutes ?? "" }),
    maxTurns: h("input", { type: "number", min: 1, max: 10000, inputMode: "numeric", value: draft.maxTurns ?? "" }),
    maxBudgetUsd: h("input", { type: "number", min: 0, step: "any", inputMode: "decimal", value: draft.maxBudgetUsd ?? "" }),
    egress: h("input", { type: "text", autocomplete: "off", value: draft.egress ?? "", placeholder: "open, none, or names" }),
    gitPush: h("input", { type: "checkbox", checked: draft.gitPush === true }),
    pushAfter: h("input", { type: "checkbox", checked: draft.pushAfter === true }),
  };
  const said = h("div"), button = h("button.primary", { type: "submit" }, continued ? "Send" : "Run");
  const key = draft.key ?? (crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`);
  const values = () => Object.fromEntries(Object.entries(input).map(([name, one]) => [name, one.type === "checkbox" ? one.checked : one.value]));
  const keep = () => write(place, { ...values(), key });

  async function submit(event) {
    event?.preventDefault();
    if (button.disabled || !form.reportValidity()) return;
    button.disabled = true;
    said.replaceChildren();
    try {
      // The same key for the same draft: pressed twice, or sent again after a lost answer, it is one task.
      const made = await send("POST", "/run-async", request(values(), earlier, takes), { headers: { "Idempotency-Key": await keyFor(key, values()) } });
      localStorage.removeItem(place);
      location.hash = `#/tasks/${made.taskId}`;
    } catch (error) {
      if (signal.aborted) return;
      said.replaceChildren(notice("bad", error.fields?.length ? h("ul", null, error.fields.map((one) => h("li", null, `${one.field}: ${one.message}`))) : error.message));
      button.disabled = false;
    }
  }

  const form = h("form.card.wide", { onsubmit: submit, oninput: keep },
    field(continued ? "Message" : "Prompt", input.prompt, "Ctrl+Enter, or ⌘ Enter, runs it."),
    !continued && [
      field("Repository", input.repoUrl),
      h("datalist", { id: "repos" }, (mirrors ?? []).map((one) => h("option", { value: one.url }, repoName(one.url)))),
      field("Branch", input.gitBranch, "Empty: the repository's own."),
    ],
    h("details", null, h("summary", null, "Model and limits"), h("div.grid", null,
      field("Model", input.model), h("datalist", { id: "models" }, ["opus", "sonnet", "haiku"].map((value) => h("option", { value }))),
      field("Time limit (minutes)", input.timeoutMinutes), field("Turns at most", input.maxTurns), field("Cost at most (US$)", input.maxBudgetUsd),
      takes("egress") && field("Network", input.egress))),
    !continued && h("div.checks", null,
      takes("gitPush") && h("label.check", null, input.gitPush, "Claude may push itself"),
      takes("postExecutionActions") && h("label.check", null, input.pushAfter, "Commit and push what was changed when it succeeds")),
    said, button);
  input.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) submit(event);
  });
  if (earlier) {
    heading.replaceChildren("Go on");
    form.prepend(h("p", null, "The conversation of ", h("a", { href: `#/tasks/${continued}` }, h("bdi", null, (earlier.request.prompt ?? title(earlier)).slice(0, 80))), " goes on."));
  }
  main.append(form);
  input.prompt.focus({ preventScroll: true });
}

function request(given, earlier, takes) {
  const number = (text) => (text === "" ? undefined : Number(text));
  const body = {
    prompt: given.prompt,
    model: given.model.trim() || undefined,
    timeoutMinutes: number(given.timeoutMinutes), maxTurns: number(given.maxTurns), maxBudgetUsd: number(given.maxBudgetUsd),
  };
  if (takes("egress") && given.egress.trim())
    body.egress = ["open", "none"].includes(given.egress.trim()) ? given.egress.trim() : given.egress.split(/[\s,]+/).filter(Boolean);
  if (earlier) {
    const { repoUrl, gitBranch, model } = earlier.request;
    return { ...body, resumeSessionId: earlier.sessionId, repoUrl, gitBranch, model: body.model ?? model };
  }
  Object.assign(body, { repoUrl: given.repoUrl.trim() || undefined, gitBranch: given.gitBranch.trim() || undefined });
  if (takes("gitPush") && given.gitPush) body.gitPush = true;
  if (given.pushAfter) body.postExecutionActions = { git: { commit: true, push: true } };
  return body;
}

async function keyFor(key, given) {
  if (!crypto.subtle) return key;
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify([key, given]))));
  return [...bytes.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function read(place) {
  try {
    return JSON.parse(localStorage.getItem(place)) ?? {};
  } catch {
    return {};
  }
}
function write(place, draft) {
  try {
    localStorage.setItem(place, JSON.stringify(draft));
  } catch { /* a full or forbidden store: the draft lives as long as the page */ }
}
