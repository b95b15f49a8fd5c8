// What a task changed in its repository, file by file: side by side where there is room, else one column.
import { ask } from "./api.js";
import { h, notice } from "./ui.js";

const LINES = 2000; // of one file

export async function drawDiff(place, taskId, signal) {
  let text;
  try {
    text = await (await ask("GET", `/tasks/${taskId}/diff`, { headers: { Accept: "text/x-diff, text/plain" }, signal })).text();
  } catch (error) {
    if (!signal.aborted) place.append(error.status === 404 ? h("p.none", null, "What it changed is not kept.") : notice("bad", error.message));
    return;
  }
  const files = text.split(/^(?=diff --git )/m).filter((part) => part.startsWith("diff --git "));
  if (!files.length) return place.append(h("p.none", null, "It changed nothing."));
  const room = matchMedia("(min-width: 56rem)"), list = h("div");
  const draw = () => {
    const open = [...list.children].map((one) => one.open);
    list.replaceChildren(...files.map((part, n) => drawFile(part, open[n] ?? files.length < 6, room.matches)));
  };
  room.addEventListener("change", draw, { signal });
  place.append(list);
  draw();
}

function drawFile(part, open, wide) {
  const lines = part.split("\n");
  const name = /^\+\+\+ (?:b\/)?(.*)$/m.exec(part)?.[1];
  const old = /^--- (?:a\/)?(.*)$/m.exec(part)?.[1];
  const shown = name && name !== "/dev/null" ? name : old ?? lines[0].replace(/^diff --git /, "");
  const hunks = lines.slice(Math.max(0, lines.findIndex((line) => line.startsWith("@@"))));
  const added = hunks.filter((line) => line.startsWith("+")).length, removed = hunks.filter((line) => line.startsWith("-")).length;
  const rows = wide ? pairs(hunks.slice(0, LINES)).map(([left, right]) => drawRow(left, right)) : hunks.slice(0, LINES).filter(Boolean).map(drawLine);
  const table = h(`table.diff${wide ? ".wide" : ""}`, null, h("tbody", null, rows));
  return h("details.file", { open },
    h("summary", null, h("bdi", null, shown), " ", h("span.added", null, `+${added}`), " ", h("span.removed", null, `−${removed}`)),
    h("div.scroll", { tabIndex: 0, role: "region", "aria-label": `Changes of ${shown}` }, table),
    hunks.length > LINES && h("p.none", null, `${hunks.length - LINES} more lines.`));
}

function drawRow(left, right) {
  if (left === right && left?.startsWith("@@")) return h("tr.hunk", null, h("td", { colSpan: 2 }, left));
  const cell = (line, kind) => h(`td${line === undefined ? "" : line.startsWith(kind) ? (kind === "+" ? ".added" : ".removed") : ""}`, { dir: "ltr" }, line ?? "");
  return h("tr", null, cell(left, "-"), cell(right, "+"));
}

function drawLine(line) {
  const kind = line.startsWith("+") ? ".added" : line.startsWith("-") ? ".removed" : "";
  return h(line.startsWith("@@") ? "tr.hunk" : "tr", null, h(`td${kind}`, { dir: "ltr" }, line));
}

// Lines that went beside those that came.
function pairs(lines) {
  const rows = [];
  let gone = [], came = [];
  const flush = () => {
    for (let n = 0; n < Math.max(gone.length, came.length); n++) rows.push([gone[n], came[n]]);
    gone = [], came = [];
  };
  for (const line of lines) {
    if (line.startsWith("-")) gone.push(line);
    else if (line.startsWith("+")) came.push(line);
    else {
      flush();
      if (line) rows.push([line, line]);
    }
  }
  flush();
  return rows;
}
