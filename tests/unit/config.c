#include "runner/config/config.h"
#include "runner/config/caller_limits.h"

#include "base/fd.h"
#include "base/log.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SECRET "RUNNER_SECRET=0123456789abcdef"

static char dir[] = "/tmp/unit-config-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const names[] = {"env", "value", "empty", "nul", "first", "second"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

/* A file in the test's directory. */
static char *file_with(const char *name, const char *data, size_t len)
{
    static char path[64];
    struct err err = ERR_INIT;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (file_replace(path, data, len, 0600, &err))
        fail_msg("%s", err.msg);
    return path;
}

struct loaded {
    struct config *config;
    struct config_report report;
    struct err err;
};

static void auto_loaded(struct loaded *l)
{
    config_free(l->config);
    config_report_done(&l->report);
}

static struct loaded load_with(char *const *env, const char *env_file)
{
    struct loaded l = {0};
    const struct config_source source = {.env = env, .env_files = {env_file}};
    l.config = config_load(&source, &l.report, &l.err);
    return l;
}

#define load(...) load_with((char *const[]){__VA_ARGS__, NULL}, NULL)

static bool has_line(const struct strlist *list, const char *part)
{
    for (size_t i = 0; i < list->count; i++)
        if (strstr(list->items[i], part))
            return true;
    return false;
}

static void a_secret_is_all_that_must_be_given(void **state)
{
    (void)state;
    AUTO(loaded) struct loaded l = load(SECRET, "HOME=/home/me", "PATH=/bin");
    assert_non_null(l.config);
    assert_int_equal(l.config->port, 8787);
    assert_string_equal(l.config->bind, "127.0.0.1");
    assert_string_equal(l.config->state_dir, "/var/lib/claude-runner");
    assert_string_equal(l.config->claude_config_dir, "/home/me/.claude");
    assert_int_equal(l.config->max_concurrent_tasks, sysconf(_SC_NPROCESSORS_ONLN));
    assert_int_equal(l.config->jail_min, CONFIG_JAIL_RESTRICTED);
    assert_int_equal(l.config->log_level, LOG_INFO);
    assert_int_equal(l.config->overflow, OVERFLOW_OFF);
    assert_int_equal(l.config->idle_seconds, 1800);
    assert_null(l.config->permission_mode);
    assert_null(l.config->anthropic_api_key);
    assert_int_equal(l.config->allowed_tools.count, 0);
    assert_string_equal(l.config->egress.items[0], "open");
    assert_int_equal(l.config->secrets.count, 1);
    assert_string_equal(l.config->secrets.items[0].name, "secret-1");
    assert_string_equal(l.config->secrets.items[0].value, "0123456789abcdef");
    assert_int_equal(l.report.warnings.count, 0);
}

static void refuses_to_start_without_a_secret(void **state)
{
    (void)state;
    AUTO(loaded) struct loaded none = load("HOME=/h");
    AUTO(loaded) struct loaded empty = load("HOME=/h", "RUNNER_SECRET=");
    assert_null(none.config);
    assert_null(empty.config);
    assert_int_equal(none.err.code, ERR_CONFIG);
    assert_non_null(strstr(none.err.msg, "RUNNER_SECRET is not set"));
    assert_string_equal(none.err.msg, empty.err.msg);
}

static void needs_no_secret_where_nobody_calls(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char *env[] = {(char *)(uintptr_t) "HOME=/h", NULL};
    const struct config_source source = {.env = env, .no_callers = true};
    AUTO(config_report) struct config_report report = {0};
    AUTO(config) struct config *config = config_load(&source, &report, &err);
    assert_non_null(config);
    assert_int_equal(config->secrets.count, 0);
}

static void takes_several_secrets_with_and_without_names(void **state)
{
    (void)state;
    AUTO(loaded)
    struct loaded l = load(
        "HOME=/h", "RUNNER_SECRET=edge:0123456789abcdef, aaaaaaaaaaaaaaaaaaaa ,b:c:d4567890123456");
    assert_non_null(l.config);
    assert_int_equal(l.config->secrets.count, 3);
    assert_string_equal(l.config->secrets.items[0].name, "edge");
    assert_string_equal(l.config->secrets.items[1].name, "secret-2");
    assert_string_equal(l.config->secrets.items[1].value, "aaaaaaaaaaaaaaaaaaaa");
    assert_string_equal(l.config->secrets.items[2].value, "c:d4567890123456");
}

