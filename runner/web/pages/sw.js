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
