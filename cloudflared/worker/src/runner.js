// Calls to a runner, and what their answers mean.
import { identityToken } from "./google.js";

// fetch() of a path of the runner's, with all that it asks for. The signal of `more` is the caller's.
export async function callRunner(call, runner, path, more = {}) {
  const { timeoutMs, signal, headers, ...init } = more;
  const all = {
    "X-Runner-Secret": runner.secret,
    "X-Request-ID": call.id,
    ...(runner.access && { "CF-Access-Client-Id": runner.access.id, "CF-Access-Client-Secret": runner.access.secret }),
    // Cloud Run takes the token here too, and leaves Authorization alone.
    ...(runner.google && { "X-Serverless-Authorization": `Bearer ${await identityToken(runner)}` }),
    ...headers,
  };
  const signals = [signal, timeoutMs && AbortSignal.timeout(timeoutMs)].filter(Boolean);
  return fetch(runner.url + path, { ...init, headers: all, redirect: "manual", ...(signals.length && { signal: AbortSignal.any(signals) }) });
}

// Why a status means that the runner was not reached or did not take the request.
export function reason(status) {
  if (status >= 300 && status < 400) return "Cloudflare Access asks for a login: the service token is missing or wrong";
  if (status === 403) return "it refused the worker's secret, or Access its service token";
  if (status === 401) return "it has no usable login";
  if (status === 429) return "it is full, or its account is at a limit";
  if (status === 503) return "it is shutting down or full";
  if (status === 507) return "its disk is nearly full";
  if (status === 530) return "its tunnel is down";
  return `it answered ${status}`;
}

// What became of a request that makes a task:
//   taken     the runner has it
//   refused   it has not, and another may
//   final     the request is wrong: nobody will take it
//   unknown   the answer was lost; the runner has to be asked
export function verdictOf(status) {
  if (status === 200 || status === 202) return "taken";
  if (status >= 300 && status < 400) return "refused";
  if ([401, 403, 429, 503, 507, 530, 521, 523].includes(status)) return "refused";
  return status < 500 ? "final" : "unknown";
}

// Whether a failure says that the runner is ill, and not only busy.
export function isIllness(status) {
  return status !== 401 && status !== 429 && status !== 507;
}

export async function jsonOf(response) {
  try {
    return JSON.parse(await response.text());
  } catch {
    return undefined;
  }
}