static void refuses_bad_secrets_without_telling_them(void **state)
{
    (void)state;
    static char *const cases[] = {
        "RUNNER_SECRET=short-hunter2",
        "RUNNER_SECRET=edge:hunter2",
        "RUNNER_SECRET=0123456789abcdef,hunter2",
        "RUNNER_SECRET=a:0123456789hunter2,a:9876543210hunter2",
        "RUNNER_SECRET=secret-2:0123456789hunter2,0123456789hunter2",
        "RUNNER_SECRET=:0123456789hunter2",
        "RUNNER_SECRET=a b:0123456789hunter2",
        "RUNNER_SECRET=0123456789 hunter2",
        "RUNNER_SECRET=0123456789\xc3\xa9hunter2",
        "RUNNER_SECRET=,",
        "ANTHROPIC_API_KEY=sk hunter2",
        "CALLBACK_SECRET=hunter2\nhunter2",
        "ALERT_URL=ftp://hunter2",
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool is_runner = strncmp(cases[i], "RUNNER", 6) == 0;
        AUTO(loaded)
        struct loaded l = is_runner ? load("HOME=/h", cases[i]) : load("HOME=/h", SECRET, cases[i]);
        assert_null(l.config);
        assert_int_equal(l.report.errors.count, 1);
        assert_null(strstr(l.report.errors.items[0], "hunter2"));
        assert_null(strstr(l.err.msg, "hunter2"));
    }
}

#define LAN "EGRESS_LAN must be none, or networks like 192.168.1.0/24, got "
#define PATHS "JAIL_PATHS must be whole paths, like /srv/cache or /srv/cache:rw, got "

