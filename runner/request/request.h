/*
 * What a caller asks for: one table of request fields, and the typed request that came of them.
 *
 * REQUEST_FIELDS is the only list. The struct's members, the decoder and its messages, what is kept
 * in the database, the CLI's arguments and the documentation come from it. A field of a nested
 * object has its path as name ("limits.cpu"); its object is a GROUP row.
 *
 * Threads: no shared state; a request that nobody changes may be read from any thread.
 * Ownership: a request is freed by task_request_free(), which wipes its secrets.
 */
#ifndef REQUEST_SPEC_H
#define REQUEST_SPEC_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/redact.h"
#include "base/strlist.h"
#include "runner/request/executor.h"

#include <stdbool.h>
#include <stddef.h>

#define REQUEST_PROMPT_MAX (1 << 20)
#define REQUEST_RUNS_MAX 100      /* of one request */
#define REQUEST_VALUES_MAX 100000 /* JSON values of one request: bounds the memory of its tree */
#define REQUEST_ARG_MAX 102400    /* limit of one argument of exec: the kernel's limit is 128 KiB */
#define REQUEST_TIMEOUT_MAX_MS (7 * 24 * 3600 * 1000)

/* The type of each kind of field in struct task_request. When a field was not given and has no
 * default, text is NULL, a number 0 and a list empty; ENUM is the index of its choice. */
#define REQUEST_C_TEXT char *
#define REQUEST_C_TOKEN char * /* printable ASCII without spaces: fits a header and a variable */
#define REQUEST_C_ID char *
#define REQUEST_C_UUID char *
#define REQUEST_C_URL char *
#define REQUEST_C_REPO char *
#define REQUEST_C_REF char *
#define REQUEST_C_PATH char * /* relative, stays inside */
#define REQUEST_C_TIME char * /* RFC 3339 */
#define REQUEST_C_SSH_KEY char *
#define REQUEST_C_CHOICE char *
#define REQUEST_C_ENUM int
#define REQUEST_C_INT int
#define REQUEST_C_NUMBER double
#define REQUEST_C_BOOL bool
#define REQUEST_C_LIST struct strlist    /* array of strings, or one comma separated */
#define REQUEST_C_LINES struct strlist   /* array of strings */
#define REQUEST_C_DOMAINS struct strlist /* "open", "none", or domain names */
/* These are kept as JSON text. */
#define REQUEST_C_SCHEMA char * /* object, or a string with one in it */

#define REQUEST_C_CONFIG char * /* object, or a string with one in it; an empty one is none */
#define REQUEST_C_COMMANDS                                                                       \
    char *                       /* object of texts, or of {frontmatter, content}: kept as texts \
                                  */
#define REQUEST_C_AGENTS char *  /* the same, kept as the CLI's --agents has them */
#define REQUEST_C_STRINGS char * /* object of strings */
#define REQUEST_C_ENV char *     /* object of strings named as variables */
#define REQUEST_C_INPUTS char *  /* object of "sha256:<hex>" */
#define REQUEST_C_PUSH char *    /* true, or {branches, force}; false is none */
#define REQUEST_C_JSON char *    /* anything, byte for byte */
#define REQUEST_C_GROUP bool     /* an object of further rows; true when it was given */

#define REQUEST_VARIABLES_MAX 1000 /* of an environment */
#define REQUEST_INPUTS_MAX 100

enum request_flag {
    REQUEST_CLAUDE = 1, /* requests that have the field */
    REQUEST_COMMAND = 2,
    REQUEST_PYTHON = 4,
    REQUEST_TASK = REQUEST_CLAUDE | REQUEST_COMMAND | REQUEST_PYTHON,
    REQUEST_SECRET = 16, /* left out by task_request_save() */
    REQUEST_LATER = 32,  /* checked, then answered with `not_supported_yet` */
    REQUEST_ZERO = 64,   /* 0 counts as not given */
};

/* Columns: kind, member, name, aliases ("a|b") or NULL, accepted values, default as documented or
 * NULL, flags, the CLI's flag or NULL, help. REQUEST_RANGE limits the value of a number, the bytes
 * of a text, or the items of a list. */
