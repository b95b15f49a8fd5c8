// Notifications of this browser: "needs you" and "done", by Web Push.
import { get, send } from "./api.js";
import { tried } from "./sessions.js";
import { h, notice, replace, toast, when } from "./ui.js";

const supported = () => "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;

export async function drawPush(place, signal) {
  const box = h("div");
  place.append(box);
  const draw = async () => {
    const { publicKey, subscriptions } = await get("/push", { signal });
    const mine = supported() ? await (await navigator.serviceWorker.getRegistration("/"))?.pushManager.getSubscription() : null;
    const id = mine && await idOf(mine.endpoint);
    const here = subscriptions.find((one) => one.id === id);
    replace(box, own(publicKey, here, mine, draw),
      subscriptions.length > 0 && h("ul.repos", null, subscriptions.map((one) => row(one, one.id === id, draw))));
  };
  await draw();
}

function own(publicKey, here, mine, draw) {
  if (!isSecureContext) return notice("plain", "This browser takes notifications over https only.");
  if (!supported()) return notice("plain", "This browser takes no notifications. On an iPhone, add the console to the home screen first.");
  if (Notification.permission === "denied") return notice("plain", "Notifications of this site are blocked in the browser's settings.");
  const needsYou = h("input", { type: "checkbox", checked: here?.needsYou ?? true, "data-key": "needs-you" }), done = h("input", { type: "checkbox", checked: here?.done ?? true, "data-key": "done" });
  const turn = async () => {
    if (!needsYou.checked && !done.checked) return toast("Choose what it is to tell.");
    if (await tried(() => subscribe(publicKey, mine, { needsYou: needsYou.checked, done: done.checked }))) toast("This browser will be told.");
    await tried(draw);
  };
  return h("div", null, h("div.checks", null, h("label.check", null, needsYou, "What needs you"), h("label.check", null, done, "What is done")),
    h("div.row", null, h("button", { onclick: turn, "data-key": "turn-on" }, here ? "Change" : "Turn on here"),
      here && h("button", { "data-key": "try", onclick: () => tried(async () => { await send("POST", "/push/test", { id: here.id }); toast("A message is on its way."); }) }, "Try it"),
      here && h("button.quiet", { "data-key": "off", onclick: async () => { await tried(() => mine.unsubscribe()); await tried(() => send("DELETE", `/push/subscriptions/${here.id}`)); await tried(draw); } }, "Turn off here")));
}

function row(one, here, draw) {
  return h("li.repo", null, h("span.title", null, h("bdi", null, one.label || "a browser"), here && " (this one)"),
    h("span.facts", null, [h("bdi", null, one.host), h("span", null, [one.needsYou && "needs you", one.done && "done"].filter(Boolean).join(", ")),
      one.lastSentAt && h("span", null, "told ", when(one.lastSentAt)), one.lastError && h("bdi", null, one.lastError)].filter(Boolean)),
    !here && h("button.quiet", { "data-key": one.id, "aria-label": `Take away ${one.label || "a browser"}`, onclick: async () => { await tried(() => send("DELETE", `/push/subscriptions/${one.id}`)); await tried(draw); } }, "Take away"));
}

async function subscribe(publicKey, mine, wish) {
  if (await Notification.requestPermission() !== "granted") throw new Error("The browser did not allow it.");
  const registration = await navigator.serviceWorker.ready;
  const key = bytesOf(publicKey);
  if (mine && !same(mine.options?.applicationServerKey, key)) mine = void await mine.unsubscribe(); // another runner's key
  const subscription = mine ?? await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  const { endpoint, keys } = subscription.toJSON();
  return send("POST", "/push/subscriptions", { endpoint, keys, label: labelOf(navigator.userAgent), ...wish });
}

const bytesOf = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
const same = (a, b) => !a || (a.byteLength === b.length && new Uint8Array(a).every((byte, n) => byte === b[n]));

// The runner's name of a subscription: the first half of its address' digest.
async function idOf(endpoint) {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(endpoint)));
  return [...bytes.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function labelOf(agent) {
  const system = /iPhone|iPad|Android|Windows|Mac OS|Linux/.exec(agent)?.[0] ?? "a device";
  const browser = /Firefox|Edg|Chrome|Safari/.exec(agent)?.[0]?.replace("Edg", "Edge") ?? "a browser";
  return `${browser} on ${system}`;
}
