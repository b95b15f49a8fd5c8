/*
 * The configuration: one table of variables, and the typed values that came of it.
 *
 * CONFIG_FIELDS is the only list. The struct's members, the checks, `serve --check`, the help and
 * docs/configuration.md come from it. A value is taken from the first of these that has it; an
 * empty one counts as not given:
 *     NAME (or its alias) in the environment, the file that NAME_FILE in the environment names,
 *     the same two in the --env-file, the default.
 *
 * Threads: a config does not change after config_load(); share it freely. Nothing is kept outside.
 * Ownership: a load returns a configuration that the caller frees by config_free(), or hands to
 * in_force.h.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/redact.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stddef.h>

enum config_jail { CONFIG_JAIL_AUTO, CONFIG_JAIL_FULL, CONFIG_JAIL_RESTRICTED, CONFIG_JAIL_NONE };
/* Limits of a task whose request sets none. */
struct config_limits {
    double cpu; /* cores */
    int memory_mb;
    int pids;
    int disk_mb;
};
enum config_overflow {
    OVERFLOW_OFF,
    OVERFLOW_FULL,        /* when no local slot was free for a while */
    OVERFLOW_UNAVAILABLE, /* also when a pause keeps tasks from running locally */
    OVERFLOW_ALWAYS,      /* at once */
};
enum config_log_format { CONFIG_LOG_AUTO, CONFIG_LOG_JSON, CONFIG_LOG_TEXT };

/* One secret of RUNNER_SECRET. */
struct config_secret {
    char *name; /* "secret-1", … when it has none */
    char *value;
};

struct config_secrets {
    struct config_secret *items;
    size_t count;
};

/* The type of each kind in struct config. Text is NULL when it is not given and has no default; an
 * ENUM is the index of its choice. */
#define CONFIG_C_INT int
#define CONFIG_C_TEXT char *
#define CONFIG_C_ADDRESS char * /* a list of addresses as in base/place.h */
#define CONFIG_C_HOST char * /* a DNS name; a leading "https://" and a trailing "/" are removed */
#define CONFIG_C_PATH char * /* made absolute; "~/" is the home directory */
#define CONFIG_C_URL char *  /* https, or http to loopback; no '/' at the end */
#define CONFIG_C_ANY_URL char * /* http or https */
#define CONFIG_C_CHOICE char *  /* one of the choices, as text */
#define CONFIG_C_ENUM int
#define CONFIG_C_LIST struct strlist     /* comma separated */
#define CONFIG_C_SECONDS struct strlist  /* comma separated numbers, each within the range */
#define CONFIG_C_DOMAINS struct strlist  /* "open", "none", or domain names */
#define CONFIG_C_NETWORKS struct strlist /* addresses, or networks as in base/place.h */
#define CONFIG_C_SECRETS struct config_secrets
#define CONFIG_C_LIMITS \
    struct config_limits /* "name=number", comma separated; cores and half are words */

enum config_flag {
    CONFIG_SECRET = 1,     /* never printed */
    CONFIG_RELOADABLE = 2, /* can change on SIGHUP */
    CONFIG_LATER = 4,      /* checked, but not used yet */
    CONFIG_REQUIRED = 8,
};

/* Columns: kind, member, name, alias or NULL, default or NULL, accepted values, flags, help.
 * Accepted values: CONFIG_RANGE for INT and SECONDS, CONFIG_ONE_OF for CHOICE and ENUM, else
 * CONFIG_ANY. */
#define CONFIG_RANGE(low, high) .min = (low), .max = (high)
#define CONFIG_ONE_OF(list) .choices = (list)
#define CONFIG_ANY .choices = NULL