#define REQUEST_RANGE(low, high) .min = (low), .max = (high)
#define REQUEST_ONE_OF(list) .choices = (list)
#define REQUEST_ANY .choices = NULL

/* clang-format off */
#define REQUEST_FIELDS(X) \
    X(TEXT, prompt, "prompt", NULL, REQUEST_RANGE(1, REQUEST_PROMPT_MAX), NULL, REQUEST_CLAUDE, NULL, \
      "what Claude is to do; travels by stdin") \
    X(REPO, repo_url, "repoUrl", "gitRepo|repo_url", REQUEST_RANGE(1, 2048), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "repository to work in: https, ssh, scp form, or owner/name for GitHub") \
    X(REF, git_branch, "gitBranch", NULL, REQUEST_RANGE(1, 255), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, "branch to check out") \
    X(REF, git_ref, "gitRef", NULL, REQUEST_RANGE(1, 255), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, "tag, commit or other ref to check out") \
    X(INT, git_depth, "gitDepth", NULL, REQUEST_RANGE(1, 1000000), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "commits of history that would do: all that a cloud task gets; a cached repository has them all") \
    X(SSH_KEY, ssh_key, "sshKey", NULL, REQUEST_RANGE(1, 65536), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND | REQUEST_SECRET, NULL, "private key for git over ssh") \
    X(TOKEN, git_token, "gitToken", NULL, REQUEST_RANGE(1, 4096), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND | REQUEST_SECRET, NULL, "token for git over https") \
    X(PUSH, git_push, "gitPush", "git_push", REQUEST_RANGE(0, 100), "false", \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "what git in the task may push to `origin`: true, or {branches, force}; without it, it fetches only") \
    X(BOOL, stale_ok, "staleOk", NULL, REQUEST_ANY, "false", REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "when the repository's remote cannot be reached, what is here will do") \
    X(PATH, cwd_relative, "cwdRelative", "working_dir", REQUEST_RANGE(1, 1024), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, "directory inside the workspace to start in") \
    X(TEXT, system_prompt, "systemPrompt", NULL, REQUEST_RANGE(0, REQUEST_ARG_MAX), \
      "SYSTEM_PROMPT_FILE", REQUEST_CLAUDE, "--system-prompt", "replaces the CLI's system prompt") \
    X(TEXT, append_system_prompt, "appendSystemPrompt", NULL, REQUEST_RANGE(0, REQUEST_ARG_MAX), NULL, \
      REQUEST_CLAUDE, "--append-system-prompt", "is added to the system prompt") \
    X(LIST, allowed_tools, "allowedTools", "allowed_tools", REQUEST_RANGE(0, 256), "ALLOWED_TOOLS", \
      REQUEST_CLAUDE, "--allowedTools", "tools that Claude may use without asking") \
    X(LIST, disallowed_tools, "disallowedTools", NULL, REQUEST_RANGE(0, 256), NULL, REQUEST_CLAUDE, \
      "--disallowedTools", "tools that Claude may not use") \
    X(CHOICE, permission_mode, "permissionMode", NULL, \
      REQUEST_ONE_OF("acceptEdits|auto|bypassPermissions|default|dontAsk|manual|plan"), "PERMISSION_MODE", \
      REQUEST_CLAUDE, "--permission-mode", "what Claude may do without asking") \
    X(INT, max_turns, "maxTurns", "max_turns", REQUEST_RANGE(1, 10000), NULL, REQUEST_ZERO | REQUEST_CLAUDE, \
      "--max-turns", "ends the run after so many turns") \
    X(TEXT, model, "model", NULL, REQUEST_RANGE(1, 256), "DEFAULT_MODEL", REQUEST_CLAUDE, "--model", \
      "alias or full name of the model") \
    X(TEXT, fallback_model, "fallbackModel", NULL, REQUEST_RANGE(1, 1024), NULL, REQUEST_CLAUDE, \
      "--fallback-model", "model(s) to use when that one is overloaded, comma separated") \
    X(NUMBER, max_budget_usd, "maxBudgetUsd", NULL, REQUEST_RANGE(0.000001, 1000000), NULL, \
      REQUEST_CLAUDE, "--max-budget-usd", "ends the run when it has cost so much") \
    X(SCHEMA, json_schema, "jsonSchema", NULL, REQUEST_RANGE(2, REQUEST_ARG_MAX), NULL, REQUEST_CLAUDE, \
      "--json-schema", "JSON Schema (object, or a string with one) of the answer's `structured_output`") \
    X(CHOICE, effort, "effort", NULL, REQUEST_ONE_OF("low|medium|high|xhigh|max"), NULL, \
      REQUEST_CLAUDE, "--effort", "how hard the model thinks") \
    X(UUID, resume_session_id, "resumeSessionId", NULL, REQUEST_ANY, NULL, \
      REQUEST_CLAUDE, NULL, "session to go on with: the `sessionId` of an earlier answer") \
    X(BOOL, include_partial_messages, "includePartialMessages", NULL, REQUEST_ANY, "false", \
      REQUEST_CLAUDE, "--include-partial-messages", "events for parts of messages as they come") \
    X(CONFIG, mcp_config, "mcpConfig", "mcpConfigJson", REQUEST_RANGE(2, REQUEST_ARG_MAX), NULL, \
      REQUEST_CLAUDE | REQUEST_SECRET, NULL, "MCP servers") \
    X(COMMANDS, slash_commands, "slashCommands", NULL, REQUEST_RANGE(2, REQUEST_PROMPT_MAX), NULL, \
      REQUEST_CLAUDE, NULL, "slash commands by name: a text, or {frontmatter, content}") \
    X(AGENTS, subagents, "subagents", NULL, REQUEST_RANGE(2, REQUEST_ARG_MAX), NULL, \
      REQUEST_CLAUDE, "--agents", \
      "subagents by name: a text, {frontmatter, content}, or as the CLI has them") \
    X(BOOL, project_settings, "projectSettings", NULL, REQUEST_ANY, "false", REQUEST_CLAUDE, NULL, \
      "whether what the repository brings along counts: `CLAUDE.md`, `.claude/` with its hooks, " \
      "`.mcp.json`") \
    X(BOOL, use_named_pipe, "useNamedPipe", NULL, REQUEST_ANY, "false", REQUEST_CLAUDE, NULL, \
      "accepted for old clients; prompts always travel by stdin") \
    X(INT, timeout_minutes, "timeoutMinutes", NULL, REQUEST_RANGE(1, 10080), "TASK_TIMEOUT_MINUTES", \
      REQUEST_ZERO | REQUEST_CLAUDE | REQUEST_COMMAND, NULL, "time limit (or timeout_ms)") \
    X(INT, timeout_ms, "timeout_ms", NULL, REQUEST_RANGE(1, REQUEST_TIMEOUT_MAX_MS), NULL, \
      REQUEST_ZERO | REQUEST_CLAUDE | REQUEST_COMMAND, NULL, "time limit (or timeoutMinutes)") \
    X(ENV, environment_secrets, "environmentSecrets", NULL, REQUEST_RANGE(2, REQUEST_PROMPT_MAX), NULL, \
      REQUEST_CLAUDE | REQUEST_SECRET, NULL, \
      "environment for Claude and a .env file kept out of git") \
    X(LINES, pre_execution_commands, "preExecutionCommands", NULL, REQUEST_RANGE(0, 100), NULL, \
      REQUEST_CLAUDE, NULL, "shell commands to run in the workspace before") \
    X(LINES, post_commands, "postCommands", NULL, REQUEST_RANGE(0, 100), NULL, \
      REQUEST_CLAUDE, NULL, "shell commands to run in the workspace after Claude, whatever came of it") \
    X(INPUTS, inputs, "inputs", NULL, REQUEST_RANGE(2, 65536), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "uploaded inputs by name, at most 100: {\"data\":\"sha256:…\"} becomes input/data in the workspace") \
    X(ID, in_session, "inSession", NULL, REQUEST_RANGE(1, 64), NULL, REQUEST_CLAUDE, NULL, \
      "session (of /sessions) whose files the task works with, instead of a workspace of its own") \
    X(CHOICE, permission_prompts, "permissionPrompts", NULL, REQUEST_ONE_OF("deny|ask"), NULL, \
      REQUEST_CLAUDE | REQUEST_LATER, NULL, "whether somebody is asked what no rule allows") \
    X(TOKEN, anthropic_api_key, "anthropicApiKey", NULL, REQUEST_RANGE(8, 4096), NULL, \
      REQUEST_CLAUDE | REQUEST_SECRET, NULL, "this request's own API key") \
    X(TOKEN, anthropic_oauth_token, "anthropicOAuthToken", NULL, REQUEST_RANGE(8, 4096), NULL, \
      REQUEST_CLAUDE | REQUEST_SECRET, NULL, "this request's own OAuth token") \
    X(DOMAINS, egress, "egress", NULL, REQUEST_RANGE(0, 256), "EGRESS", \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "network: open, none, or a list of names: `host`, `*.host`, `host:port`") \
    X(ENUM, executor, "executor", NULL, REQUEST_ONE_OF("auto|local|cloud"), "auto", REQUEST_TASK, NULL, \
      "where it runs: here, in the cloud, or as OVERFLOW says") \
    X(TEXT, image, "image", NULL, REQUEST_RANGE(1, 512), NULL, REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "container image that it runs in: in the cloud only, with `limits` as its size") \
    X(TIME, not_before, "notBefore", NULL, REQUEST_RANGE(1, 64), NULL, \
      REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "when it may start at the earliest, as RFC 3339 (`2026-01-02T03:04:05Z`); it is `pending` until " \
      "then") \
    X(INT, priority, "priority", NULL, REQUEST_RANGE(0, 9), "5", REQUEST_TASK, NULL, \
      "9 is taken from the queue first") \
    X(GROUP, limits, "limits", NULL, REQUEST_ANY, NULL, REQUEST_TASK, NULL, \
      "resource limits") \
    X(NUMBER, limits_cpu, "limits.cpu", NULL, REQUEST_RANGE(0.01, 1024), "TASK_LIMITS", \
      REQUEST_TASK, NULL, "cores") \
    X(INT, limits_memory_mb, "limits.memoryMb", NULL, REQUEST_RANGE(16, 10000000), "TASK_LIMITS", \
      REQUEST_TASK, NULL, "memory of all its processes together") \
    X(INT, limits_pids, "limits.pids", NULL, REQUEST_RANGE(1, 1000000), "TASK_LIMITS", \
      REQUEST_TASK, NULL, "processes and threads") \
    X(INT, limits_disk_mb, "limits.diskMb", NULL, REQUEST_RANGE(1, 100000000), "TASK_LIMITS", \
      REQUEST_TASK, NULL, "disk that its files take") \
    X(JSON, metadata, "metadata", NULL, REQUEST_RANGE(1, REQUEST_PROMPT_MAX), NULL, REQUEST_TASK, NULL, \
      "any JSON, returned as it is") \
    X(ID, task_id, "taskId", NULL, REQUEST_RANGE(1, 64), NULL, REQUEST_TASK, NULL, \
      "the task's id instead of a new one; 409 when it exists") \
    X(URL, callback_url, "callbackUrl", NULL, REQUEST_RANGE(1, 2048), NULL, \
      REQUEST_TASK | REQUEST_SECRET, NULL, "where a webhook goes when the task has ended") \
    X(BOOL, detach, "detach", NULL, REQUEST_ANY, "false", REQUEST_TASK, NULL, \
      "the task goes on when its caller goes away") \
    X(BOOL, retry_interrupted, "retryInterrupted", NULL, REQUEST_ANY, "false", REQUEST_TASK, NULL, \
      "run again when a crash of the runner interrupted it") \
    X(GROUP, post, "postExecutionActions", NULL, REQUEST_ANY, NULL, REQUEST_CLAUDE, NULL, \
      "what follows a success") \
    X(GROUP, post_git, "postExecutionActions.git", NULL, REQUEST_ANY, NULL, \
      REQUEST_CLAUDE, NULL, "commit and push") \
    X(BOOL, post_git_commit, "postExecutionActions.git.commit", NULL, REQUEST_ANY, "false", \
      REQUEST_CLAUDE, NULL, "commit what changed") \
    X(TEXT, post_git_commit_message, "postExecutionActions.git.commitMessage", NULL, \
      REQUEST_RANGE(1, 65536), NULL, REQUEST_CLAUDE, NULL, "message of that commit") \
    X(BOOL, post_git_push, "postExecutionActions.git.push", NULL, REQUEST_ANY, "false", \
      REQUEST_CLAUDE, NULL, "push it") \
    X(REF, post_git_branch, "postExecutionActions.git.branch", NULL, REQUEST_RANGE(1, 255), NULL, \
      REQUEST_CLAUDE, NULL, "branch to push to") \
    X(LINES, post_git_files, "postExecutionActions.git.files", NULL, REQUEST_RANGE(0, 1000), NULL, \
      REQUEST_CLAUDE, NULL, "commit only these") \
    X(CHOICE, post_git_conflict_strategy, "postExecutionActions.git.conflictStrategy", NULL, \
      REQUEST_ONE_OF("auto|fail"), "auto", REQUEST_CLAUDE, NULL, \
      "when the push is rejected") \
    X(GROUP, post_upload, "postExecutionActions.uploadFiles", NULL, REQUEST_ANY, NULL, \
      REQUEST_CLAUDE, NULL, "files to keep") \
    X(LINES, post_upload_glob_patterns, "postExecutionActions.uploadFiles.globPatterns", NULL, \
      REQUEST_RANGE(0, 100), NULL, REQUEST_CLAUDE, NULL, "which") \
    X(PATH, post_upload_gcs_prefix, "postExecutionActions.uploadFiles.gcsPrefix", NULL, \
      REQUEST_RANGE(1, 512), NULL, REQUEST_CLAUDE, NULL, \
      "also stored in GCS_LOGS_BUCKET, below this; without a bucket each file has uploadError") \
    X(TEXT, command, "command", NULL, REQUEST_RANGE(1, REQUEST_PROMPT_MAX), NULL, \
      REQUEST_COMMAND, NULL, "shell command, for bash") \
    X(ENV, env, "env", NULL, REQUEST_RANGE(2, REQUEST_PROMPT_MAX), NULL, \
      REQUEST_COMMAND | REQUEST_SECRET, NULL, "environment of the command") \
    X(INT, n, "n", NULL, REQUEST_RANGE(1, REQUEST_RUNS_MAX), "1", REQUEST_CLAUDE | REQUEST_COMMAND, NULL, \
      "how many times it runs: more than once is a group of tasks") \
    X(TEXT, code, "code", NULL, REQUEST_RANGE(1, REQUEST_PROMPT_MAX), NULL, \
      REQUEST_PYTHON, NULL, "Python source") \
    X(INT, timeout, "timeout", NULL, REQUEST_RANGE(1, 300), NULL, REQUEST_PYTHON, NULL, \
      "time limit of Python code in seconds") \
    X(INT, memory_limit, "memory_limit", NULL, REQUEST_RANGE(64, 2048), NULL, \
      REQUEST_PYTHON, NULL, "memory of Python code in MB") \
    X(BOOL, auto_print, "auto_print", NULL, REQUEST_ANY, "true", REQUEST_PYTHON, NULL, \
      "whether a last expression of Python code is printed") \
    X(TEXT, stdin_text, "stdin", NULL, REQUEST_RANGE(0, REQUEST_PROMPT_MAX), NULL, \
      REQUEST_COMMAND, NULL, "standard input of the command")
