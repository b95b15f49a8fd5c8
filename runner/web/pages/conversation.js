// The conversation of a task: any number of events, of which only a window is held.
//
// Theory of operation. Events are cut into pages of PAGE. Of each page one number is kept: the id of the event before it,
// with which it can be read again. At most KEEP pages are in the document; what leaves it at one end is read from the
// runner when the reader comes back to it. While the reader is at the end, new events are drawn; while they read above,
// new ones are only counted.
import { Blocks } from "./blocks.js";
import { follow, idOf, some } from "./events.js";
import { prepare } from "./markdown.js";
import { h, notice, number } from "./ui.js";

const PAGE = 100;
const KEEP = 8;
const CAUGHT_UP_MS = 250; // without a line: what comes from here on happens now
const NEAR = 120; // pixels from the end that still count as the end

export class Conversation {
  befores = [null];  // per page: the id of the event before it
  total = 0;         // events that came
  last = null;       // id of the last one
  pages = [];        // in the document: {index, element}
  waiting = [];      // lines that are to be drawn
  unseen = 0;

  constructor(taskId, { signal, onEvent, onState }) {
    Object.assign(this, { taskId, signal, onEvent, onState });
    this.blocks = new Blocks();
    this.earlier = h("button.quiet.earlier", { hidden: true, onclick: () => this.loadEarlier() }, "Earlier");
    this.list = h("div.pages");
    this.newer = h("button.newer", { hidden: true, onclick: () => this.toEnd() });
    this.element = h("section.conversation", { "aria-label": "Conversation" }, this.earlier, this.list, this.newer);
    this.attached = true; // the last page in the document is the one that grows
    addEventListener("scroll", () => this.scrolled(), { signal, passive: true });
  }

  async run() {
    await prepare().catch(() => {}); // shown as plain text then
    const { signal } = this;
    await follow(this.taskId, null, {
      signal,
      onLines: (lines) => this.take(lines),
      onState: (state) => {
        this.caughtUp &&= state !== "lost";
        this.onState(state);
      },
    });
  }

  take(lines) {
    for (const line of lines) {
      const id = idOf(line);
      if (this.last !== null && id <= this.last) continue;
      if (this.total > 0 && this.total % PAGE === 0) this.befores.push(this.last);
      this.total++;
      this.last = id;
      this.onEvent?.(line);
      if (this.attached) this.waiting.push({ line, page: this.befores.length - 1, live: this.caughtUp });
      else this.unseen++;
    }
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => { this.caughtUp = true; }, CAUGHT_UP_MS);
    // Of many at once only the last pages are ever drawn.
    const most = PAGE * KEEP;
    if (this.waiting.length > most * 1.5) {
      const from = this.waiting[this.waiting.length - most].page;
      this.waiting = this.waiting.filter((one) => one.page >= from);
      this.clear();
    }
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    const draw = () => {
      if (!this.scheduled) return;
      this.scheduled = false;
      clearTimeout(timer);
      if (!this.signal.aborted) this.flush();
    };
    const timer = setTimeout(draw, 60); // a page that cannot be seen gets no frames
    requestAnimationFrame(draw);
  }

  flush() {
    const stick = this.atEnd();
    for (const { line, page, live } of this.waiting) this.pageFor(page).append(...this.blocks.draw(line, live));
    this.waiting = [];
    this.blocks.showRunning();
    if (stick) {
      this.trim("first");
      this.scrollToEnd();
    } else if (this.pages.length > KEEP * 2) {
      this.attached = false; // the reader is far above; the document must not grow under them
    }
    this.edges();
  }

  pageFor(index) {
    const known = this.pages.at(-1);
    if (known?.index === index) return known.element;
    const element = h("div.page");
    this.pages.push({ index, element });
    this.list.append(element);
    return element;
  }

  clear() {
    this.pages = [];
    this.list.replaceChildren();
    this.blocks = new Blocks();
  }

  // Takes pages beyond KEEP out at that end.
  trim(end) {
    while (this.pages.length > KEEP) {
      const { element } = end === "first" ? this.pages.shift() : this.pages.pop();
      element.remove();
      if (end === "last") this.attached = false;
    }
  }

  edges() {
    const first = this.pages[0]?.index ?? 0;
    this.earlier.hidden = first === 0;
    this.earlier.textContent = `Earlier (${number(first * PAGE)} events)`;
    this.newer.hidden = this.attached && !this.unseen;
    this.newer.textContent = this.unseen ? `${number(this.unseen)} new` : "To the end";
  }

  async loadEarlier() {
    const first = this.pages[0]?.index ?? 0;
    if (first === 0 || this.loading) return;
    this.loading = true;
    try {
      const lines = await some(this.taskId, this.befores[first - 1], { count: PAGE, signal: this.signal });
      const element = h("div.page");
      const blocks = new Blocks();
      for (const line of lines) element.append(...blocks.draw(line, false));
      const height = document.documentElement.scrollHeight;
      this.list.prepend(element);
      this.pages.unshift({ index: first - 1, element });
      scrollBy(0, document.documentElement.scrollHeight - height);
      this.trim("last");
    } catch (error) {
      if (!this.signal.aborted) this.list.prepend(notice("bad", error.message));
    }
    this.loading = false;
    this.edges();
  }

  // Reads the last pages again, and goes on from there.
  async toEnd() {
    if (this.attached) return this.scrollToEnd();
    if (this.loading) return;
    this.loading = true;
    const from = Math.max(0, this.befores.length - 3);
    try {
      const lines = await some(this.taskId, this.befores[from], { until: this.last, signal: this.signal });
      const missed = this.last - idOf(lines.at(-1) ?? "") > 0; // more came while these were read
      this.clear();
      this.waiting = lines.map((line, n) => ({ line, page: from + Math.floor(n / PAGE) }));
      this.attached = true;
      this.unseen = 0;
      this.flush();
      this.scrollToEnd();
      this.loading = false;
      if (missed) this.attached = false, await this.toEnd();
    } catch (error) {
      if (!this.signal.aborted) this.list.append(notice("bad", error.message));
    }
    this.loading = false;
  }

  atEnd() {
    return innerHeight + scrollY >= document.documentElement.scrollHeight - NEAR;
  }
  scrollToEnd() {
    scrollTo(0, document.documentElement.scrollHeight);
    this.unseen = 0;
    this.edges();
  }

  scrolled() {
    if (this.attached && this.atEnd() && this.unseen) this.scrollToEnd();
    if (scrollY < 400 && !this.earlier.hidden && this.pages.length) this.loadEarlier();
  }
}
