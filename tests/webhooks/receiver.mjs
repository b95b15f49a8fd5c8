// A receiver of webhooks: receiver.mjs SECRET LOG [CERT KEY]
// Checks both signatures, the standard one with the Standard Webhooks library, and appends a line of JSON to LOG for
// each request. Answers 200 when both are right, else 401. With CERT and KEY it speaks TLS.
import { createHmac, timingSafeEqual } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { Webhook } from "standardwebhooks";

const [secret, log, cert, key] = process.argv.slice(2);
const webhook = new Webhook(secret, secret.startsWith("whsec_") ? {} : { format: "raw" });

function standard(body, headers) {
  try {
    webhook.verify(body, headers);
    return "ok";
  } catch (error) {
    return error.message;
  }
}

function plain(body, headers) {
  const signed = `${headers["x-webhook-timestamp"]}.`;
  const want = Buffer.from("sha256=" + createHmac("sha256", secret).update(signed).update(body).digest("hex"));
  const got = Buffer.from(headers["x-webhook-signature"] ?? "");
  return got.length === want.length && timingSafeEqual(got, want) ? "ok" : "wrong";
}

async function take(request, response) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  const seen = {
    method: request.method,
    url: request.url,
    headers: request.headers,
    standard: standard(body, request.headers),
    plain: plain(body, request.headers),
    body: JSON.parse(body.toString()),
  };
  appendFileSync(log, JSON.stringify(seen) + "\n");
  response.writeHead(seen.standard === "ok" && seen.plain === "ok" ? 200 : 401).end();
}

const server = cert ? https.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, take) : http.createServer(take);
server.listen(0, "127.0.0.1", () => {
  appendFileSync(log + ".port", String(server.address().port) + "\n");
});
