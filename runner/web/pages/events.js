// A task's events as lines of JSON, from any one on; goes on by itself after a break.
import { ask, Failure } from "./api.js";

const SILENCE_MS = 40000; // the runner says something every 15 s

export const idOf = (line) => Number(/^\{"id":(\d+)/.exec(line)?.[1] ?? 0);

// Calls onLines(lines) with whole lines until the task's last event, or the signal. `after` is the id of the last event
// that is known, or null. onState("live" | "lost" | "ended").
export async function follow(taskId, after, { signal, onLines, onState }) {
  let last = after, pause = 500;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = AbortSignal.any([signal, attempt.signal]);
    try {
      const response = await open(taskId, last, stop);
      if (response.status === 204) return onState("ended");
      onState("live");
      for await (const lines of read(response.body, attempt)) {
        pause = 500;
        last = idOf(lines.at(-1));
        onLines(lines);
        if (lines.some((line) => /^\{"id":\d+,"event":"done"/.test(line))) return onState("ended");
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Failure && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    } finally {
      attempt.abort();
    }
    if (signal.aborted) return;
    onState("lost");
    await woken(pause, signal);
    pause = Math.min(pause * 2, 8000);
  }
}

// The lines after the event `after`: `count` of them, or those up to the event `until`.
export async function some(taskId, after, { count = Infinity, until = Infinity, signal }) {
  const attempt = new AbortController();
  const lines = [];
  try {
    const response = await open(taskId, after, AbortSignal.any([signal, attempt.signal]));
    if (response.status === 204) return lines;
    for await (const more of read(response.body, attempt)) {
      lines.push(...more);
      if (lines.length >= count || idOf(lines.at(-1)) >= until) break;
    }
  } finally {
    attempt.abort();
  }
  return lines.filter((line, n) => n < count && idOf(line) <= until);
}

function open(taskId, after, signal) {
  const headers = { Accept: "application/x-ndjson", ...(after !== null && { "Last-Event-ID": String(after) }) };
  return ask("GET", `/tasks/${taskId}/events`, { headers, signal, timeoutMs: 0 });
}

// Whole lines, a chunk's worth at a time. A stream that says nothing for long is dead: a phone that slept does not know.
async function* read(body, attempt) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = [];
  for (;;) {
    const timer = setTimeout(() => attempt.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const end = value.lastIndexOf("\n");
    if (end < 0) {
      rest.push(value);
      continue;
    }
    const lines = (rest.join("") + value.slice(0, end)).split("\n").filter((line) => line.startsWith("{"));
    rest = [value.slice(end + 1)];
    if (lines.length) yield lines;
  }
}

// Waits, but no longer than until the page is seen again.
function woken(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", end);
      removeEventListener("online", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    document.addEventListener("visibilitychange", end);
    addEventListener("online", end);
    signal.addEventListener("abort", end, { once: true });
  });
}