/* clang-format off */
#define CONFIG_FIELDS(X) \
    X(INT, port, "PORT", NULL, "8787", CONFIG_RANGE(0, 65535), 0, \
      "port to listen on; 0 picks a free one and logs it") \
    X(ADDRESS, bind, "BIND", NULL, "127.0.0.1", CONFIG_ANY, 0, \
      "addresses to listen on, comma separated: IPv4 (0.0.0.0 in a container), IPv6 (`::1`, or " \
      "`[::1]:8080` with a port of its own), `unix:/path`, `systemd` (its socket unit's)") \
    X(SECRETS, secrets, "RUNNER_SECRET", NULL, NULL, CONFIG_ANY, \
      CONFIG_SECRET | CONFIG_RELOADABLE | CONFIG_REQUIRED, \
      "shared secret(s) of the callers, comma separated, each optionally `name:secret`; " \
      "at least 16 characters each") \
    X(LIST, caller_limits, "CALLER_LIMITS", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "what the holder of a named secret may do, as `NAME.LIMIT=VALUE`, comma separated: `tasks` " \
      "(at once), `perMinute`, `usdPerDay`, `kinds` (claude, command, python, session; a bar " \
      "between them), `egress=none`, `push=no`") \
    X(PATH, state_dir, "RUNNER_STATE_DIR", NULL, "/var/lib/claude-runner", CONFIG_ANY, 0, \
      "everything that lasts: database, events, mirrors, workspaces, outputs") \
    X(TEXT, user, "RUNNER_USER", NULL, NULL, CONFIG_ANY, 0, \
      "who tasks run as when the runner itself is root: `claude-runner` if that user exists, " \
      "else `nobody`") \
    X(TEXT, uids, "RUNNER_UIDS", NULL, NULL, CONFIG_ANY, 0, \
      "users for tasks, `first-last`, that nobody else has: where the runner is root and there are " \
      "no namespaces (a container), each task runs as one of its own; at least " \
      "MAX_CONCURRENT_TASKS of them") \
    X(TEXT, claude_bin, "CLAUDE_BIN", NULL, "claude", CONFIG_ANY, 0, \
      "the Claude Code CLI: a path, or a name to find on PATH") \
    X(PATH, claude_config_dir, "CLAUDE_CONFIG_DIR", NULL, "~/.claude", CONFIG_ANY, 0, \
      "where the CLI's login lives") \
    X(ANY_URL, anthropic_upstream, "ANTHROPIC_UPSTREAM", NULL, "https://api.anthropic.com", \
      CONFIG_ANY, 0, "where the credential proxy sends Claude's API traffic") \
    X(TEXT, anthropic_api_key, "ANTHROPIC_API_KEY", NULL, NULL, CONFIG_ANY, \
      CONFIG_SECRET | CONFIG_RELOADABLE, "used instead of a login when set") \
    X(URL, oauth_token_url, "OAUTH_TOKEN_URL", NULL, \
      "https://platform.claude.com/v1/oauth/token", CONFIG_ANY, 0, \
      "where a login is refreshed") \
    X(TEXT, oauth_client_id, "OAUTH_CLIENT_ID", NULL, "9d1c250a-e61b-44d9-88ed-5944d1962f5e", \
      CONFIG_ANY, 0, "the OAuth client of the login") \
    X(INT, login_deadline_seconds, "LOGIN_DEADLINE_SECONDS", NULL, "600", CONFIG_RANGE(1, 3600), \
      CONFIG_RELOADABLE, "time that a login has from its beginning to its end") \
    X(INT, oauth_alert_hours, "OAUTH_ALERT_HOURS", NULL, "2", CONFIG_RANGE(0, 168), \
      CONFIG_RELOADABLE, \
      "alert when a login that can't be refreshed has fewer hours left") \
    X(ANY_URL, alert_url, "ALERT_URL", NULL, NULL, CONFIG_ANY, \
      CONFIG_SECRET | CONFIG_RELOADABLE, \
      "where alerts are posted: as ntfy takes them when the host has `ntfy` in its name or the URL " \
      "ends with `#ntfy`, else as JSON") \
    X(TEXT, ntfy_topic, "NTFY_TOPIC", NULL, NULL, CONFIG_ANY, CONFIG_SECRET | CONFIG_RELOADABLE, \
      "a topic at ntfy.sh that alerts go to when ALERT_URL is not set") \
    X(INT, usage_keep_percent, "USAGE_KEEP_PERCENT", NULL, "0", CONFIG_RANGE(0, 99), \
      CONFIG_RELOADABLE, \
      "of each usage window of the login's account (five hours, seven days), left to the owner: " \
      "beyond the rest, tasks wait until the window ends") \
    X(INT, max_concurrent_tasks, "MAX_CONCURRENT_TASKS", NULL, "cores", CONFIG_RANGE(1, 1024), \
      CONFIG_RELOADABLE, "tasks that run here at once") \
    X(INT, queue_max, "QUEUE_MAX", NULL, "1000", CONFIG_RANGE(0, 1000000), CONFIG_RELOADABLE, \
      "tasks that may wait; more are answered 429") \
    X(LIST, allowed_tools, "ALLOWED_TOOLS", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "tools that Claude may use when a request doesn't say, comma separated") \
    X(CHOICE, permission_mode, "PERMISSION_MODE", NULL, NULL, \
      CONFIG_ONE_OF("acceptEdits|auto|bypassPermissions|default|dontAsk|plan"), \
      CONFIG_RELOADABLE, "permission mode when a request doesn't say; not set: " \
      "`bypassPermissions` in a jail, else `acceptEdits`") \
    X(PATH, system_prompt_file, "SYSTEM_PROMPT_FILE", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "system prompt when a request doesn't say; read again when it changes") \
    X(TEXT, system_prompt_secret, "SYSTEM_PROMPT_SECRET", NULL, NULL, CONFIG_ANY, 0, \
      "the same from Secret Manager: the secret's name") \
    X(INT, system_prompt_poll_seconds, "SYSTEM_PROMPT_POLL_SECONDS", NULL, "60", \
      CONFIG_RANGE(1, 86400), 0, "time between two looks for a newer version of that secret") \
    X(TEXT, default_model, "DEFAULT_MODEL", "CLAUDE_MODEL", NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "model when a request doesn't say") \
    X(INT, task_timeout_minutes, "TASK_TIMEOUT_MINUTES", NULL, "55", CONFIG_RANGE(1, 10080), \
      CONFIG_RELOADABLE, "time limit of /run and /run-async when a request doesn't say") \
    X(INT, execute_timeout_minutes, "EXECUTE_TIMEOUT_MINUTES", NULL, "5", \
      CONFIG_RANGE(1, 10080), CONFIG_RELOADABLE, \
      "time limit of /execute when a request doesn't say") \
    X(INT, first_event_seconds, "FIRST_EVENT_SECONDS", NULL, "60", CONFIG_RANGE(1, 3600), \
      CONFIG_RELOADABLE, "Claude is ended when it has printed nothing after this") \
    X(INT, idle_seconds, "IDLE_SECONDS", NULL, "1800", CONFIG_RANGE(0, 604800), \
      CONFIG_RELOADABLE, "Claude is ended when it prints nothing for so long; 0: never") \
    X(INT, result_grace_seconds, "RESULT_GRACE_SECONDS", NULL, "5", CONFIG_RANGE(0, 300), \
      CONFIG_RELOADABLE, "time to exit after the result") \
    X(INT, kill_grace_seconds, "KILL_GRACE_SECONDS", NULL, "5", CONFIG_RANGE(0, 300), \
      CONFIG_RELOADABLE, "time between TERM and KILL") \
    X(INT, drain_seconds, "DRAIN_SECONDS", NULL, "30", CONFIG_RANGE(0, 86400), \
      CONFIG_RELOADABLE, "time that running tasks get when the service is stopped") \
    X(INT, keepalive_after_ms, "KEEPALIVE_AFTER_MS", NULL, "25000", CONFIG_RANGE(100, 600000), \
      CONFIG_RELOADABLE, "an answer that isn't ready by then begins with white space") \
    X(INT, keepalive_every_ms, "KEEPALIVE_EVERY_MS", NULL, "15000", CONFIG_RANGE(100, 600000), \
      CONFIG_RELOADABLE, "time between two signs of life on a waiting connection") \
    X(INT, http_workers, "HTTP_WORKERS", NULL, "128", CONFIG_RANGE(4, 512), 0, \
      "threads that read requests and write answers") \
    X(INT, auth_failures_max, "AUTH_FAILURES_MAX", NULL, "10", CONFIG_RANGE(1, 10000), \
      CONFIG_RELOADABLE, "wrong secrets from one address in a minute before it is answered 429") \
    X(NETWORKS, trusted_proxies, "TRUSTED_PROXIES", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "networks (`172.16.0.0/12`, `fd00::/8`) whose `CF-Connecting-IP` says who asks; this " \
      "machine's own always does") \
    X(ENUM, jail, "JAIL", NULL, "auto", CONFIG_ONE_OF("auto|full|restricted|none"), \
      0, "how tasks are confined; auto takes the strongest the host can give") \
    X(ENUM, jail_min, "JAIL_MIN", NULL, "restricted", CONFIG_ONE_OF("auto|full|restricted|none"), \
      0, "the service does not start when the host can't give this (auto: none asked)") \
    X(LIST, jail_paths, "JAIL_PATHS", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "further paths of this machine that tasks see, comma separated: read-only, or writable with " \
      "`:rw` behind; toolchains outside of /usr and /opt, shared caches") \
    X(LIMITS, task_limits, "TASK_LIMITS", NULL, "cpu=cores,memoryMb=half,pids=1024,diskMb=10240", \
      CONFIG_ANY, CONFIG_RELOADABLE, \
      "what a task may use when its request doesn't say: `cpu` (cores, or the word), `memoryMb` " \
      "(or `half` of the machine's), `pids`, `diskMb`; what is left out has its default") \
    X(PATH, task_env_file, "TASK_ENV_FILE", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "the owner's variables for tasks on this machine, in a file of NAME=VALUE lines that is read as " \
      "each begins; the values are struck out of what tasks print") \
    X(DOMAINS, egress, "EGRESS", NULL, "open", CONFIG_ANY, CONFIG_RELOADABLE, \
      "network of tasks when a request doesn't say: open, none, or names, comma separated: `host`, " \
      "`*.host`, `host:port`") \
    X(LIST, egress_lan, "EGRESS_LAN", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "private networks that tasks may reach, comma separated: `192.168.1.0/24`, `fd00::/8`") \
    X(TEXT, github_token, "GITHUB_TOKEN", "GITHUB_PAT", NULL, CONFIG_ANY, \
      CONFIG_SECRET | CONFIG_RELOADABLE, "the owner's token for github.com") \
    X(PATH, git_ssh_key_file, "GIT_SSH_KEY_FILE", NULL, NULL, CONFIG_ANY, \
      CONFIG_RELOADABLE, "the owner's ssh key for git") \
    X(PATH, git_known_hosts, "GIT_KNOWN_HOSTS", NULL, NULL, CONFIG_ANY, \
      CONFIG_RELOADABLE, "host keys that git trusts") \
    X(LIST, git_allow, "GIT_ALLOW", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "hosts or `file:` paths that git may use although they are private") \
    X(INT, git_timeout_seconds, "GIT_TIMEOUT_SECONDS", NULL, "900", CONFIG_RANGE(1, 86400), \
      CONFIG_RELOADABLE, "time limit of one clone, fetch or push") \
    X(INT, git_push_max_mb, "GIT_PUSH_MAX_MB", NULL, "2048", CONFIG_RANGE(1, 1000000), \
      CONFIG_RELOADABLE, "size of one push of a task (`gitPush`)") \
    X(INT, repo_ttl, "REPO_TTL", NULL, "0", CONFIG_RANGE(0, 31536000), CONFIG_RELOADABLE, \
      "seconds for which a fetched repository is taken for current; 0: the remote is always asked") \
    X(INT, repo_cache_max_mb, "REPO_CACHE_MAX_MB", NULL, "20480", CONFIG_RANGE(0, 100000000), \
      CONFIG_RELOADABLE, "size of the repository cache") \
    X(ENUM, workspaces, "WORKSPACES", NULL, "auto", CONFIG_ONE_OF("auto|overlay|reflink|copy"), 0, \
      "how a task gets its files: over a shared tree, as copies that share its blocks, or as a " \
      "checkout of its own; auto takes the first that the host can give") \
    X(INT, disk_min_free_mb, "DISK_MIN_FREE_MB", NULL, "1024", CONFIG_RANGE(0, 100000000), \
      CONFIG_RELOADABLE, "with less free disk new tasks are answered 507") \
    X(INT, keep_tasks_days, "KEEP_TASKS_DAYS", NULL, "30", CONFIG_RANGE(1, 36500), \
      CONFIG_RELOADABLE, "how long ended tasks are kept") \
    X(INT, inputs_max_mb, "INPUTS_MAX_MB", NULL, "20480", CONFIG_RANGE(1, 100000000), \
      CONFIG_RELOADABLE, "size of what callers upload to work on; what was used longest ago goes") \
    X(INT, sessions_max, "SESSIONS_MAX", NULL, "50", CONFIG_RANGE(0, 10000), CONFIG_RELOADABLE, \
      "sessions at once; more are answered 429") \
    X(INT, session_ttl_minutes, "SESSION_TTL_MINUTES", NULL, "1440", CONFIG_RANGE(1, 525600), \
      CONFIG_RELOADABLE, "how long a session is kept when a request doesn't say") \
    X(INT, janitor_seconds, "JANITOR_SECONDS", NULL, "600", CONFIG_RANGE(1, 86400), \
      CONFIG_RELOADABLE, "time between two rounds of the janitor") \
    X(TEXT, callback_secret, "CALLBACK_SECRET", "CLOUDRUN_CALLBACK_SECRET", NULL, CONFIG_ANY, \
      CONFIG_SECRET | CONFIG_RELOADABLE, \
      "signs webhooks: any text, or `whsec_` and base64 (Standard Webhooks)") \
    X(LIST, callback_allow, "CALLBACK_ALLOW", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "hosts (`host`, `host:port`, `*.domain`) and addresses (`10.0.0.5`, `192.168.0.0/16`) that " \
      "webhooks may go to although they are private, and by http") \
    X(SECONDS, callback_retry_seconds, "CALLBACK_RETRY_SECONDS", NULL, \
      "5,300,1800,7200,18000,36000,36000", CONFIG_RANGE(0, 604800), CONFIG_RELOADABLE, \
      "waits before each further try of a webhook, comma separated; there are as many more tries") \
    X(INT, python_slots, "PYTHON_SLOTS", NULL, "cores", CONFIG_RANGE(1, 256), CONFIG_RELOADABLE, \
      "Python runs at once; a caller who has none gets one beyond that") \
    X(LIST, python_modules, "PYTHON_MODULES", NULL, NULL, CONFIG_ANY, CONFIG_RELOADABLE, \
      "modules that Python code may import, comma separated; not set: what PyRunner allowed") \
    X(HOST, cf_access_team_domain, "CF_ACCESS_TEAM_DOMAIN", NULL, NULL, CONFIG_ANY, 0, \
      "Cloudflare Access: the team's domain (`team.cloudflareaccess.com`, or `team`)") \
    X(TEXT, cf_access_aud, "CF_ACCESS_AUD", NULL, NULL, CONFIG_ANY, 0, \
      "Cloudflare Access: the application's audience tag") \
    X(URL, cf_access_certs_url, "CF_ACCESS_CERTS_URL", NULL, NULL, CONFIG_ANY, 0, \
      "Cloudflare Access: where the keys are, when not at the team's domain") \
    X(ENUM, overflow, "OVERFLOW", NULL, "off", CONFIG_ONE_OF("off|full|unavailable|always"), \
      CONFIG_RELOADABLE, "when tasks go to Cloud Run: no slot within " \
      "OVERFLOW_AFTER_MS, also when nothing can run here, or always") \
    X(INT, overflow_after_ms, "OVERFLOW_AFTER_MS", NULL, "5000", CONFIG_RANGE(0, 86400000), \
      CONFIG_RELOADABLE, "how long a task waits for a slot before that") \
    X(TEXT, gcp_project_id, "GCP_PROJECT_ID", "GCS_PROJECT_ID", NULL, CONFIG_ANY, 0, \
      "Google Cloud project") \
    X(TEXT, gcp_region, "GCP_REGION", NULL, "us-central1", CONFIG_ANY, 0, \
      "region of the Cloud Run job") \
    X(TEXT, cloudrun_job_name, "CLOUDRUN_JOB_NAME", NULL, NULL, CONFIG_ANY, 0, \
      "name of the Cloud Run job") \
    X(TEXT, gcs_logs_bucket, "GCS_LOGS_BUCKET", NULL, NULL, CONFIG_ANY, 0, \
      "bucket for payloads, logs and results") \
    X(TEXT, kms_location, "KMS_LOCATION", NULL, "global", CONFIG_ANY, 0, \
      "location of the KMS key ring") \
    X(TEXT, kms_key_ring, "KMS_KEY_RING", NULL, NULL, CONFIG_ANY, 0, \
      "KMS key ring") \
    X(TEXT, kms_key_name, "KMS_KEY_NAME", NULL, NULL, CONFIG_ANY, 0, \
      "KMS key that wraps the payloads' keys") \
    X(TEXT, cloud_api_key_secret, "CLOUD_API_KEY_SECRET", NULL, NULL, CONFIG_ANY, 0, \
      "the Secret Manager secret with the API key of cloud tasks: its name") \
    X(ENUM, cloud_service, "CLOUD_SERVICE", NULL, "off", CONFIG_ONE_OF("off|on"), 0, \
      "this is the service at Google: every task is an execution, all that lasts is in the bucket") \
    X(INT, cloud_max_executions, "CLOUD_MAX_EXECUTIONS", NULL, "100", CONFIG_RANGE(1, 1000), \
      CONFIG_RELOADABLE, "cloud tasks at once") \
    X(INT, cloud_resolve_seconds, "CLOUD_RESOLVE_SECONDS", NULL, "60", CONFIG_RANGE(1, 3600), \
      CONFIG_RELOADABLE, "how long an execution whose start was not confirmed is looked for before " \
      "its attempt is given up") \
    X(INT, cloud_session_idle_seconds, "CLOUD_SESSION_IDLE_SECONDS", NULL, "60", CONFIG_RANGE(0, 60), \
      CONFIG_RELOADABLE, "how long the execution of a cloud session's command stays for the next one; 0: " \
      "not at all") \
    X(PATH, google_application_credentials, "GOOGLE_APPLICATION_CREDENTIALS", NULL, NULL, \
      CONFIG_ANY, 0, "service-account key or authorized-user file") \
    X(TEXT, google_impersonate_service_account, "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT", NULL, NULL, \
      CONFIG_ANY, 0, "e-mail address of the service account to act as, by way of the credentials") \
    X(TEXT, gce_metadata_host, "GCE_METADATA_HOST", NULL, NULL, CONFIG_ANY, 0, \
      "the metadata server, when not Google's") \
    X(URL, google_run_endpoint, "GOOGLE_RUN_ENDPOINT", NULL, "https://run.googleapis.com", \
      CONFIG_ANY, 0, "Cloud Run") \
    X(URL, google_storage_endpoint, "GOOGLE_STORAGE_ENDPOINT", NULL, \
      "https://storage.googleapis.com", CONFIG_ANY, 0, "Cloud Storage") \
    X(URL, google_kms_endpoint, "GOOGLE_KMS_ENDPOINT", NULL, "https://cloudkms.googleapis.com", \
      CONFIG_ANY, 0, "Cloud KMS") \
    X(URL, google_secretmanager_endpoint, "GOOGLE_SECRETMANAGER_ENDPOINT", NULL, \
      "https://secretmanager.googleapis.com", CONFIG_ANY, 0, "Secret Manager") \
    X(URL, google_iam_endpoint, "GOOGLE_IAM_ENDPOINT", NULL, "https://iam.googleapis.com", \
      CONFIG_ANY, 0, "IAM") \
    X(URL, google_serviceusage_endpoint, "GOOGLE_SERVICEUSAGE_ENDPOINT", NULL, \
      "https://serviceusage.googleapis.com", CONFIG_ANY, 0, "Service Usage") \
    X(URL, google_resourcemanager_endpoint, "GOOGLE_RESOURCEMANAGER_ENDPOINT", NULL, \
      "https://cloudresourcemanager.googleapis.com", CONFIG_ANY, 0, \
      "Resource Manager") \
    X(URL, google_artifactregistry_endpoint, "GOOGLE_ARTIFACTREGISTRY_ENDPOINT", NULL, \
      "https://artifactregistry.googleapis.com", CONFIG_ANY, 0, "Artifact Registry") \
    X(URL, google_iamcredentials_endpoint, "GOOGLE_IAMCREDENTIALS_ENDPOINT", NULL, \
      "https://iamcredentials.googleapis.com", CONFIG_ANY, 0, "IAM Credentials") \
    X(URL, google_compute_endpoint, "GOOGLE_COMPUTE_ENDPOINT", NULL, \
      "https://compute.googleapis.com", CONFIG_ANY, 0, "Compute Engine") \
    X(URL, google_cloudbuild_endpoint, "GOOGLE_CLOUDBUILD_ENDPOINT", NULL, \
      "https://cloudbuild.googleapis.com", CONFIG_ANY, 0, "Cloud Build") \
    X(URL, google_cloudbilling_endpoint, "GOOGLE_CLOUDBILLING_ENDPOINT", NULL, \
      "https://cloudbilling.googleapis.com", CONFIG_ANY, 0, "Cloud Billing") \
    X(URL, google_logging_endpoint, "GOOGLE_LOGGING_ENDPOINT", NULL, \
      "https://logging.googleapis.com", CONFIG_ANY, 0, "Cloud Logging") \
    X(ENUM, log_level, "LOG_LEVEL", NULL, "info", CONFIG_ONE_OF("error|warn|info|debug"), \
      CONFIG_RELOADABLE, "what is logged, to stderr (an enum log_level)") \
    X(ENUM, log_format, "LOG_FORMAT", NULL, "auto", CONFIG_ONE_OF("auto|json|text"), 0, \
      "auto: text on a terminal and to journald (there with priorities), else json")
