// Repositories: the mirrors that are kept, and dropping them.
import { every, get, send } from "./api.js";
import { confirm, count, h, replace, size, toast, when } from "./ui.js";

export async function show({ main, signal }) {
  const place = h("div");
  main.append(place);
  let before = "";
  const draw = async () => {
    const answer = await get("/repos", { signal });
    const mirrors = answer.mirrors;
    const print = JSON.stringify(mirrors);
    if (print === before) return;
    before = print;
    const bytes = mirrors.reduce((sum, one) => sum + (one.sizeBytes ?? 0), 0);
    replace(place, h("p.lead", null, mirrors.length ? `${count(mirrors.length, "repository", "repositories")}, ${size(bytes)}.` : "No repository is kept. The first task that names one fetches it."),
      mirrors.length > 0 && h("ul.repos", null, mirrors.map((one) => row(one, drop))),
      mirrors.length > 1 && h("button.danger", { "data-key": "all", onclick: () => drop("/repos", "Drop all that no task works on? The next task fetches them again.") }, "Drop all"));
  };
  async function drop(path, question) {
    if (!await confirm(question, "Drop")) return;
    try {
      await send("DELETE", path);
      toast("Dropped.");
    } catch (error) {
      toast(error.message);
    }
    await draw();
  }
  await every(5000, signal, draw);
}

function row(one, drop) {
  return h("li.repo", null,
    h("span.title", { dir: "auto" }, one.url),
    h("span.facts", null, [
      h("span", null, size(one.sizeBytes ?? 0)),
      one.defaultBranch && h("bdi", null, one.defaultBranch),
      one.lastFetchedAt && h("span", null, "fetched ", when(one.lastFetchedAt)),
      one.lastUsedAt && h("span", null, "used ", when(one.lastUsedAt)),
      one.inUse ? h("span", null, `${count(one.inUse, "task")} in it`) : null,
    ].filter(Boolean)),
    h("button.quiet", { "data-key": one.id, disabled: Boolean(one.inUse), "aria-label": `Drop ${one.url}`,
      onclick: () => drop(`/repos/${encodeURIComponent(one.id)}`, `Drop ${one.url}? The next task fetches it again.`) }, "Drop"));
}
