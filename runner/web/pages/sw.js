// Keeps the console's files, so that it opens while the runner is away and says so. Answers of the runner are never kept.
const KEPT = "console-1";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  const page = event.request.mode === "navigate" && pathname === "/";
  const file = pathname.startsWith("/console/") && pathname !== "/console/session";
  if (event.request.method !== "GET" || origin !== location.origin || !(page || file)) return;
  event.respondWith(networkFirst(event.request));
});

async function networkFirst(request) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request, { ignoreVary: true });
    if (kept) return kept;
    throw error;
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