/* clang-format on */

struct config_value; /* a variable's text and where it came from */

struct config {
#define CONFIG_MEMBER(kind, member, ...) CONFIG_C_##kind member;
    CONFIG_FIELDS(CONFIG_MEMBER)
#undef CONFIG_MEMBER
    struct config_value *values; /* private to config.c */
    _Atomic int more_refs;       /* private to in_force.c: references beyond the first */
};

#define CONFIG_ENV_FILES_MAX 4

struct config_source {
    char *const *env; /* borrowed; "NAME=value", …, NULL: what main() got */
    const char *env_files[CONFIG_ENV_FILES_MAX]; /* borrowed; --env-file FILE, up to the first NULL;
                                                    a later one wins */
    bool no_callers; /* no caller reaches this program, so settings with CONFIG_REQUIRED may be
                      * missing */
};

/* Fills source->env_files with what the service on this machine reads: the installed service's
 * files (/etc/claude-runner.env), else .env in this directory, after the defaults that runner/up
 * or the package has installed. For commands beside the service. */
void config_find_service(struct config_source *source);

/* Messages of one line each, for a person, without secrets. */
struct config_report {
    struct strlist errors;
    struct strlist warnings; /* unknown names, variables that nothing uses yet */
};

void config_report_done(struct config_report *report);
static inline void auto_config_report(struct config_report *report)
{
    config_report_done(report);
}

