// Callers: whose secrets there are, when they were last used, from where, and for what.
import { every, get } from "./api.js";
import { count, h, number, replace, when } from "./ui.js";

export async function show({ main, signal }) {
  const place = h("div");
  main.append(h("p.lead", null, "Each name stands for a secret of RUNNER_SECRET. A request may also be a browser's that signed in with it."), place);
  let before = "";
  await every(5000, signal, async () => {
    const [{ callers }, health] = await Promise.all([get("/callers", { signal }), get("/health?verbose=true", { signal })]);
    const limits = limitsOf(health.config ?? {});
    const print = JSON.stringify([callers.map(({ lastUsedAt, requests, ...rest }) => [rest, lastUsedAt?.slice(0, 16)]), limits]);
    if (print === before) return;
    before = print;
    replace(place, h("ul.repos", null, callers.map(row)),
      h("section", null, h("h2", null, "Limits"), h("p.help", null, "They hold for all callers together."), h("dl", null, limits.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))))));
  });
}

function row(one) {
  const sum = Object.values(one.tasks).reduce((all, n) => all + n, 0);
  const states = Object.entries(one.tasks).map(([state, n]) => h("span", null, `${number(n)} ${state.replaceAll("_", " ")}`));
  return h("li.repo", null,
    h("span.title", null, h("bdi", null, one.name), !one.configured && " (taken away)"),
    h("span.facts", null,
      h("span", null, one.lastUsedAt ? ["used ", when(one.lastUsedAt)] : "never used"),
      one.lastAddress && h("span", null, "from ", h("bdi", null, one.lastAddress)),
      h("span", null, count(one.requests, "request"))),
    Object.keys(one.limits ?? {}).length > 0 && h("span.facts", null, limitTexts(one.limits).map((text) => h("span", null, text))),
    h("span.facts", null, sum ? states : h("span", null, "no tasks")));
}

// A caller's own limits (CALLER_LIMITS).
function limitTexts({ tasks, perMinute, usdPerDay, kinds, egress, push }) {
  return [tasks && `at most ${number(tasks)} tasks at once`, perMinute && `${number(perMinute)} a minute`, usdPerDay && `$${usdPerDay} in 24 hours`,
    kinds && `only ${kinds.replaceAll("|", ", ")}`, egress === "none" && "no network", push === false && "no push"].filter(Boolean);
}

// What a caller can have at most, of the settings in force.
function limitsOf(config) {
  const value = (name) => config[name]?.value;
  return [["Tasks at once", value("MAX_CONCURRENT_TASKS")], ["Tasks that wait", value("QUEUE_MAX")],
    ["A task's time", value("TASK_TIMEOUT_MINUTES") && `${value("TASK_TIMEOUT_MINUTES")} minutes, unless it asks for another`],
    ["Wrong secrets from an address in a minute", value("AUTH_FAILURES_MAX")]]
    .filter(([, one]) => one !== undefined && one !== null).map(([name, one]) => [name, String(one)]);
}
