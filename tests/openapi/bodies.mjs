// Bodies of requests that run Claude: whether they are taken, and the body.
const p = { prompt: "say hello" };
const uuid = "123e4567-e89b-12d3-a456-426614174000";
const key = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n";
const git = (git) => ({ ...p, postExecutionActions: { git } });

// For one field: values that are taken, and values that are not.
const fields = {
  prompt: [["x", " x\n", "ü"], ["", " \n\t", "\u00a0\u3000\u200b", 7, [], {}]],
  repoUrl: [["owner/name", "https://github.com/o/r", "git@github.com:o/r.git", "ssh://git@example.com/o/r", null], ["", "owner", "-x/y", "a b/c", 5]],
  gitRepo: [["owner/name"], ["no slash"]],
  repo_url: [["owner/name"], [true]],
  gitBranch: [["main", "feature/x", "v1.0", "ü", null], ["", "-x", "/x", ".x", "x/", "x.", "a..b", "a//b", "a/.b", "a@{b", "@", "x.lock", "a.lock/b", "a b", "a~b", "a:b", "a\\b", "a[b", 1]],
  gitDepth: [[1, 1000000, 1.0, null], [0, 1000001, 1.5, "1"]],
  sshKey: [[key, null], ["", "ssh-ed25519 AAAA", "-----BEGIN X-----"]],
  gitToken: [["t", "ghp_abc", null], ["", "a b", "ü", "a\n"]],
  staleOk: [[true, false, null], ["true", 1]],
  cwdRelative: [["a", "a/b", "a b/c.d", "..a", "a/...", null], ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\nb"]],
  working_dir: [["a"], ["../a"]],
  systemPrompt: [["", " ", "x", null], [1, []]],
  appendSystemPrompt: [["", "x"], [{}]],
  allowedTools: [[[], ["Read", "Bash(git *)"], "Read,Edit", "", null], [[1], [" "], {}, ["x".repeat(8193)], "x".repeat(8193), Array(257).fill("x")]],
  allowed_tools: [[["Read"]], [[""]]],
  disallowedTools: [[["Edit"], "Edit"], [[null]]],
  permissionMode: [["plan", "acceptEdits", null], ["Plan", "", 1]],
  maxTurns: [[1, 10000, null], [0, 10001, "6", 1.5]],
  max_turns: [[6], [-1]],
  model: [["opus", null], ["", " ", "x".repeat(257), 7]],
  fallbackModel: [["a,b"], [""]],
  maxBudgetUsd: [[0.000001, 0.5, 1000000, null], [0, -1, 1000001, "1"]],
  jsonSchema: [[{ type: "object" }, '{"type":"object"}', null], [3, [], true]],
  effort: [["low", "max", null], ["huge", 3]],
  includePartialMessages: [[true, null], ["yes"]],
  mcpConfig: [[{}, { mcpServers: {} }, null], ["{}", []]],
  slashCommands: [[{}, { review: "do it", "b.md": "x" }, null], [{ "../x": "y" }, { "a/b.md": "x" }, { a: 1 }, { "/a": "x" }, []]],
  subagents: [[{ a: { description: "x" } }, null], ["x"]],
  useNamedPipe: [[true, false], [0]],
  timeoutMinutes: [[1, 10080, null], [0, 10081, 1.5, "5"]],
  timeout_ms: [[1, 604800000], [0, 604800001, 1e300]],
  environmentSecrets: [[{}, { A_1: "x", _b: "" }, null], [{ "A-B": "x" }, { "1A": "x" }, { A: 1 }, []]],
  preExecutionCommands: [[[], ["true"], null], ["true", [""], [7], Array(101).fill("x")]],
  postCommands: [[[], ["true"], null], ["true", [""], [7], Array(101).fill("x")]],
  anthropicApiKey: [["12345678", null], ["short", "with space 123", "ünicode-key-1"]],
  anthropicOAuthToken: [["12345678"], ["1234567"]],
  executor: [["auto", "local", null], ["gpu", 0]], // "cloud" takes a runner that has one
  priority: [[0, 9, null], [-1, 10, "5"]],
  metadata: [[null, 1, "x", [], { a: { b: [1] } }, false], []],
  detach: [[true, false, null], ["yes", 1]],
  retryInterrupted: [[true], ["no"]],
  postExecutionActions: [[{}, { git: {} }, { uploadFiles: {} }, null], [[], "x", { unknown: 1 }, { git: 1 }]],
  limits: [[{}, null], [7, { memoryMB: 5 }]],
};

// Two of a kind, of which one may be given; a null counts as none.
const pairs = [
  ["repoUrl", "gitRepo", "o/r"], ["gitRepo", "repo_url", "o/r"], ["maxTurns", "max_turns", 3], ["cwdRelative", "working_dir", "a"],
  ["allowedTools", "allowed_tools", []], ["timeoutMinutes", "timeout_ms", 5], ["anthropicApiKey", "anthropicOAuthToken", "12345678"],
];

export const bodies = [
  [true, p],
  [false, {}],
  [false, { prompt: null }],
  [false, []],
  [false, "x"],
  [false, { ...p, promt: "x" }],
  [false, { ...p, system_prompt: "x" }],
  [false, { ...p, "limits.cpu": 1 }],
  [false, { ...p, command: "ls" }],
  [true, { ...p, taskId: "openapi-1.~_" }],
  [false, { ...p, taskId: "-x" }],
  [false, { ...p, taskId: ".x" }],
  [false, { ...p, taskId: "a/b" }],
  [false, { ...p, taskId: "status" }],
  [false, { ...p, taskId: "x".repeat(65) }],
  [true, { ...p, taskId: null }],
  [true, git({ commit: true, commitMessage: "m", push: true, branch: "b", files: ["a"], conflictStrategy: "fail" })],
  [true, git({ conflictStrategy: null })],
  [false, git({ conflictStrategy: "x" })],
  [false, git({ commit: 1 })],
  [false, git({ commitMessage: " " })],
  [false, git({ branch: "-b" })],
  [false, git({ what: 1 })],
  [true, { ...p, postExecutionActions: { uploadFiles: { globPatterns: ["**/*.html"] } } }],
  [false, { ...p, postExecutionActions: { uploadFiles: { globPatterns: "x" } } }],
  [true, { ...p, metadata: uuid }],
  ...Object.entries(fields).flatMap(([name, [good, bad]]) => [
    ...good.map((value) => [true, { ...p, [name]: value }]),
    ...bad.map((value) => [false, { ...p, [name]: value }]),
  ]),
  ...pairs.flatMap(([first, second, value]) => [
    [false, { ...p, [first]: value, [second]: value }],
    [true, { ...p, [first]: value, [second]: null }],
    [true, { ...p, [first]: null, [second]: value }],
  ]),
];
