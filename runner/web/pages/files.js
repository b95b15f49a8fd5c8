// Files of a session: a directory's list, or one file, as the address says (?path=DIRECTORY, ?file=FILE).
import { ask, get } from "./api.js";
import { tried } from "./sessions.js";
import { confirm, count, h, notice, plain, size, toast, when } from "./ui.js";

const HOME = "/workspace";
const TEXT_MAX = 256 << 10; // bytes that are shown
const EDIT_MAX = TEXT_MAX;
const IMAGE_MAX = 20 << 20;
const images = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp", avif: "image/avif", bmp: "image/bmp", ico: "image/x-icon", svg: "image/svg+xml" };

export async function drawFiles(place, id, signal) {
  const query = new URLSearchParams(location.hash.split("?")[1]);
  const file = query.get("file"), path = query.get("path") || HOME;
  place.append(trail(id, file ?? path));
  if (file) await drawFile(place, id, file, signal);
  else await drawDirectory(place, id, path, signal);
}

const directoryOf = (path) => path.replace(/\/[^/]*$/, "") || "/";
const nameOf = (path) => path.split("/").pop();
const join = (path, name) => (path === "/" ? `/${name}` : `${path}/${name}`);
const to = (id, kind, path) => `#/sessions/${id}/files?${kind}=${encodeURIComponent(path)}`;

// A file's address. What is in the workspace is named from there: some proxies make one slash of two.
function address(id, path) {
  const within = path.startsWith(`${HOME}/`) ? path.slice(HOME.length + 1) : path;
  return `/sessions/${id}/files/${within.split("/").map(encodeURIComponent).join("/")}`;
}

// Where one is, with a way to each directory above.
function trail(id, path) {
  const names = path.split("/").filter(Boolean);
  const links = names.map((name, n) => {
    const here = `/${names.slice(0, n + 1).join("/")}`;
    return h("li", null, n === names.length - 1 ? h("bdi", { "aria-current": "location" }, name) : h("a", { href: to(id, "path", here) }, h("bdi", null, name)));
  });
  return h("nav.trail", { "aria-label": "Directory" }, h("ol", null, h("li", null, h("a", { href: to(id, "path", "/"), "aria-label": "The topmost directory" }, "/")), links));
}

/* --- a directory --------------------------------------------------------------------------- */