/* clang-format on */

struct task_request {
#define REQUEST_MEMBER(kind, member, ...) REQUEST_C_##kind member;
    REQUEST_FIELDS(REQUEST_MEMBER)
#undef REQUEST_MEMBER
};

/* Values for what a request leaves open. Borrowed; NULL for none. */
struct request_defaults {
    unsigned where;      /* REQUEST_CLAUDE, …: which fields the request may have */
    int timeout_minutes; /* timeout_ms of the request is always set */
    const char *permission_mode;
    const char *free_mode; /* the mode when nobody names tools; NULL: the same */
    const struct strlist *allowed_tools;
    const char *model;
    const char *system_prompt; /* at most REQUEST_ARG_MAX bytes */
};

struct request_error {
    char *field;   /* as the caller wrote it, with its path; cut when very long */
    char *message; /* "must be 1..10080, got 0"; never holds a secret */
    enum err_code code;
};

#define REQUEST_ERRORS_MAX 100 /* reading stops at this number */

struct request_errors {
    struct request_error *items;
    size_t count;
    size_t more; /* at least this many were left out */
};

/* True when a slash command may have that name: a plain file name. */
bool request_is_command_name(const char *name);

/* True for a variable that the runner itself sets for tasks: nobody else may set it. */
bool request_is_runners_variable(const char *name);

