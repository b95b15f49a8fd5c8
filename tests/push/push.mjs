// Web Push as a browser and its push service see it, with node's own cryptography: messages are decrypted, signatures
// checked. Prints one line a check; exit status 0 when all hold.
//   node push.mjs RUNNER SECRET CLI
// RUNNER's CALLBACK_ALLOW takes 127.0.0.1, CLI is its CLAUDE_BIN: the stand-in, which is taken away for a while.
import crypto from "node:crypto";
import { renameSync } from "node:fs";
import http from "node:http";

const [runner, secret, cli] = process.argv.slice(2);
const headers = { "X-Runner-Secret": secret, "Content-Type": "application/json", Origin: "https://console.example.org" };
let failed = 0;

function check(name, holds, more = "") {
  console.log(`${holds ? "ok  " : "FAIL"} ${name}${holds ? "" : ` ${typeof more === "string" ? more : JSON.stringify(more)}`}`);
  if (!holds) failed++;
}
async function until(what, ms = 20000) {
  for (const end = Date.now() + ms; ; ) {
    const value = await what();
    if (value || Date.now() > end) return value;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}
async function call(method, path, body) {
  const response = await fetch(runner + path, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) });
  return { status: response.status, body: await response.json().catch(() => null) };
}

// A push service: what comes is kept; `answers` says with which status, by path.
const service = { got: [], answers: new Map() };
service.server = http.createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  service.got.push({ path: request.url, method: request.method, headers: request.headers, body: Buffer.concat(parts) });
  const status = service.answers.get(request.url) ?? 201;
  response.writeHead(Array.isArray(status) ? status.shift() ?? 201 : status).end();
});
await new Promise((resolve) => service.server.listen(0, "127.0.0.1", resolve));
const base = `http://127.0.0.1:${service.server.address().port}`;
const at = (path) => service.got.filter((one) => one.path === path);

// What a browser makes.
function browser(path) {
  const ecdh = crypto.createECDH("prime256v1");
  ecdh.generateKeys();
  const auth = crypto.randomBytes(16);
  return { ecdh, auth, path, subscription: { endpoint: base + path, expirationTime: null, keys: { p256dh: ecdh.getPublicKey("base64url"), auth: auth.toString("base64url") } } };
}

// RFC 8291, from the other side.
function decrypt({ ecdh, auth }, body) {
  const salt = body.subarray(0, 16), size = body.readUInt32BE(16), length = body[20];
  const sender = body.subarray(21, 21 + length), sealed = body.subarray(21 + length);
  const shared = ecdh.computeSecret(sender);
  const hkdf = (secret, salt, info, n) => Buffer.from(crypto.hkdfSync("sha256", secret, salt, info, n));
  const ikm = hkdf(shared, auth, Buffer.concat([Buffer.from("WebPush: info\0"), ecdh.getPublicKey(), sender]), 32);
  const key = hkdf(ikm, salt, "Content-Encoding: aes128gcm\0", 16), nonce = hkdf(ikm, salt, "Content-Encoding: nonce\0", 12);
  const cipher = crypto.createDecipheriv("aes-128-gcm", key, nonce);
  cipher.setAuthTag(sealed.subarray(-16));
  const padded = Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]);
  if (padded.at(-1) !== 2 || body.length > size) throw new Error("the padding is wrong");
  return { sender, salt, data: JSON.parse(padded.subarray(0, -1)) };
}