static void a_wrong_value_is_named_with_what_it_got_and_what_it_takes(void **state)
{
    (void)state;
    static const struct {
        char *set;
        const char *message;
    } cases[] = {
        {"PORT=65536", "PORT must be 0..65535, got '65536'"},
        {"PORT=80a", "PORT must be 0..65535, got '80a'"},
        {"PORT=-1", "PORT must be 0..65535, got '-1'"},
        {"BIND=localhost", "BIND must be a list of addresses to listen on ('localhost' is neither"},
        {"BIND=::g",
         "BIND must be a list of addresses to listen on ('::g' is not an IPv6 address)"},
        {"JAIL=strong", "JAIL must be one of auto, full, restricted or none, got 'strong'"},
        {"LOG_LEVEL=INFO", "LOG_LEVEL must be one of error, warn, info or debug, got 'INFO'"},
        {"PERMISSION_MODE=yolo", "PERMISSION_MODE must be one of acceptEdits, auto, "
                                 "bypassPermissions, default, dontAsk or plan, got 'yolo'"},
        {"EGRESS_LAN=lan", LAN "'lan'"},
        {"EGRESS_LAN=none,10.0.0.0/8", LAN},
        {"EGRESS_LAN=10.0.0.0/8,10.0.0.0/33", LAN "'10.0.0.0/33'"},
        {"EGRESS_LAN=10.0.0.0/", LAN},
        {"EGRESS_LAN=fd00::/8,::/129", LAN "'::/129'"},
        {"JAIL_PATHS=cache", PATHS},
        {"JAIL_PATHS=/srv,~/.cargo", PATHS},
        {"JAIL_PATHS=/srv/../etc:rw", PATHS "'/srv/../etc:rw'"},
        {"JAIL_PATHS=/srv//cache", PATHS},
        {"JAIL_PATHS=/./srv", PATHS},
        {"JAIL_PATHS=/:rw", PATHS},
        {"EGRESS=open,github.com", "EGRESS must be open, none, or domain names"},
        {"CALLBACK_RETRY_SECONDS=5,x", "CALLBACK_RETRY_SECONDS must be numbers of 0..604800 "
                                       "separated by commas, got '5,x'"},
        {"CALLBACK_RETRY_SECONDS=5,-1", "CALLBACK_RETRY_SECONDS must be numbers of 0..604800"},
        {"EGRESS=github.com:0", "EGRESS must be open, none, or domain names"},
        {"EGRESS=open:443,open", "EGRESS must be open, none, or domain names"},
        {"EGRESS=http://x", "EGRESS must be open, none, or domain names"},
        {"OAUTH_TOKEN_URL=http://example.com/t", "OAUTH_TOKEN_URL must be an https URL (http to "
                                                 "loopback only), got 'http://example.com/t'"},
        {"GOOGLE_RUN_ENDPOINT=http://127.0.0.1.evil.example",
         "GOOGLE_RUN_ENDPOINT must be an https URL (http to loopback only)"},
        {"ANTHROPIC_UPSTREAM=api.anthropic.com", "ANTHROPIC_UPSTREAM must be an https URL or an"},
        {"ANTHROPIC_UPSTREAM=https://a:b@h", "ANTHROPIC_UPSTREAM must not hold a user"},
        {"TASK_TIMEOUT_MINUTES=10081", "TASK_TIMEOUT_MINUTES must be 1..10080, got '10081'"},
        {"CF_ACCESS_AUD=x", "CF_ACCESS_TEAM_DOMAIN and CF_ACCESS_AUD must be set together"},
        {"DEFAULT_MODEL=a\nb", "DEFAULT_MODEL must be one line of UTF-8 text"},
        {"CLAUDE_CONFIG_DIR_FILE=/nonexistent/x", "CLAUDE_CONFIG_DIR_FILE: '/nonexistent/x' does"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(loaded) struct loaded l = load("HOME=/h", SECRET, cases[i].set);
        assert_null(l.config);
        assert_int_equal(l.report.errors.count, 1);
        if (strncmp(l.report.errors.items[0], cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s: %s", cases[i].set, l.report.errors.items[0]);
    }
}

static void all_wrong_values_are_told_at_once(void **state)
{
    (void)state;
    AUTO(loaded) struct loaded l = load("PORT=x", "BIND=y", "QUEUE_MAX=z", "HOME=/h");
    assert_null(l.config);
    assert_int_equal(l.report.errors.count, 4);
    assert_true(has_line(&l.report.errors, "PORT"));
    assert_true(has_line(&l.report.errors, "BIND must be a list of addresses to listen on ('y'"));
    assert_true(has_line(&l.report.errors, "QUEUE_MAX"));
    assert_true(has_line(&l.report.errors, "RUNNER_SECRET"));
    assert_string_equal(l.err.msg, "PORT must be 0..65535, got 'x' (and 3 more)");
}

static void takes_several_addresses_to_listen_on(void **state)
{
    (void)state;
    static const char list[] = "127.0.0.1, [::1]:8080,unix:/run/x.sock systemd";
    AUTO(loaded)
    struct loaded l = load(SECRET,
                           "BIND=127.0.0.1, [::1]:8080,unix:/run/x.sock "
                           "systemd",
                           "HOME=/h");
    assert_non_null(l.config);
    assert_string_equal(l.config->bind, list);
}

static void reads_an_env_file_and_the_environment_wins(void **state)
{
    (void)state;
    static const char text[] = "# comment\r\n"
                               "\n"
                               "export RUNNER_SECRET='0123456789#bcdef' # the secret\n"
                               "PORT = 1234\n"
                               "QUEUE_MAX=7   # seven\n"
                               "DEFAULT_MODEL=\"a \\\"b\\\" # c\"\n"
                               "CLAUDE_BIN=/opt/a#b\n"
                               "ALLOWED_TOOLS=Read, Bash(git log, -p) ,,Edit\n"
                               "BIND=\n";
    char *path = file_with("env", text, sizeof(text) - 1);
    AUTO(loaded) struct loaded l = load_with((char *const[]){"HOME=/h", "PORT=4321", NULL}, path);
    if (!l.config)
        fail_msg("%s", l.err.msg);
    assert_int_equal(l.config->port, 4321);
    assert_int_equal(l.config->queue_max, 7);
    assert_string_equal(l.config->secrets.items[0].value, "0123456789#bcdef");
    assert_string_equal(l.config->default_model, "a \"b\" # c");
    assert_string_equal(l.config->claude_bin, "/opt/a#b");
    assert_string_equal(l.config->bind, "127.0.0.1");
    assert_int_equal(l.config->allowed_tools.count, 3);
    assert_string_equal(l.config->allowed_tools.items[1], "Bash(git log, -p)");
}

static void of_several_env_files_the_last_one_wins(void **state)
{
    (void)state;
    static const char first[] = "RUNNER_SECRET=0123456789abcdef\nPORT=1\nQUEUE_MAX=7\n";
    static const char second[] = "PORT=2\n";
    AUTO(str) char *one = strdup(file_with("first", first, sizeof(first) - 1));
    const struct config_source source = {
        .env = (char *const[]){"HOME=/h", NULL},
        .env_files = {one, file_with("second", second, sizeof(second) - 1)}};
    AUTO(loaded) struct loaded l = {0};
    l.config = config_load(&source, &l.report, &l.err);
    if (!l.config)
        fail_msg("%s", l.err.msg);
    assert_int_equal(l.config->port, 2);
    assert_int_equal(l.config->queue_max, 7);
}

static void every_bad_line_of_an_env_file_is_told(void **state)
{
    (void)state;
    static const char text[] =
        "PORT\nA-B=1\nDEFAULT_MODEL='x\nCLAUDE_BIN=\"x\" y\n=1\n" SECRET "\n";
    char *path = file_with("env", text, sizeof(text) - 1);
    AUTO(loaded) struct loaded l = load_with((char *const[]){"HOME=/h", NULL}, path);
    assert_null(l.config);
    assert_int_equal(l.report.errors.count, 5);
    assert_true(has_line(&l.report.errors, "env, line 1: not NAME=VALUE"));
    assert_true(has_line(&l.report.errors, "env, line 2: not the name of a variable"));
    assert_true(has_line(&l.report.errors, "env, line 3: the quote is not closed"));
    assert_true(has_line(&l.report.errors, "env, line 4: text after the quote"));
    assert_true(has_line(&l.report.errors, "env, line 5: not the name of a variable"));
    AUTO(loaded)
    struct loaded gone = load_with((char *const[]){"HOME=/h", SECRET, NULL}, "/nonexistent/env");
    assert_null(gone.config);
    assert_true(has_line(&gone.report.errors, "--env-file: '/nonexistent/env' does not exist"));
}

static void reads_a_value_from_the_file_that_NAME_FILE_names(void **state)
{
    (void)state;
    char set[128];
    snprintf(set, sizeof(set), "RUNNER_SECRET_FILE=%s",
             file_with("value", "abcdefghijklmnop\n", 17));
    AUTO(loaded) struct loaded l = load("HOME=/h", set);
    assert_non_null(l.config);
    assert_string_equal(l.config->secrets.items[0].value, "abcdefghijklmnop");
    AUTO(loaded) struct loaded both = load("HOME=/h", SECRET, set);
    assert_null(both.config);
    assert_true(has_line(&both.report.errors, "RUNNER_SECRET and RUNNER_SECRET_FILE are both set"));
    snprintf(set, sizeof(set), "RUNNER_SECRET_FILE=%s", file_with("empty", "\n", 1));
    AUTO(loaded) struct loaded empty = load("HOME=/h", set);
    assert_null(empty.config);
    assert_true(has_line(&empty.report.errors, "is empty"));
    snprintf(set, sizeof(set), "RUNNER_SECRET_FILE=%s",
             file_with("nul", "abcdefghijklmnop\0x", 18));
    AUTO(loaded) struct loaded nul = load("HOME=/h", set);
    assert_null(nul.config);
    assert_true(has_line(&nul.report.errors, "holds a NUL"));
}

static void an_alias_counts_and_two_spellings_must_agree(void **state)
{
    (void)state;
    AUTO(loaded) struct loaded l = load("HOME=/h", SECRET, "GITHUB_PAT=ghp_x");
    assert_string_equal(l.config->github_token, "ghp_x");
    AUTO(loaded)
    struct loaded same = load("HOME=/h", SECRET, "GITHUB_PAT=ghp_x", "GITHUB_TOKEN=ghp_x");
    assert_non_null(same.config);
    AUTO(loaded)
    struct loaded other = load("HOME=/h", SECRET, "GITHUB_PAT=ghp_x", "GITHUB_TOKEN=ghp_y");
    assert_null(other.config);
    assert_true(has_line(&other.report.errors, "GITHUB_TOKEN and GITHUB_PAT are both set"));
}

static void warns_of_names_that_are_near_ours(void **state)
{
    (void)state;
    static const struct {
        char *set;
        const char *warning; /* NULL: none */
    } cases[] = {
        {"RUNNER_SECRT=x", "unknown variable RUNNER_SECRT; did you mean RUNNER_SECRET?"},
        {"RUNNER_STATEDIR=x", "unknown variable RUNNER_STATEDIR; did you mean RUNNER_STATE_DIR?"},
        {"ANTHROPIC_APIKEY=x",
         "unknown variable ANTHROPIC_APIKEY; did you mean ANTHROPIC_API_KEY?"},
        {"GITHUB_TOKE=x", "unknown variable GITHUB_TOKE; did you mean GITHUB_TOKEN?"},
        {"RUNNER_COLOUR_SCHEME_X=x", "unknown variable RUNNER_COLOUR_SCHEME_X"},
        {"GIT_AUTHOR_NAME=x", NULL},
        {"GITHUB_ACTIONS=true", NULL},
        {"CLAUDE_CODE_SIMPLE=1", NULL},
        {"SHELL=/bin/sh", NULL},
        {"EGRESS=none", NULL},
        {"RUNNER_URL=http://127.0.0.1:8787", NULL},
        {"RUNNER_NAME=home", NULL},
        {"CLOUDRUN_JOB_NAME=x", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(loaded) struct loaded l = load("HOME=/h", SECRET, cases[i].set);
        assert_non_null(l.config);
        if (l.report.warnings.count != (cases[i].warning ? 1 : 0))
            fail_msg("%s gave %zu warnings", cases[i].set, l.report.warnings.count);
        if (cases[i].warning)
            assert_string_equal(l.report.warnings.items[0], cases[i].warning);
    }
}

static void paths_become_absolute(void **state)
{
    (void)state;
    AUTO(loaded)
    struct loaded l =
        load("HOME=/h", SECRET, "RUNNER_STATE_DIR=state/x", "SYSTEM_PROMPT_FILE=~/p.md");
    AUTO(str) char *cwd = getcwd(NULL, 0);
    char want[4096];
    snprintf(want, sizeof(want), "%s/state/x", cwd);
    assert_string_equal(l.config->state_dir, want);
    assert_string_equal(l.config->system_prompt_file, "/h/p.md");
    AUTO(loaded) struct loaded homeless = load(SECRET);
    assert_null(homeless.config);
    assert_true(has_line(&homeless.report.errors, "CLAUDE_CONFIG_DIR needs HOME to be set"));
}

static void urls_lose_the_slash_at_their_end(void **state)
{
    (void)state;
    AUTO(loaded)
    struct loaded l = load("HOME=/h", SECRET, "ANTHROPIC_UPSTREAM=http://gateway:4000/",
                           "GOOGLE_KMS_ENDPOINT=http://[::1]:99");
    assert_string_equal(l.config->anthropic_upstream, "http://gateway:4000");
    assert_string_equal(l.config->google_kms_endpoint, "http://[::1]:99");
}

static void printing_shows_everything_but_secrets(void **state)
{
    (void)state;
    AUTO(loaded)
    struct loaded l =
        load("HOME=/h", "RUNNER_SECRET=edge:hunter2hunter2hunter2", "ANTHROPIC_API_KEY=hunter2",
             "GITHUB_TOKEN=hunter2", "CALLBACK_SECRET=hunter2", "ALERT_URL=https://ntfy.sh/hunter2",
             "PORT=1", "ALLOWED_TOOLS=Read,Edit");
    assert_non_null(l.config);
    AUTO(buf) struct buf text = BUF_INIT(65536);
    AUTO(buf) struct buf json = BUF_INIT(65536);
    config_print_text(l.config, &text);
    config_print_json(l.config, &json);
    assert_true(buf_ok(&text) && buf_ok(&json));
    assert_null(strstr(text.data, "hunter2"));
    assert_null(strstr(json.data, "hunter2"));
    assert_non_null(strstr(text.data, "PORT=1  # environment\n"));
    assert_non_null(strstr(text.data, "RUNNER_SECRET=edge:…  # environment\n"));
    assert_non_null(strstr(text.data, "GITHUB_TOKEN=…  # environment\n"));
    assert_non_null(strstr(text.data, "DEFAULT_MODEL=  # not set\n"));
    struct err err = ERR_INIT;
    AUTO(json) struct json *tree = json_parse(json.data, json.len, &err);
    assert_non_null(tree);
    int64_t port = 0;
    assert_int_equal(json_int(json_get(json_get(tree, "PORT"), "value"), &port), 0);
    assert_int_equal(port, 1);
    assert_int_equal(json_count(json_get(json_get(tree, "ALLOWED_TOOLS"), "value")), 2);
    assert_null(json_get(json_get(tree, "GITHUB_TOKEN"), "notUsedYet"));
    assert_null(json_get(json_get(tree, "EGRESS"), "notUsedYet"));
    assert_string_equal(json_text(json_get(json_get(tree, "BIND"), "from")), "default");
}

static void secrets_can_be_registered_for_redaction(void **state)
{
    (void)state;
    AUTO(loaded)
    struct loaded l = load("HOME=/h", "RUNNER_SECRET=edge:hunter2hunter2hunter2",
                           "ANTHROPIC_API_KEY=sk-ant-hunter3");
    struct redact_set *set = redact_new();
    assert_int_equal(config_redact(l.config, set), 0);
    assert_false(redact_is_clean(set, "x hunter2hunter2hunter2", 23));
    assert_false(redact_is_clean(set, "sk-ant-hunter3", 14));
    redact_free(set);
}

static void a_reload_takes_over_what_can_change_and_keeps_the_rest(void **state)
{
    (void)state;
    AUTO(loaded) struct loaded l = load("HOME=/h", SECRET, "PORT=1000", "QUEUE_MAX=5");
    struct loaded next = {0};
    char *const env[] = {"HOME=/h",        "RUNNER_SECRET=n:fedcba9876543210",
                         "PORT=2000",      "QUEUE_MAX=6",
                         "HTTP_WORKERS=8", NULL};
    const struct config_source source = {.env = env};
    next.config = config_reload(l.config, &source, &next.report, &next.err);
    assert_non_null(next.config);
    assert_int_equal(next.config->port, 1000);
    assert_int_equal(next.config->queue_max, 6);
    assert_int_equal(next.config->http_workers, 128);
    assert_string_equal(next.config->secrets.items[0].name, "n");
    assert_int_equal(next.report.warnings.count, 2);
    assert_true(has_line(&next.report.warnings, "PORT has changed; that takes a restart"));
    assert_true(has_line(&next.report.warnings, "HTTP_WORKERS has changed"));
    auto_loaded(&next);
}

static void limits_of_callers_are_checked(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "CALLER_LIMITS=cl.tasks=4",       "CALLER_LIMITS=ci.tasks=0",
        "CALLER_LIMITS=ci.tasks",         "CALLER_LIMITS=ci.task=4",
        "CALLER_LIMITS=ci.kinds=claude|", "CALLER_LIMITS=ci.kinds=x",
        "CALLER_LIMITS=ci.push=yes",      "CALLER_LIMITS=ci.egress=open",
        "CALLER_LIMITS=ci.usdPerDay=-1"};
    struct caller_limits limits;
    AUTO(loaded)
    struct loaded l =
        load("HOME=/h", "RUNNER_SECRET=ci:0123456789abcdef,a.b:fedcba9876543210",
             "CALLER_LIMITS=ci.tasks=4, ci.usdPerDay=2.5,ci.egress=none,a.b.perMinute=7");
    assert_non_null(l.config);
    assert_true(caller_limits_find(l.config, "ci", &limits));
    assert_int_equal(limits.tasks, 4);
    assert_true(limits.usd_per_day > 2.4 && limits.usd_per_day < 2.6);
    assert_true(limits.egress_none && !limits.no_push);
    assert_true(caller_limits_allow(&limits, "session"));
    assert_true(caller_limits_find(l.config, "a.b", &limits));
    assert_int_equal(limits.per_minute, 7);
    assert_false(caller_limits_find(l.config, "a", &limits));
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        AUTO(loaded)
        struct loaded bad =
            load("HOME=/h", "RUNNER_SECRET=ci:0123456789abcdef", (char *)(uintptr_t)wrong[i]);
        if (bad.config || !has_line(&bad.report.errors, "CALLER_LIMITS: 'c"))
            fail_msg("%s", wrong[i]);
    }
}

static void the_documentation_is_what_the_table_says(void **state)
{
    (void)state;
    static const char path[] = CR_SOURCE_DIR "/runner/docs/configuration.md";
    struct err err = ERR_INIT;
    AUTO(buf) struct buf want = BUF_INIT(1 << 20);
    AUTO(buf) struct buf have = BUF_INIT(1 << 20);
    config_print_markdown(&want);
    assert_true(buf_ok(&want));
    if (getenv("CR_UPDATE_DOCS") && file_replace(path, want.data, want.len, 0644, &err))
        fail_msg("%s", err.msg);
    if (file_read(path, &have, &err) || strcmp(buf_str(&have), buf_str(&want)) != 0)
        fail_msg("%s is not what the table says; CR_UPDATE_DOCS=1 writes it", path);
}

static void the_help_names_every_variable(void **state)
{
    (void)state;
    AUTO(buf) struct buf help = BUF_INIT(1 << 20);
    config_print_help(&help);
#define IS_NAMED(kind, member, name, ...) assert_non_null(strstr(buf_str(&help), "  " name));
    CONFIG_FIELDS(IS_NAMED)
#undef IS_NAMED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_is_all_that_must_be_given),
        cmocka_unit_test(refuses_to_start_without_a_secret),
        cmocka_unit_test(needs_no_secret_where_nobody_calls),
        cmocka_unit_test(takes_several_secrets_with_and_without_names),
        cmocka_unit_test(refuses_bad_secrets_without_telling_them),
        cmocka_unit_test(a_wrong_value_is_named_with_what_it_got_and_what_it_takes),
        cmocka_unit_test(all_wrong_values_are_told_at_once),
        cmocka_unit_test(takes_several_addresses_to_listen_on),
        cmocka_unit_test(reads_an_env_file_and_the_environment_wins),
        cmocka_unit_test(of_several_env_files_the_last_one_wins),
        cmocka_unit_test(every_bad_line_of_an_env_file_is_told),
        cmocka_unit_test(reads_a_value_from_the_file_that_NAME_FILE_names),
        cmocka_unit_test(an_alias_counts_and_two_spellings_must_agree),
        cmocka_unit_test(warns_of_names_that_are_near_ours),
        cmocka_unit_test(paths_become_absolute),
        cmocka_unit_test(urls_lose_the_slash_at_their_end),
        cmocka_unit_test(printing_shows_everything_but_secrets),
        cmocka_unit_test(secrets_can_be_registered_for_redaction),
        cmocka_unit_test(a_reload_takes_over_what_can_change_and_keeps_the_rest),
        cmocka_unit_test(limits_of_callers_are_checked),
        cmocka_unit_test(the_documentation_is_what_the_table_says),
        cmocka_unit_test(the_help_names_every_variable),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
