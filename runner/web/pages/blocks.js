// What an event of a task looks like.
import { count, h, money, number, plain, span } from "./ui.js";
import { markdown } from "./markdown.js";

const SHOWN = 20000; // characters of an output that are there at once
const LINE = 160;

// Draws events. Calls that have no answer yet are kept, so that the answer finds them.
export class Blocks {
  calls = new Map(); // tool call's id -> {details, time, began}
  part = null;       // the text that is being written

  // Nodes for an event's line; `live` when it comes as it happens.
  draw(line, live) {
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      return [h("pre.output", { dir: "auto" }, plain(line.slice(0, SHOWN)))];
    }
    const nodes = this.of(event.event, event.data ?? {}, live);
    return nodes.filter(Boolean);
  }

  of(kind, data, live) {
    if (kind === "message") return this.message(data, live);
    if (kind === "error") return [h("div.notice.bad", { dir: "auto" }, plain(data.error ?? "failed"))];
    if (kind === "cancelled") return [h("div.notice.plain", null, data.message ?? "Cancelled.")];
    if (kind === "stdout" || kind === "stderr") return [output(data.text ?? data.data ?? String(data), kind === "stderr")];
    if (kind === "done") return this.end(data);
    return [];
  }

  // Calls that have had no answer so far are running.
  showRunning() {
    for (const { details } of this.calls.values()) {
      if (details.dataset.state !== "unknown") continue;
      details.dataset.state = "running";
      details.open = true;
    }
  }

  message(data, live) {
    const inner = Boolean(data.parent_tool_use_id);
    switch (data.type) {
      case "assistant": this.finishPart(); return this.contents(data, live, inner);
      case "user": return this.answers(data, live, inner);
      case "stream_event": return this.parts(data.event);
      case "text": return [h("pre.output", { dir: "auto", tabIndex: 0 }, plain(String(data.content ?? "")))];
      case "system": return system(data);
      case "rate_limit_event": return limit(data.rate_limit_info ?? {});
      default: return []; // "result" is told by the end
    }
  }

  contents(data, live, inner) {
    const content = data.message?.content;
    const list = typeof content === "string" ? [{ type: "text", text: content }] : content ?? [];
    return list.map((one) => {
      const node = one.type === "text" ? this.says(one.text ?? "")
        : one.type === "thinking" ? h("details.thinking", null, h("summary", null, "Thought"), h("div.plain", { dir: "auto" }, one.thinking ?? ""))
        : one.type === "tool_use" || one.type === "server_tool_use" ? this.call(one, live) : null;
      if (node && inner) node.classList.add("inner");
      return node;
    });
  }

  says(text) {
    const element = h("div.said", null, markdown(text));
    this.lastSaid = { text, element };
    return element;
  }

  call({ id, name, input }, live) {
    const time = h("span.time");
    const details = h("details.tool", { open: live },
      h("summary", null, h("span.name", null, name ?? "tool"), h("code", { dir: "auto" }, gist(input)), time),
      h("pre", { dir: "auto", tabIndex: 0 }, written(input)));
    details.dataset.state = live ? "running" : "unknown";
    this.calls.set(id, { details, time, began: live ? performance.now() : null });
    if (this.calls.size > 500) this.calls.delete(this.calls.keys().next().value);
    return details;
  }

  answers(data, live, inner) {
    const content = data.message?.content;
    if (typeof content === "string") return [h("div.asked", { dir: "auto" }, content)];
    return (content ?? []).map((one) => {
      if (one.type === "text") return h(inner ? "details.thinking" : "div.asked", { dir: "auto" }, inner && h("summary", null, "Asked"), one.text ?? "");
      if (one.type !== "tool_result") return null;
      const call = this.calls.get(one.tool_use_id);
      const result = output(textOf(one.content), one.is_error);
      if (!call) return h(`details.tool${one.is_error ? ".failed" : ""}`, { open: Boolean(one.is_error) }, h("summary", null, h("span.name", null, "Result"), h("code", { dir: "auto" }, gist(textOf(one.content)))), result);
      this.calls.delete(one.tool_use_id);
      settle(call, one.is_error, live);
      call.details.append(result);
      return null;
    });
  }

  // Text while it is being written; the whole message comes after it and takes its place.
  parts(event) {
    const delta = event?.delta;
    const text = delta?.type === "text_delta" ? delta.text : null;
    if (text === null || text === undefined) return [];
    if (this.part) return this.part.append(text), [];
    return [this.part = h("div.said.part", { dir: "auto" }, text)];
  }
  finishPart() {
    this.part?.remove();
    this.part = null;
  }

  end(data) {
    this.finishPart();
    for (const call of this.calls.values()) if (call.details.dataset.state === "running") settle(call, true, false);
    this.calls.clear();
    if (data.output && this.lastSaid?.text === data.output) this.lastSaid.element.remove(); // it is the result
    const facts = [
      data.duration_ms && span(data.duration_ms), data.num_turns && count(data.num_turns, "turn"), data.total_cost_usd && money(data.total_cost_usd),
      data.usage && `${number((data.usage.input_tokens ?? 0) + (data.usage.cache_read_input_tokens ?? 0) + (data.usage.cache_creation_input_tokens ?? 0))} tokens in, ${number(data.usage.output_tokens)} out`,
    ].filter(Boolean).join(" · ");
    return [h(`section.end.${data.success ? "good" : "bad"}`, { "aria-label": "Result" },
      h("h2", null, data.success ? "Result" : `Ended: ${(data.reason ?? "failed").replaceAll("_", " ")}`),
      !data.success && data.error && data.error !== data.output && h("p", { dir: "auto" }, plain(data.error)),
      data.output && markdown(data.output), facts && h("p.facts", null, facts))];
  }
}