/* Adds one error; `field` is cut when it is very long. */
void request_errors_add(struct request_errors *errors, enum err_code code, const char *field,
                        const char *message);

void request_errors_done(struct request_errors *errors);
static inline void auto_request_errors(struct request_errors *errors)
{
    request_errors_done(errors);
}

/* Appends `,"errors":[{"field","message","code"},…]`, members of a problem object; nothing when
 * there are no errors. `code` is present when it is not invalid_request. */
void request_errors_print(const struct request_errors *errors, struct buf *out);

/*
 * Decodes a request body (any bytes). The caller frees the request by task_request_free(). NULL
 * when anything is wrong; then *err names the first field and the number of others. It is
 * ERR_INVALID, or ERR_NOT_SUPPORTED_YET when the only fault are fields that are not supported yet.
 * `errors` (zeroed before) has every wrong field; it stays empty when the body is not a JSON
 * object. null counts as not given; so does an empty list or object of a field that is not
 * supported yet.
 */
struct task_request *task_request_decode(const char *body, size_t len,
                                         const struct request_defaults *defaults,
                                         struct request_errors *errors, struct err *err);

void task_request_free(struct task_request *request); /* wipes its secrets, and frees it */
DEFINE_AUTO(task_request, struct task_request *, task_request_free)

/* Appends the request as a JSON object with the contract's names, without secrets: for the database
 * and for callers. */
