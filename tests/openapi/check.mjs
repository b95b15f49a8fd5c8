// /openapi.json against the runner that serves it. Prints one line a check that fails; exit status 0 when none does.
//   node check.mjs answers RUNNER SECRET   the document itself, every operation, and what they answer;
//                                          a runner with the stand-in CLI and a credential
//   node check.mjs bodies RUNNER SECRET    what the schemas take the runner takes, and the other way round;
//                                          a runner without a credential, so that no task starts
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { bodies } from "./bodies.mjs";

const [mode, runner, secret] = process.argv.slice(2);
let checks = 0, failed = 0;

function check(name, holds, more = "") {
  checks++;
  if (holds) return;
  failed++;
  console.log(`FAIL ${name} ${typeof more === "string" ? more : JSON.stringify(more)}`.slice(0, 1000));
}

const doc = await (await fetch(`${runner}/openapi.json`)).json();
const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);
ajv.addSchema(doc, "doc");
const pointer = (...parts) => `doc#/${parts.map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/")}`;

function* operations() {
  for (const [path, item] of Object.entries(doc.paths))
    for (const [method, operation] of Object.entries(item)) yield { path, method, operation };
}

// Follows $ref, within the document.
function resolve(node) {
  while (node?.$ref) node = node.$ref.slice(2).split("/").reduce((at, part) => at[part], doc);
  return node;
}

// ---- calls, each held against what the document says of it

// `values` are the path's parameters. Returns the answer with its body as text and, where it is, as JSON.
async function call(method, path, { values = {}, query = "", headers = {}, body, until } = {}) {
  const place = path.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "no-such-thing");
  const name = `${method.toUpperCase()} ${place}${query}`;
  const operation = doc.paths[path][method];
  const form = resolve(operation.requestBody)?.content["application/x-www-form-urlencoded"];
  const answer = await fetch(runner + place + query, {
    method: method.toUpperCase(),
    redirect: "manual",
    headers: { "X-Runner-Secret": secret, ...(body === undefined ? {} : { "Content-Type": form ? "application/x-www-form-urlencoded" : "application/json" }), ...headers },
    body,
  });
  const text = await answer.text();
  const said = answer.headers.get("content-type")?.split(";")[0] ?? "";
  const documented = operation.responses[answer.status];
  check(`${name}: the document knows ${answer.status}`, documented || answer.status >= 500, text);
  const content = resolve(documented ?? operation.responses.default).content ?? {};
  check(`${name}: ${answer.status} comes as ${said || "nothing"}`, text === "" || said in content, Object.keys(content));
  let json;
  if (/[/+]json$/.test(said) && content[said]?.schema) {
    json = JSON.parse(text);
    const validate = ajv.compile(content[said].schema.$ref ? { $ref: `doc${content[said].schema.$ref}` } : content[said].schema);
    check(`${name}: the answer is as described`, validate(json), { errors: validate.errors, json });
  }
  return { status: answer.status, headers: answer.headers, text, json, content };
}

async function checkDocument() {
  const result = await new Validator().validate(structuredClone(doc));
  check("a validator accepts it", result.valid, result.errors);
  check("it is OpenAPI 3.1", /^3\.1\./.test(doc.openapi), doc.openapi);
  const ids = [...operations()].map(({ operation }) => operation.operationId);
  check("operations have names of their own", new Set(ids).size === ids.length, ids);
  for (const name of Object.keys(doc.components.schemas))
    check(`schema ${name} compiles`, Boolean(ajv.getSchema(pointer("components", "schemas", name))));
  const used = JSON.stringify(doc);
  for (const kind of ["schemas", "parameters"])
    for (const name of Object.keys(doc.components[kind]))
      check(`${kind} ${name} is used`, used.includes(`"#/components/${kind}/${name}"`));
  const secrets = Object.entries(doc.components.schemas.ExecuteRequest.properties).filter(([, field]) => field.writeOnly).map(([name]) => name);
  check("secrets are for writing only", ["sshKey", "gitToken", "anthropicApiKey", "environmentSecrets"].every((name) => secrets.includes(name)), secrets);
}

// Every operation that takes or gives a body has an example of it, and it is one.
function checkExamples() {
  for (const { method, path, operation } of operations()) {
    const good = Object.entries(operation.responses).filter(([status]) => status < 300).map(([, answer]) => answer);
    for (const part of [operation.requestBody, ...good]) {
      for (const [type, { schema, example }] of Object.entries(part?.content ?? {})) {
        if (/^(image|application\/(gzip|manifest))/.test(type) || !(schema || example)) continue;
        const name = `${method.toUpperCase()} ${path}: an example of ${type}`;
        check(`${name} is there`, example !== undefined);
        if (!/json$/.test(type) || !schema || example === undefined) continue;
        const validate = ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"doc#/')));
        check(`${name} is one`, validate(example), { errors: validate.errors, example });
      }
    }
  }
}

// What GET / lists is what the router serves.
async function checkRoutes() {
  const served = (await call("get", "/")).json.endpoints.map(({ method, path }) => `${method} ${path.replace("...}", "}")}`);
  const described = [...operations()].map(({ method, path }) => `${method.toUpperCase()} ${path}`);
  check("every route is described", served.every((one) => described.includes(one)), served.filter((one) => !described.includes(one)));
  check("every operation is served", described.every((one) => served.includes(one)), described.filter((one) => !served.includes(one)));
  for (const { method, path, operation } of operations()) {
    const answer = await call(method, path, operation.requestBody ? { body: operation.requestBody.content["application/json"] ? "{}" : "" } : {});
    const unrouted = [405, 501].includes(answer.status) || (answer.status === 404 && /^there is nothing at/.test(answer.json?.detail));
    check(`${method} ${path} is served`, !unrouted, answer.text);
  }
  for (const { method, path, operation } of operations()) {
    const open = operation.security?.length === 0;
    const headers = { "X-Runner-Secret": "not-the-secret-at-all" };
    const body = operation.requestBody ? "{}" : undefined;
    if (!open) check(`${method} ${path} asks for the secret`, (await call(method, path, { headers, body })).status === 403);
  }
}

