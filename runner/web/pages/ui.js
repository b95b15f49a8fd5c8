// Elements, words and numbers of the console. Text goes into text nodes only.

// h("a.button", {href}, children…): an element; a child is a node, a text, or nothing.
export function h(name, props, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list" && key !== "form" && typeof value !== "object") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

// A text without escapes of terminals and control characters.
// eslint-disable-next-line no-control-regex
export const plain = (text) => text.replace(/\x1b\][^\x07\x1b]*(\x07|\x1b\\)?|\x1b[[(][0-?]*[ -/]*[@-~]?|\x1b./g, "").replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g, "");

export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
export const number = (n) => Number(n ?? 0).toLocaleString("en");
export const money = (usd) => `$${usd < 0.1 ? usd.toFixed(4) : usd.toFixed(2)}`;

export function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let n = Number(bytes), at = 0;
  while (n >= 1000 && at < units.length - 1) n /= 1000, at++;
  return `${at && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${ms < 10000 ? (Math.max(0, ms) / 1000).toFixed(1) : s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

// When that was; clocks() keeps "ago" true.
export function when(text) {
  if (!text) return "";
  const time = h("time", { dateTime: text, title: date.format(new Date(text)) });
  time.dataset.ago = Date.parse(text);
  tick(time);
  return time;
}

// How long it has been running.
export function clock(since) {
  const time = h("span.clock");
  time.dataset.since = Date.parse(since);
  tick(time);
  return time;
}

function tick(element) {
  const { ago, since } = element.dataset;
  const text = since ? span(Date.now() - since) : Date.now() - ago < 5000 ? "just now" : `${span(Math.floor((Date.now() - ago) / 1000) * 1000).replace(/\.\d/, "")} ago`;
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => {
  if (!document.hidden) document.querySelectorAll("[data-since], [data-ago]").forEach(tick);
}, 1000);

const states = {
  pending: ["waits", "wait"], waiting_login: ["waits for a login", "warm"], waiting_limit: ["waits for the usage limit", "warm"],
  waiting_approval: ["asks you", "warm"], running: ["runs", "run"], completed: ["done", "good"], failed: ["failed", "bad"], cancelled: ["cancelled", "off"],
};
export const active = (status) => ["pending", "waiting_login", "waiting_limit", "waiting_approval", "running"].includes(status);

export function badge(status) {
  const [word, kind] = states[status] ?? [status, "off"];
  return h(`span.badge.${kind}`, null, word);
}

// Something to know, and what can be done about it at the end of it.
export function notice(kind, ...children) {
  const all = children.flat(Infinity).filter(Boolean);
  const isAction = (child) => child.matches?.("button, a.button");
  return h(`div.notice.${kind}`, { role: kind === "bad" ? "alert" : undefined }, h("div", null, all.filter((child) => !isAction(child))), all.filter(isAction));
}

// Says it for a while, also to a screen reader (the place is a status), and no longer than the screen is shown. A new text node is a
// new thing to say, also when the words are the same.
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(endToast, Math.max(6000, text.length * 80));
}
export function endToast() {
  clearTimeout(toast.timer);
  document.getElementById("toast").textContent = "";
}

// A question with one way to say yes. True when it was said.
export function confirm(text, yes) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": text },
      h("p", null, text),
      h("div.row", null,
        h("button.danger", { onclick: () => dialog.close("yes") }, yes),
        h("button", { autofocus: true, onclick: () => dialog.close() }, "Keep")));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Puts new children in place without losing the keyboard's place: an element is known again by its data-key.
export function replace(parent, ...children) {
  const key = parent.contains(document.activeElement) && document.activeElement.dataset.key;
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (key) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export function field(label, input, help) {
  const id = `f-${label.toLowerCase().replace(/\W+/g, "-")}`;
  input.id = id;
  if (help) input.setAttribute("aria-describedby", `${id}-help`);
  return h("div.field", null, h("label", { htmlFor: id }, label), input, help && h("p.help", { id: `${id}-help` }, help));
}

export const repoName = (url) => (url ?? "").replace(/^.*[/:]([^/:]+\/[^/]+?)(\.git)?\/?$/, "$1");
