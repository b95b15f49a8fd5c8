// What the worker is configured with: the variables and secrets that README.md lists, read once per isolate.

export class ConfigError extends Error {
  name = "ConfigError";

  constructor(message, code = "INTERNAL_ERROR") {
    super(message);
    this.code = code;
  }
}

const known = new WeakMap();

// The configuration of these bindings; throws a ConfigError that names what is wrong.
export function configuration(env) {
  let config = known.get(env);
  if (!config) known.set(env, config = read(env));
  return config;
}

function read(env) {
  const runners = [
    runner(env, "first", "CLAUDE_RUNNER_URL", "RUNNER_SECRET", "CF_ACCESS"),
    runner(env, "second", "SECOND_RUNNER_URL", "SECOND_RUNNER_SECRET", "SECOND_ACCESS"),
  ].filter(Boolean);
  const second = runners.find((one) => one.name === "second");
  if (second && env.SECOND_GOOGLE_KEY) second.google = json(env, "SECOND_GOOGLE_KEY");
  return {
    runners,
    gemini: runner(env, "gemini", "GEMINI_RUNNER_URL", "GEMINI_RUNNER_SECRET"),
    callers: callers(env),
    anonymousPerMinute: number(env, "ANONYMOUS_PER_MINUTE", 0, 0, 100000),
    promptPrefix: env.PROMPT_PREFIX ?? "",
    quietSeconds: number(env, "ANSWER_SECONDS", 90, 1, 95),
    healthMs: number(env, "HEALTH_SECONDS", 15, 1, 3600) * 1000,
    keeper: env.KEEPER,
    queue: env.QUEUE,
    // Seals what waits in the queue, and marks whose a task is.
    seal: env.QUEUE_KEY || env.RUNNER_SECRET || env.SECOND_RUNNER_SECRET || "",
  };
}

function runner(env, name, urlName, secretName, access) {
  if (!env[urlName]) return undefined;
  const url = env[urlName].replace(/\/+$/, "");
  if (!URL.canParse(url) || !/^https?:/.test(url)) throw new ConfigError(`${urlName} must be an http or https URL`);
  if (!env[secretName]) throw new ConfigError(`${secretName} not configured, and ${urlName} is`, "MISSING_RUNNER_SECRET");
  const id = access && env[`${access}_CLIENT_ID`], secret = access && env[`${access}_CLIENT_SECRET`];
  if (!id !== !secret) throw new ConfigError(`${access}_CLIENT_ID and ${access}_CLIENT_SECRET go together`);
  return { name, url, secret: env[secretName], access: id ? { id, secret } : undefined };
}

// CALLERS: {"name": {"token": "…", "perMinute": 60, "atOnce": 4}}
function callers(env) {
  if (!env.CALLERS) return [];
  const given = json(env, "CALLERS");
  return Object.entries(given).map(([name, one]) => {
    if (typeof one?.token !== "string" || one.token.length < 16)
      throw new ConfigError(`CALLERS: '${name}' needs a token of at least 16 characters`);
    for (const limit of ["perMinute", "atOnce"])
      if (one[limit] !== undefined && !(Number.isInteger(one[limit]) && one[limit] > 0))
        throw new ConfigError(`CALLERS: ${limit} of '${name}' must be a whole number above 0`);
    return { name, token: one.token, perMinute: one.perMinute ?? 60, atOnce: one.atOnce ?? 8 };
  });
}

function json(env, name) {
  try {
    const value = typeof env[name] === "string" ? JSON.parse(env[name]) : env[name];
    if (value && typeof value === "object" && !Array.isArray(value)) return value;
  } catch { /* said below */ }
  throw new ConfigError(`${name} must be a JSON object`);
}

function number(env, name, fallback, low, high) {
  if (env[name] === undefined || env[name] === "") return fallback;
  const value = Number(env[name]);
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new ConfigError(`${name} must be a whole number from ${low} to ${high}, got '${env[name]}'`);
}