async function drawDirectory(place, id, path, signal) {
  const list = h("ul.files.entries"), said = h("p.none", { role: "status" });
  const more = h("button", { hidden: true, onclick: () => tried(() => load()) }, "More");
  let cursor = null, listed = 0;
  async function load() {
    const answer = await get(`/sessions/${id}/files?limit=500&path=${encodeURIComponent(path)}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, { signal });
    cursor = answer.nextCursor;
    listed += answer.entries.length;
    list.append(...answer.entries.map((entry) => entryRow(id, join(path, entry.name), entry, again)));
    list.hidden = listed === 0;
    said.textContent = listed ? `${count(listed, "entry", "entries")}${cursor ? ", there are more" : ""}.` : "There is nothing in it.";
    more.hidden = !cursor;
  }
  async function again() {
    list.replaceChildren();
    cursor = null;
    listed = 0;
    await tried(load);
  }
  place.append(list, said, more, put(id, path, signal, again));
  await load();
}

function entryRow(id, path, entry, again) {
  const directory = entry.type === "directory";
  const open = directory || entry.type === "file" || entry.type === "link";
  const name = h("bdi", null, entry.name, directory && "/");
  return h("li", null,
    open ? h("a.title", { href: to(id, directory ? "path" : "file", path) }, name) : h("span.title", null, name),
    h("span.facts", null, [
      entry.type === "file" ? h("span", null, size(entry.size)) : h("span", null, entry.type),
      entry.target && h("bdi", null, `→ ${entry.target}`),
      h("span", null, entry.mode), when(entry.mtime)].filter(Boolean)),
    h("button.quiet", { "aria-label": `Delete ${entry.name}`, onclick: async () => {
      if (!await confirm(`Delete ${entry.name}${directory ? " and all that is in it" : ""}?`, "Delete")) return;
      if (await tried(() => ask("DELETE", address(id, path)))) await again();
    } }, "Delete"));
}

// Uploads, a new file, and all of it as an archive.
function put(id, path, signal, again) {
  const chosen = h("input", { type: "file", multiple: true, hidden: true });
  const state = h("p.none", { role: "status" });
  const upload = async (files) => {
    let done = 0;
    for (const file of files) {
      state.textContent = `Uploading ${file.name} (${size(file.size)})…`;
      if (await tried(() => send(id, join(path, file.name), file, signal))) done++;
      if (signal.aborted) return;
    }
    state.textContent = done ? `${count(done, "file")} uploaded.` : "";
    await again();
  };
  chosen.addEventListener("change", () => upload([...chosen.files]));
  const name = h("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: false, required: true, "aria-label": "Name of a new file", placeholder: "name of a new file" });
  const element = h("section", { "aria-label": "Add and take" }, h("div.row", null,
    h("button", { onclick: () => chosen.click() }, "Upload files"), chosen,
    h("a.button", { href: `/sessions/${id}/archive?path=${encodeURIComponent(path)}`, download: "" }, "Download all of it")),
  h("form.shell", { onsubmit: async (event) => {
    event.preventDefault();
    const file = join(path, name.value.trim());
    if (await tried(() => ask("PUT", address(id, file), { raw: "", headers: { "If-None-Match": "*" }, signal }))) location.hash = to(id, "file", file);
  } }, name, h("button", { type: "submit" }, "Make it")), state);
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    upload([...event.dataTransfer.files]);
  });
  return element;
}

// Sends a file; one that is there is replaced only when the reader says so.
async function send(id, path, file, signal) {
  const put = (headers) => ask("PUT", address(id, path), { raw: file, headers, signal, timeoutMs: 0 });
  try {
    return await put({ "If-None-Match": "*" });
  } catch (error) {
    if (error.status !== 412) throw error;
    return await confirm(`${nameOf(path)} is there already. Replace it?`, "Replace") ? put({}) : undefined;
  }
}

/* --- one file ------------------------------------------------------------------------------ */

async function drawFile(place, id, path, signal) {
  let head;
  try {
    head = await ask("HEAD", address(id, path), { signal });
  } catch (error) {
    throw error.status === 404 ? new Error("There is no such file.") : error;
  }
  const bytes = Number(head.headers.get("Content-Length") ?? 0), etag = head.headers.get("ETag");
  // What has no tag is no file; a link can lead to a directory.
  if (!etag) return location.replace(to(id, "path", path));
  const shown = h("div");
  place.append(h("p.facts", null, size(bytes)), h("div.row", null,
    h("a.button", { href: address(id, path), download: nameOf(path) }, "Download"),
    h("button.quiet", { onclick: async () => {
      if (!await confirm(`Delete ${nameOf(path)}?`, "Delete")) return;
      if (await tried(() => ask("DELETE", address(id, path), { headers: { "If-Match": etag } }))) location.hash = to(id, "path", directoryOf(path));
    } }, "Delete")), shown);
  const type = images[nameOf(path).split(".").pop().toLowerCase()];
  if (type && bytes > 0 && bytes <= IMAGE_MAX) return drawImage(shown, id, path, type, signal);
  return drawText(shown, id, path, { bytes, etag }, signal);
}

// An image is data of its own type and no document: nothing in it runs.
async function drawImage(shown, id, path, type, signal) {
  const blob = new Blob([await (await ask("GET", address(id, path), { signal, timeoutMs: 0 })).arrayBuffer()], { type });
  const url = URL.createObjectURL(blob);
  signal.addEventListener("abort", () => URL.revokeObjectURL(url), { once: true });
  const image = h("img.shown", { alt: nameOf(path), src: url });
  image.addEventListener("error", () => shown.replaceChildren(notice("plain", "It is no image that this browser can show.")));
  shown.append(image);
}

async function drawText(shown, id, path, file, signal) {
  const part = file.bytes > TEXT_MAX;
  const response = await ask("GET", address(id, path), { signal, timeoutMs: 0, headers: part ? { Range: `bytes=0-${TEXT_MAX - 1}` } : {} });
  const bytes = new Uint8Array(await response.arrayBuffer()), text = textOf(bytes, part);
  if (text === null) return shown.append(notice("plain", "It is not text: download it to see it."));
  if (!part && file.bytes <= EDIT_MAX) return edit(shown, id, path, text, response.headers.get("ETag"), signal);
  if (part) shown.append(notice("plain", `Its first ${size(TEXT_MAX)}.`));
  return shown.append(h("pre.output.whole", { dir: "auto", tabIndex: 0 }, plain(text)));
}

// The bytes as text; null when they are none. A part may end within a character.
function textOf(bytes, part) {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: part });
  } catch {
    return null;
  }
}

// What is saved replaces only what was read: an ETag tells whether somebody else has written meanwhile.
function edit(shown, id, path, text, etag, signal) {
  const crlf = text.includes("\r\n");
  const area = h("textarea.editor", { rows: Math.min(30, Math.max(6, text.split("\n").length + 1)), spellcheck: false, dir: "auto", "aria-label": `Text of ${nameOf(path)}`, value: text });
  const save = h("button.primary", { disabled: true, onclick: () => put(etag) }, "Save"), said = h("div");
  let kept = area.value;
  async function put(match) {
    if (save.disabled) return;
    const value = area.value;
    save.disabled = true;
    said.replaceChildren();
    try {
      // A text area has line feeds only.
      const answer = await ask("PUT", address(id, path), { raw: crlf ? value.replaceAll("\n", "\r\n") : value, headers: match ? { "If-Match": match } : {}, signal, timeoutMs: 60000 });
      kept = value;
      etag = answer.headers.get("ETag") ?? (await ask("HEAD", address(id, path), { signal })).headers.get("ETag");
      toast("Saved.");
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 412) said.replaceChildren(notice("warm", "Somebody else has changed it since it was read.",
        h("button", { onclick: () => { said.replaceChildren(); save.disabled = false; put(null); } }, "Save over it")));
      else said.replaceChildren(notice("bad", error.message));
    }
    save.disabled = area.value === kept;
  }
  area.addEventListener("input", () => { save.disabled = area.value === kept; });
  area.addEventListener("keydown", (event) => {
    if (event.key !== "s" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    put(etag);
  });
  addEventListener("beforeunload", (event) => { if (area.value !== kept) event.preventDefault(); }, { signal });
  shown.append(area, said, h("div.row", null, save));
}
