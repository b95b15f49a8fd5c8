// A session's terminal: xterm.js over the runner's WebSocket. It and its libraries are loaded when a terminal is opened.
import { have } from "./lib/have.js";
import { h, notice } from "./ui.js";

const FONT = "ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace";
const LAST_MS = 15000; // the longest pause before it is tried again

// Draws the terminal until the signal; false when this build has none.
export async function drawTerminal(place, id, signal) {
  if (!have.includes("terminal")) return false;
  const [{ Terminal }, { FitAddon }] = await Promise.all([import("./lib/xterm.js"), import("./lib/xterm-fit.js"), stylesheet(new URL("lib/xterm.css", import.meta.url).pathname)]);
  if (signal.aborted) return true;
  new Shell(place, id, signal, Terminal, FitAddon);
  return true;
}

class Shell {
  pause = 500;

  constructor(place, id, signal, Terminal, FitAddon) {
    Object.assign(this, { id, signal });
    this.screen = h("div.tty");
    this.said = h("div", { role: "status" });
    this.element = h("div", null, this.screen, keys((text) => this.type(text)), this.said, forReaders((on) => { this.term.options.screenReaderMode = on; }));
    place.append(this.element);
    this.term = new Terminal({ fontFamily: FONT, fontSize: 14, scrollback: 5000, screenReaderMode: isRead(), minimumContrastRatio: 4.5, theme: theme() });
    this.fit = new FitAddon();
    this.term.loadAddon(this.fit);
    withOwnStyles(() => this.term.open(this.screen));
    this.term.onData((text) => this.type(text));
    this.term.onBinary((text) => this.type(text));
    this.term.onResize(({ cols, rows }) => this.tell({ resize: { cols, rows } }));
    const watch = new ResizeObserver(() => this.adapt());
    watch.observe(this.screen);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => { this.term.options.theme = theme(); }, { signal });
    addEventListener("online", () => this.again(0), { signal });
    document.addEventListener("visibilitychange", () => !document.hidden && this.again(0), { signal });
    signal.addEventListener("abort", () => {
      watch.disconnect();
      clearTimeout(this.timer);
      this.socket?.close(1000);
      this.term.dispose();
    }, { once: true });
    this.adapt();
    this.connect();
    this.term.focus();
  }

  adapt() {
    if (this.screen.clientWidth > 0) this.fit.fit();
  }

  connect() {
    const { cols, rows } = this.term;
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/sessions/${this.id}/terminal?cols=${cols}&rows=${rows}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.quiet = true; // no answers to what was printed before
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") this.hear(JSON.parse(data));
      else this.term.write(new Uint8Array(data));
    });
    socket.addEventListener("close", () => this.lost(socket));
  }

  hear(message) {
    if (message.type === "open") {
      this.pause = 500;
      this.say();
      this.term.reset(); // what was printed before comes again
    } else if (message.type === "live") this.term.write("", () => { this.quiet = false; });
    else if (message.type === "resize") this.term.resize(message.cols, message.rows);
    else if (message.type === "skipped") this.term.write(`\r\n[${message.bytes} bytes were skipped]\r\n`);
    else if (message.type === "error") this.say("bad", message.message);
    else if (message.type === "exit") {
      this.ended = true;
      this.say("plain", message.lost ? "The session has ended." : `The shell has ended (${message.exitCode}).`, !message.lost && h("button", { onclick: () => this.anew() }, "New shell"));
    }
  }

  anew() {
    this.ended = false;
    this.say();
    this.term.reset();
    this.connect();
    this.term.focus();
  }

  lost(socket) {
    if (socket !== this.socket || this.signal.aborted || this.ended) return;
    this.socket = null;
    this.say("warm", "The connection broke; it is made again. The shell goes on meanwhile.");
    this.again(this.pause);
    this.pause = Math.min(this.pause * 2, LAST_MS);
  }

  again(ms) {
    if (this.socket || this.ended || this.signal.aborted) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), ms);
  }

  type(text) {
    if (this.quiet || this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(new TextEncoder().encode(text));
  }
  tell(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
  say(kind, ...words) {
    this.said.replaceChildren(...(kind ? [notice(kind, ...words)] : []));
  }
}

// Keys that a phone's keyboard lacks.
function keys(type) {
  const list = [["Esc", "\x1b"], ["Tab", "\t"], ["Ctrl C", "\x03"], ["Ctrl D", "\x04"], ["↑", "\x1b[A", "Up"], ["↓", "\x1b[B", "Down"], ["←", "\x1b[D", "Left"], ["→", "\x1b[C", "Right"]];
  return h("div.row.keys", { role: "group", "aria-label": "Keys" }, list.map(([name, text, label]) =>
    h("button", { "aria-label": label, onpointerdown: (event) => event.preventDefault(), onclick: () => type(text) }, name)));
}

// With it screen readers hear what is printed; but then what keyboards of phones compose does not arrive.
const READ = "terminal-is-read";
const isRead = () => {
  try {
    return localStorage.getItem(READ) === "yes";
  } catch {
    return false;
  }
};
function forReaders(set) {
  const box = h("input", { type: "checkbox", checked: isRead(), onchange: () => {
    try {
      localStorage.setItem(READ, box.checked ? "yes" : "no");
    } catch { /* it holds for this page */ }
    set(box.checked);
  } });
  return h("label.check", null, box, "Read what is printed to a screen reader");
}

const theme = () => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return { background: colour("--code"), foreground: colour("--ink"), cursor: colour("--accent"), selectionBackground: dark ? "#5c564e" : "#cfc7ba",
    ...(!dark && { yellow: "#7a5200", brightYellow: "#7a5200", green: "#1e6b3a", brightGreen: "#1e6b3a", cyan: "#1c5a8a", brightCyan: "#1c5a8a", white: "#5f5b54", brightWhite: "#1f1e1c" }) };
};

function stylesheet(href) {
  if (document.querySelector(`link[href="${href}"]`)) return Promise.resolve();
  return new Promise((resolve) => {
    const link = h("link", { rel: "stylesheet", href });
    link.addEventListener("load", resolve, { once: true });
    link.addEventListener("error", resolve, { once: true });
    document.head.append(link);
  });
}

// xterm.js makes <style> elements when it opens, which the page's policy does not take: it gets elements whose text
// becomes a sheet of the page's own instead.
function withOwnStyles(open) {
  document.createElement = (tag, options) => (tag === "style" ? styleElement() : Document.prototype.createElement.call(document, tag, options));
  HTMLSpanElement.prototype.setAttribute = styleByProperty;
  try {
    open();
  } finally {
    delete document.createElement;
  }
}

// It gives cells colours of their own by the attribute "style", which is not taken either; by the property it is.
function styleByProperty(name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

function styleElement() {
  const sheet = new CSSStyleSheet(), element = h("span", { hidden: true });
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(element, "textContent", { get: () => "", set: (text) => sheet.replaceSync(text) });
  Object.defineProperty(element, "remove", { value: () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  } });
  return element;
}