function settle(call, failed, live) {
  call.details.dataset.state = failed ? "failed" : "good";
  call.details.classList.toggle("failed", Boolean(failed));
  call.details.open = Boolean(failed) || (call.details.open && call.details.matches(":focus-within"));
  if (live && call.began !== null) call.time.textContent = span(performance.now() - call.began);
}

// The one line that says what a call is about.
function gist(input) {
  const text = typeof input === "string" ? input
    : input?.command ?? input?.file_path ?? input?.path ?? input?.pattern ?? input?.url ?? input?.description ?? input?.query ?? input?.prompt ?? JSON.stringify(input ?? {});
  const line = plain(String(text)).replace(/\s+/g, " ").trim();
  return line.length > LINE ? `${line.slice(0, LINE)}…` : line;
}

function written(input) {
  if (typeof input?.command === "string" && Object.keys(input).length <= 2) return plain(input.command).slice(0, SHOWN);
  return plain(JSON.stringify(input, null, 2) ?? "").slice(0, SHOWN);
}

function textOf(content) {
  if (typeof content === "string") return content;
  return (content ?? []).map((one) => (one.type === "text" ? one.text : `[${one.type}]`)).join("\n");
}

// An output, of which a long one is shown in part until somebody asks for the rest.
function output(text, failed) {
  const whole = plain(text);
  const pre = h(`pre.output${failed ? ".bad" : ""}`, { dir: "auto", tabIndex: 0 }, whole.slice(0, SHOWN));
  if (whole.length <= SHOWN) return pre;
  const more = h("button.quiet", { onclick: () => { pre.textContent = whole; more.remove(); } }, `Show all ${number(whole.length)} characters`);
  return h("div", null, pre, more);
}

function system(data) {
  if (data.subtype === "init")
    return [h("p.aside", null, "Claude ", data.claude_code_version ?? "", " · ", h("bdi", null, data.model ?? ""), ` · ${data.permissionMode ?? ""}`)];
  if (data.subtype === "api_retry")
    return [h("p.aside.warm", null, `Anthropic's API: ${data.error_status ?? "no answer"}; try ${data.attempt} of ${data.max_retries}.`)];
  return data.subtype === "compact_boundary" ? [h("p.aside", null, "The conversation was shortened.")] : [];
}

function limit({ status, resetsAt, rateLimitType }) {
  if (status !== "rejected") return [];
  return [h("p.aside.warm", null, `Usage limit (${(rateLimitType ?? "").replaceAll("_", " ")}) until ${resetsAt ? new Date(resetsAt * 1000).toLocaleString() : "later"}.`)];
}