/* Reads and checks everything. The caller frees the configuration by config_free(). NULL with
 * ERR_CONFIG when anything is wrong: then report->errors has every wrong variable, and err the
 * first one and the number of others. `report` must be zeroed before. */
struct config *config_load(const struct config_source *source, struct config_report *report,
                           struct err *err);

/* As config_load(), for SIGHUP: settings that are not CONFIG_RELOADABLE stay as in `now`, and a
 * warning names each one that has changed. */
struct config *config_reload(const struct config *now, const struct config_source *source,
                             struct config_report *report, struct err *err);

void config_free(struct config *config);
DEFINE_AUTO(config, struct config *, config_free)

/* Registers every secret of the configuration. */
int config_redact(const struct config *config, struct redact_set *set);

/* Print the configuration without secrets: a line per variable, or one JSON object
 * {"PORT":{"value":8787,"from":"default"},…}, with "secret":true and "notUsedYet":true where they
 * apply. */
void config_print_text(const struct config *config, struct buf *out);
void config_print_json(const struct config *config, struct buf *out);

/* Print the table itself: for `serve --help`, and all of docs/configuration.md. */
void config_print_help(struct buf *out);
void config_print_markdown(struct buf *out);

/* The memory of this machine, or of the container that this process runs in. */
int config_machine_memory_mb(void);

/* The names of those that come from the environment, which a reload finds as it was; "" for none.
 */
void config_print_unchanging(const struct config *config, struct buf *out);

/* RUNNER_UIDS: false when it is not set. */
bool config_uids(const struct config *config, unsigned *ret_first, unsigned *ret_last);
#define CONFIG_UIDS_MAX 4096

/* The path of an entry of JAIL_PATHS, "path" or "path:rw", without '/' at its end; the caller frees
 * it. NULL when it is no whole path. */
char *config_jail_path(const char *item, bool *ret_writable);

/* The strongest and the weakest tier of jail that tasks may have: 0 none, 1 restricted, 2 full. */
int config_jail_most(const struct config *config);
int config_jail_least(const struct config *config);

#endif