void task_request_save(const struct task_request *request, struct buf *out);

/* Appends a JSON object of the secret fields, which the caller must seal; nothing when there are
 * none. */
void task_request_save_secrets(const struct task_request *request, struct buf *out);

/* Makes a request from both texts; secrets may be NULL. The caller frees it. */
struct task_request *task_request_load(const char *saved, size_t saved_len, const char *secrets,
                                       size_t secrets_len, struct err *err);

/* Registers the request's secrets. */
int task_request_redact(const struct task_request *request, struct redact_set *set);

/* Appends the CLI's arguments, without argv[0]. Every value is in the same argument as its flag
 * (--model=VALUE), so that none can be taken for an option. */
int task_request_argv(const struct task_request *request, struct strlist *argv, struct err *err);

/* The table of fields, for documentation. */
struct request_limits {
    double min, max;
    const char *choices; /* "a|b|c" */
};

struct request_field {
    const char *name;
    const char *aliases; /* "a|b", or NULL */
    const char *type;    /* in words: "integer", "array of strings" */
    struct request_limits takes;
    const char *default_text; /* or NULL */
    unsigned flags;
    const char *cli; /* or NULL */
    const char *help;
};

/* Reads the index'th row. Returns -1 past the end. */
int request_field_at(size_t index, struct request_field *ret_field);

/* Appends the JSON Schema of the requests that have the fields of `where`: REQUEST_CLAUDE, … */
void request_print_schema(unsigned where, struct buf *out);

/* Appends the table of the fields that requests of `where` have, as Markdown. */
void request_print_markdown(unsigned where, struct buf *out);

#endif
