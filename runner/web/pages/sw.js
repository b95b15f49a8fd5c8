// Keeps the console's files, so that it opens at once, and also while the runner is away. Answers of the runner are never kept.
// A file whose address has a version never changes, so the kept one is taken. The page, which names the version, comes from the
// runner as long as that answers: a new runner's console is there when the page is loaded the next time.
const KEPT = "console-2";
const VERSION = /^\/console\/[0-9a-f]{16}\//;
const PATIENCE_MS = 5000; // how long a page is waited for that is also kept

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil((async () => {
  for (const name of await caches.keys()) if (name !== KEPT) await caches.delete(name);
  await self.clients.claim();
})()));
self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  const page = event.request.mode === "navigate" && pathname === "/";
  const file = pathname.startsWith("/console/") && pathname !== "/console/session";
  if (event.request.method !== "GET" || origin !== location.origin || !(page || file)) return;
  event.respondWith(VERSION.test(pathname) ? keptFirst(event.request) : runnerFirst(event, page));
});

const find = (cache, request) => cache.match(request, { ignoreVary: true });
const keep = (cache, request, response) => cache.put(request, response.clone()).catch(() => {}); // a full disk keeps nothing

async function keptFirst(request) {
  const cache = await caches.open(KEPT);
  const kept = await find(cache, request);
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) await keep(cache, request, response);
  return response;
}

// A tunnel answers 5xx for a runner that is away.
async function runnerFirst(event, page) {
  const cache = await caches.open(KEPT);
  const kept = await find(cache, event.request);
  const asked = fetch(event.request).then(async (response) => {
    if (!response.ok) return response.status >= 500 && kept ? kept : response;
    await keep(cache, event.request, response);
    if (page) await dropOthers(cache, await response.clone().text());
    return response;
  }, (error) => kept ?? Promise.reject(error));
  if (!kept) return asked;
  event.waitUntil(asked);
  return Promise.race([asked, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS, kept.clone()))]);
}

// Drops the files of versions that the page does not name.
async function dropOthers(cache, text) {
  for (const request of await cache.keys()) {
    const version = VERSION.exec(new URL(request.url).pathname)?.[0];
    if (version && !text.includes(version)) await cache.delete(request);
  }
}

// What the runner tells by Web Push. A browser shows each message, or it takes the permission back.
self.addEventListener("push", (event) => {
  let said = {};
  try {
    said = event.data?.json() ?? {};
  } catch { /* shown without its words */ }
  event.waitUntil(self.registration.showNotification(String(said.title ?? "Claude Runner"), {
    body: String(said.body ?? ""), tag: String(said.tag ?? "runner"), renotify: true, icon: "/console/icon.svg", data: { path: String(said.path ?? "/") },
  }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const path = event.notification.data?.path ?? "/";
  const url = new URL(path.startsWith("/") ? path : "/", location.origin).href;
  event.waitUntil((async () => {
    const [open] = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
    if (!open) return self.clients.openWindow(url);
    await open.focus();
    open.postMessage({ go: url });
  })());
});

// The browser has given the subscription another address: the runner is told, with the session that is there.
self.addEventListener("pushsubscriptionchange", (event) => {
  event.waitUntil((async () => {
    const options = event.oldSubscription?.options;
    const fresh = event.newSubscription ?? (options && await self.registration.pushManager.subscribe(options));
    const { csrf } = await (await fetch("/console/session")).json();
    if (!fresh || !csrf) return;
    const { endpoint, keys } = fresh.toJSON();
    await fetch("/push/subscriptions", { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf }, body: JSON.stringify({ endpoint, keys, label: "a browser" }) });
  })());
});
