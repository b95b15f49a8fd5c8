// Settings: what is in force, and how the parts are. Read only: they are changed where the runner is started.
import { get } from "./api.js";
import { drawAudit } from "./audit.js";
import { drawPush } from "./push.js";
import { h, span, when } from "./ui.js";

export async function show({ main, signal }) {
  const [health, oauth] = await Promise.all([get("/health?verbose=true", { signal }), get("/oauth/status", { signal })]);
  const { config = {}, ...rest } = health;
  const search = h("input", { type: "search", autocomplete: "off" });
  const rows = Object.entries(config).map(([name, setting]) => ({ name, row: settingRow(name, setting) }));
  search.addEventListener("input", () => {
    for (const { name, row } of rows) row.hidden = !name.toLowerCase().includes(search.value.trim().toLowerCase());
  });
  const push = h("section", null, h("h2", null, "Notifications"));
  const audit = h("section", null, h("h2", null, "Audit log"));
  main.append(
    h("section", null, h("h2", null, "Runner"), list({
      Version: rest.version, State: rest.status,
      ...Object.fromEntries((rest.reasons ?? []).map((reason) => [reason.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase()), rest.remedies?.[reason] ?? ""])),
      "Up for": span(rest.uptime_seconds * 1000),
      "Claude CLI": `${rest.claude?.version ?? "not found"} at ${rest.claude?.path ?? "no path"}`,
      Disk: rest.disk && `${Math.round(rest.disk.free_mb / 1024)} of ${Math.round(rest.disk.size_mb / 1024)} GB free at ${rest.disk.path}`,
      Connections: rest.http && `${rest.http.busy} of ${rest.http.workers} workers busy, ${rest.http.streams} streams, ${rest.http.refused} refused`,
      "Google Cloud": rest.cloud ? (rest.cloud.reachable ? `reachable, ${rest.cloud.running} running` : rest.cloud.error) : "not configured",
    })),
    h("section", null, h("h2", null, "Login"), list({
      Credential: { login: "a Claude login", api_key: "an API key", none: "none" }[rest.credential] ?? rest.credential,
      "Access token": oauth.configured ? (oauth.expired ? "expired" : ["good until ", new Date(oauth.expires_at).toLocaleString()]) : "there is no login",
      "Login ends": oauth.login_expires_at ? new Date(oauth.login_expires_at).toLocaleString() : null,
      Subscription: oauth.subscription_type || null,
      "Last refresh": oauth.last_refresh_at ? when(oauth.last_refresh_at) : null,
    }), h("a.button", { href: "/login" }, "Login page")),
    h("section", null, h("h2", null, "Jail"), walls(rest)),
    push,
    audit,
    h("section", null, h("h2", null, "Settings in force"), h("label", null, "Find ", search),
      h("div.scroll", { tabIndex: 0, role: "region", "aria-label": "Settings in force" }, h("table.settings", null,
        h("thead", null, h("tr", null, ["Name", "Value", "From"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", null, rows.map(({ row }) => row))))),
    h("p", null, h("a", { href: "/openapi.json" }, "OpenAPI document")));
  await Promise.all([drawPush(push, signal), drawAudit(audit, signal)]);
}

function list(facts) {
  return h("dl", null, Object.entries(facts).filter(([, value]) => value !== null && value !== undefined).map(([name, value]) =>
    h("div", null, h("dt", null, name), h("dd", { dir: "auto" }, value))));
}

// What holds tasks in, as /health tells it.
function walls({ jail, host }) {
  const facts = Object.entries(jail ?? host ?? {}).filter(([, value]) => value !== null && !(typeof value === "object" && !Object.keys(value).length));
  return list(Object.fromEntries(facts.map(([name, value]) => [name.replaceAll("_", " "), typeof value === "object" ? told(value) : String(value)])));
}

// What is there and what is not; or why, name by name.
function told(value) {
  const entries = Object.entries(value);
  if (!entries.every(([, one]) => typeof one === "boolean"))
    return entries.map(([name, one]) => `${name.replaceAll("_", " ")}: ${typeof one === "object" ? JSON.stringify(one) : one}`).join("; ");
  const names = (wanted) => entries.filter(([, one]) => one === wanted).map(([name]) => name.replaceAll("_", " ")).join(", ");
  return names(false) ? `${names(true)}; not: ${names(false)}` : names(true);
}

function settingRow(name, { value, from, secret }) {
  const text = value === null ? "" : Array.isArray(value) ? value.join(", ") : String(value);
  return h("tr", null, h("th", { scope: "row" }, name.split(/(?<=_)/).map((part) => [part, h("wbr")])), h("td", { dir: "auto" }, text || "–", secret && h("span.none", null, " (secret)")), h("td", null, from ?? "–"));
}