// RFC 8292. The claims.
function verify(header, publicKey) {
  const [, token, key] = /^vapid t=([\w.-]+), k=([\w-]+)$/.exec(header);
  const [head, claims, signature] = token.split(".");
  const point = Buffer.from(key, "base64url");
  const jwk = { kty: "EC", crv: "P-256", x: point.subarray(1, 33).toString("base64url"), y: point.subarray(33).toString("base64url") };
  const valid = crypto.verify("sha256", Buffer.from(`${head}.${claims}`), { key: crypto.createPublicKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" }, Buffer.from(signature, "base64url"));
  return { valid: valid && key === publicKey, head: JSON.parse(Buffer.from(head, "base64url")), claims: JSON.parse(Buffer.from(claims, "base64url")) };
}

async function main() {
  const { body: { publicKey } } = await call("GET", "/push");
  check("a key is made, and stays", Buffer.from(publicKey, "base64url").length === 65 && (await call("GET", "/push")).body.publicKey === publicKey);
  const one = browser("/one");
  const made = await call("POST", "/push/subscriptions", { ...one.subscription, label: "a phone" });
  check("a browser subscribes", made.status === 201, made);
  const again = await call("POST", "/push/subscriptions", { ...one.subscription, label: "a phone", needsYou: true, done: true });
  const { body: list } = await call("GET", "/push");
  check("twice is once", again.body.id === made.body.id && list.subscriptions.length === 1 && list.subscriptions[0].label === "a phone", list);
  check("what it subscribed with is shown to nobody", !JSON.stringify(list).includes(one.subscription.keys.auth) && !JSON.stringify(list).includes("/one"), list);

  const test = await call("POST", "/push/test", { id: made.body.id });
  check("a message is sent", test.status === 202 && await until(() => at("/one").length === 1), test);
  const first = at("/one")[0], text = decrypt(one, first.body);
  check("the browser can read it", text.data.title === "Claude Runner" && text.data.tag === "test" && text.data.path === "/", text.data);
  check("what the service is told", first.method === "POST" && first.headers["content-encoding"] === "aes128gcm" && Number(first.headers.ttl) > 0 && first.headers.urgency === "high" && first.headers.topic === "test", first.headers);
  const vapid = verify(first.headers.authorization, publicKey);
  const life = vapid.claims.exp - Date.now() / 1000;
  check("and who sends it", vapid.valid && vapid.head.alg === "ES256" && vapid.claims.aud === base && life > 0 && life <= 86400 && vapid.claims.sub === "https://console.example.org", vapid);
  await call("POST", "/push/test");
  await until(() => at("/one").length === 2);
  const second = decrypt(one, at("/one")[1].body);
  check("each message has a key and a salt of its own", !second.sender.equals(text.sender) && !second.salt.equals(text.salt));

  const taskId = (await call("POST", "/execute", { prompt: "Überprüfe die Größe" })).body.taskId;
  check("an ended task is told", await until(() => at("/one").length === 3));
  const done = decrypt(one, at("/one")[2].body).data;
  check("with what it was and where it is", done.title === "Done" && done.body === "Überprüfe die Größe" && done.path === `/#/tasks/${taskId}`, done);

  const silent = browser("/silent");
  await call("POST", "/push/subscriptions", { ...silent.subscription, done: false });
  await call("POST", "/execute", { prompt: "another" });
  await call("POST", "/execute", { prompt: "a third" });
  check("several that end are told together", await until(() => at("/one").length === 4, 40000) && decrypt(one, at("/one")[3].body).data.title === "2 tasks have ended", at("/one").length);
  check("who does not want it is not told", at("/silent").length === 0);

  const ended = browser("/ended");
  await call("POST", "/push/subscriptions", { ...ended.subscription, needsYou: false });
  renameSync(cli, `${cli}.away`);
  check("who wants to be needed is told of trouble", await until(() => at("/silent").length === 1, 60000), at("/silent").length);
  renameSync(`${cli}.away`, cli);
  const needed = at("/silent")[0], what = needed && decrypt(silent, needed.body).data;
  check("with what it is and what helps", what?.title === "Claude Runner needs you" && /CLAUDE_BIN/.test(what.body) && what.path === "/" &&
    needed.headers.topic === "cli_missing" && needed.headers.urgency === "high", what);
  check("who only wants ends is not told", at("/ended").length === 0);
  await call("DELETE", `/push/subscriptions/${(await call("GET", "/push")).body.subscriptions.find((two) => two.needsYou === false).id}`);

  const gone = browser("/gone"), lost = browser("/lost");
  service.answers.set("/gone", 410);
  service.answers.set("/lost", 404);
  await call("POST", "/push/subscriptions", gone.subscription);
  await call("POST", "/push/subscriptions", lost.subscription);
  await call("POST", "/push/test");
  check("one that is gone is dropped", await until(async () => (await call("GET", "/push")).body.subscriptions.length === 2), (await call("GET", "/push")).body);

  service.answers.set("/silent", [503]);
  const before = at("/silent").length;
  const id = (await call("GET", "/push")).body.subscriptions.find((two) => two.done === false).id;
  await call("POST", "/push/test", { id });
  check("a service that is ill is asked again", await until(() => at("/silent").length >= before + 2, 60000), at("/silent").length - before);
  check("and what was wrong stands there until it works", await until(async () => (await call("GET", "/push")).body.subscriptions.find((two) => two.id === id).lastError === null));

  const bad = [
    [{ ...one.subscription, endpoint: "http://10.0.0.1/x" }, "endpoint"], [{ ...one.subscription, endpoint: "https://169.254.169.254/x" }, "endpoint"],
    [{ ...one.subscription, endpoint: "file:///etc/passwd" }, "endpoint"], [{ ...one.subscription, endpoint: `https://push.example.org/${"x".repeat(2000)}` }, "endpoint"],
    [{ ...one.subscription, keys: { ...one.subscription.keys, p256dh: "AAAA" } }, "p256dh"], [{ ...one.subscription, keys: { ...one.subscription.keys, p256dh: Buffer.alloc(65, 4).toString("base64url") } }, "p256dh"],
    [{ ...one.subscription, keys: { ...one.subscription.keys, auth: "x" } }, "auth"], [{ ...one.subscription, keys: {} }, "p256dh"], [{ endpoint: one.subscription.endpoint }, "keys"],
    [{ ...one.subscription, needsYou: false, done: false }, "needsYou"], [{ ...one.subscription, colour: 1 }, "colour"],
  ];
  for (const [body, word] of bad) {
    const answer = await call("POST", "/push/subscriptions", body);
    check(`refused, by name: ${word} ${JSON.stringify(body).slice(0, 60)}`, answer.status === 400 && JSON.stringify(answer.body).includes(word), answer);
  }
  check("a stranger is refused", (await fetch(`${runner}/push`)).status === 403 && (await fetch(`${runner}/push/subscriptions`, { method: "POST" })).status === 403);
  check("an unknown one cannot be tried", (await call("POST", "/push/test", { id: "nothing" })).status === 404);
  for (let n = 0; n < 32; n++) await call("POST", "/push/subscriptions", browser(`/many-${n}`).subscription);
  const full = await call("POST", "/push/subscriptions", browser("/too-many").subscription);
  check("there is an end to them", full.status === 409, full);
  for (const two of (await call("GET", "/push")).body.subscriptions) if (two.id !== id) await call("DELETE", `/push/subscriptions/${two.id}`);
  check("and they go", (await call("GET", "/push")).body.subscriptions.length === 1 && (await call("DELETE", "/push/subscriptions/nothing")).body.deleted === false);
}

try {
  await main();
} catch (error) {
  check("no surprise", false, String(error.stack ?? error));
}
service.server.closeAllConnections();
service.server.close();
process.exit(failed ? 1 : 0);
