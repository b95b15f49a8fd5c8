// The identity token that a private Cloud Run service asks for, made from a service account's key.

const cache = new Map(); // runner's URL -> {token, until}

export async function identityToken(runner) {
  const known = cache.get(runner.url);
  if (known && Date.now() < known.until) return known.token;
  const now = Math.floor(Date.now() / 1000);
  const key = runner.google;
  const assertion = await sign(key, {
    iss: key.client_email, sub: key.client_email, aud: key.token_uri, iat: now, exp: now + 3600, target_audience: runner.url,
  });
  const response = await fetch(key.token_uri, {
    method: "POST",
    body: new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion }),
    signal: AbortSignal.timeout(5000),
  });
  const token = response.ok ? (await response.json()).id_token : undefined;
  if (!token) throw new Error(`Google gave no identity token (${response.status})`);
  cache.set(runner.url, { token, until: Date.now() + 50 * 60000 });
  return token;
}

async function sign(key, claims) {
  const encode = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const text = (value) => encode(new TextEncoder().encode(JSON.stringify(value)));
  const unsigned = `${text({ alg: "RS256", typ: "JWT", kid: key.private_key_id })}.${text(claims)}`;
  const der = Uint8Array.from(atob(key.private_key.replace(/-----[^-]+-----|\s/g, "")), (c) => c.charCodeAt(0));
  const rsa = await crypto.subtle.importKey("pkcs8", der, { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }, false, ["sign"]);
  const signature = await crypto.subtle.sign(rsa.algorithm.name, rsa, new TextEncoder().encode(unsigned));
  return `${unsigned}.${encode(new Uint8Array(signature))}`;
}