async function checkAnswers() {
  const run = (path, fields, headers = {}) => call("post", path, { headers, body: JSON.stringify(fields) });
  const done = (await run("/execute", { prompt: "standin: ok x", metadata: { a: [1] } })).json;
  check("a task is done", done.success === true, done);
  check("a failed task is described", (await run("/execute", { prompt: "standin: exit 3" })).json.success === false);
  check("waiting is described", (await run("/execute", { prompt: "standin: ok y" }, { Prefer: "wait=0" })).status === 202);
  check("a stream is described", (await run("/run", { prompt: "standin: ok z" })).status === 200);
  const lines = await run("/run", { prompt: "standin: ok z" }, { Accept: "application/x-ndjson" });
  const event = ajv.compile({ $ref: "doc#/components/schemas/Event" });
  for (const line of lines.text.split("\n").filter(Boolean)) check("a line is an event", event(JSON.parse(line)), { line, errors: event.errors });
  const values = { id: done.taskId };
  for (const path of ["/tasks/{id}", "/tasks/{id}/result", "/tasks/{id}/events", "/tasks/{id}/outputs", "/tasks/{id}/outputs.tgz"])
    check(`${path} is there`, (await call("get", path, { values })).status === 200);
  check("the end of events is described", (await call("get", "/tasks/{id}/events", { values, headers: { "Last-Event-ID": (await lastEvent(values)) } })).status === 204);
  check("a wrong offset is described", (await call("get", "/tasks/{id}/events", { values, query: "?from=1" })).status === 416);
  check("a type that is not to be had is described", (await call("get", "/tasks/{id}/events", { values, headers: { Accept: "image/png" } })).status === 406);
  check("an ended task cannot be cancelled", (await call("post", "/tasks/{id}/cancel", { values })).status === 409);
  const held = { id: (await run("/run-async", { prompt: "standin: hang-middle" })).json.taskId };
  check("there is no result yet", (await call("get", "/tasks/{id}/result", { values: held })).status === 202);
  check("a task is cancelled", (await call("delete", "/tasks/{id}", { values: held })).status === 200);
  for (const query of ["", "?status=completed&limit=1", "?kind=claude"]) check(`a list ${query}`, (await call("get", "/tasks", { query })).status === 200);
  check("a wrong query is described", (await call("get", "/tasks", { query: "?limit=0" })).status === 400);
  check("more of health is described", "config" in (await call("get", "/health", { query: "?verbose=true" })).json);
  check("the same key for another body is described", await twice());
  const etag = (await call("get", "/openapi.json")).headers.get("etag");
  check("an ETag spares the document", (await call("get", "/openapi.json", { headers: { "If-None-Match": etag } })).status === 304);
  check("another does not", (await call("get", "/openapi.json", { headers: { "If-None-Match": '"other"' } })).status === 200);
}

async function lastEvent(values) {
  const answer = await call("get", "/tasks/{id}/events", { values, headers: { Accept: "application/x-ndjson" } });
  return String(JSON.parse(answer.text.trim().split("\n").at(-1)).id);
}

async function twice() {
  const headers = { "Idempotency-Key": "openapi-1" };
  await call("post", "/run-async", { headers, body: '{"prompt":"standin: ok 1"}' });
  return (await call("post", "/run-async", { headers, body: '{"prompt":"standin: ok 2"}' })).status === 409;
}

// ---- bodies

// Each case is put to the schema and to the runner, on both routes that take it without waiting.
async function checkBodies() {
  const ways = [["/run-async", "RunAsyncRequest", {}], ["/execute", "ExecuteRequest", { Prefer: "wait=0" }]];
  for (const [path, schema, headers] of ways) {
    const validate = ajv.getSchema(pointer("components", "schemas", schema));
    for (const [good, body, taken_all_the_same] of bodies) {
      const name = `${path} ${JSON.stringify(body).slice(0, 120)}`;
      const taken = validate(body);
      check(`${name}: the schema ${good ? "takes" : "refuses"} it`, taken === good, validate.errors ?? "");
      const sent = good && body.taskId ? { ...body, taskId: body.taskId + schema } : body; // one is had once
      const answer = await call("post", path, { headers, body: JSON.stringify(sent) });
      const wanted = good || taken_all_the_same;
      check(`${name}: the runner ${wanted ? "takes" : "refuses"} it`, answer.status === (wanted ? 202 : 400), answer.text);
    }
  }
  const validate = ajv.getSchema(pointer("components", "schemas", "RunRequest"));
  for (const [good, body] of bodies) check(`/run ${JSON.stringify(body).slice(0, 120)}`, validate(body) === good, validate.errors ?? "");
}

if (mode === "bodies") {
  await checkBodies();
} else {
  await checkDocument();
  checkExamples();
  await checkRoutes();
  await checkAnswers();
}
console.log(`${checks} checks, ${failed} failed`);
process.exit(failed || checks < 100 ? 1 : 0);
