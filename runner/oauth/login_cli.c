#include "runner/oauth/login_cli.h"

#include "base/auto.h"
#include "base/path.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX 65536 /* further output is read and dropped */
#define GRACE_MS 2000

/* Variables of the daemon's environment that the CLI gets. */
static const char *const passed_on[] = {
    "PATH",         "LANG",
    "LC_ALL",       "LC_CTYPE",
    "TZ",           "HTTP_PROXY",
    "http_proxy",   "NO_PROXY",
    "no_proxy",     "HTTPS_PROXY",
    "https_proxy",  "SSL_CERT_FILE",
    "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
};

void login_cli_init(struct login_cli *cli)
{
    *cli = (struct login_cli){0};
    buf_init(&cli->said, OUTPUT_MAX);
    buf_init(&cli->errors, OUTPUT_MAX);
}

void login_cli_done(struct login_cli *cli)
{
    struct err ignored;
    plan_free(cli->plan);
    cli->plan = NULL;
    buf_wipe(&cli->said);
    buf_wipe(&cli->errors);
    if (cli->place)
        path_remove_tree(cli->place, &ignored);
    free(cli->place);
    cli->place = NULL;
}

/* --- its plan ------------------------------------------------------------------------------ */

static void add_environment(const struct login_cli *cli, const char *marker, struct strlist *env)
{
    const char *home = getenv("HOME");
    for (size_t i = 0; i < COUNT_OF(passed_on); i++) {
        const char *value = getenv(passed_on[i]);
        if (value)
            strlist_addf(env, "%s=%s", passed_on[i], value);
    }
    strlist_addf(env, "HOME=%s", home && *home == '/' ? home : cli->place);
    strlist_addf(env, "CLAUDE_CONFIG_DIR=%s", cli->place);
    strlist_add(env, "BROWSER=true"); /* There is no browser here: the URL goes to the caller. */
    strlist_add(env, "DISABLE_AUTOUPDATER=1");
    strlist_add(env, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1");
    strlist_add(env, marker);
}

static struct plan *make_plan(const struct login_cli *cli, const struct config *config,
                              const char *marker, struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(str) char *program = path_find_program(config->claude_bin, getenv("PATH"));
    if (!program)
        err_set(err, ERR_INTERNAL, "CLAUDE_BIN: there is no program '%s'", config->claude_bin);
    if (!plan || !(plan->cwd = strdup(cli->place)))
        err_sys(err, "login");
    if (!program || !plan || !plan->cwd)
        return NULL;
    strlist_add(&plan->argv, program);
    strlist_add(&plan->argv, "auth");
    strlist_add(&plan->argv, "login");
    add_environment(cli, marker, &plan->env);
    plan->uid = geteuid();
    plan->gid = getegid();
    plan->kill_grace_ms = GRACE_MS;
    if (plan->argv.failed || plan->env.failed) {
        err_sys(err, "login");
        return NULL;
    }
    return STEAL_PTR(plan);
}

/* Makes an empty directory for this login. */
static int make_place(struct login_cli *cli, const struct config *config, struct err *err)
{
    cli->place = path_join(config->state_dir, "login");
    if (!cli->place)
        return err_sys(err, "login");
    if (path_remove_tree(cli->place, err)) /* Left by a runner that was killed. */
        return -1;
    return mkdir(cli->place, 0700) ? err_sys(err, "cannot make '%s'", cli->place) : 0;
}

int login_cli_prepare(struct login_cli *cli, const struct config *config, const char *marker,
                      struct err *err)
{
    if (make_place(cli, config, err))
        return -1;
    cli->plan = make_plan(cli, config, marker, err);
    return cli->plan ? 0 : -1;
}

void login_cli_add(struct buf *to, const char *data, size_t len)
{
    size_t room = to->max - to->len;
    buf_add(to, data, len < room ? len : room);
}

/* --- what it says -------------------------------------------------------------------------- */

bool login_cli_find_url(const struct login_cli *cli, char *url, size_t size)
{
    const char *at = strstr(buf_str(&cli->said), "https://");
    size_t len = 0;
    while (at && at[len] > ' ' && at[len] <= '~' && !strchr("\"'<>\\`", at[len]))
        len++;
    if (!at || at[len] == '\0' || len >= size) /* The URL must be complete. */
        return false;
    snprintf(url, size, "%.*s", (int)len, at);
    return true;
}

/* Messages of the CLI, or of the JavaScript below it, and what they mean for the person who logs
 * in. */
static const struct {
    const char *part;
    const char *sentence;
    bool keep; /* the CLI's message follows, because it names a host or a status */
} meanings[] = {
    {"full code was copied",
     "That is not the full code: copy all of it, including the # in the middle.", false},
    {"look like the full code",
     "That is not the full code: copy all of it, including the # in the middle.", false},
    {"Invalid code", "That is not the full code: copy all of it, including the # in the middle.",
     false},
    {"status code 400",
     "The code was not accepted: it may be incomplete, too old, used already, or of an earlier "
     "login. Begin another login for a new one.",
     false},
    {"code wasn't accepted",
     "The code was not accepted: it may be incomplete, too old, used already, or of an earlier "
     "login. Begin another login for a new one.",
     false},
    {"ENOTFOUND", "Claude's login server cannot be found: is the runner's network down?", true},
    {"EAI_AGAIN", "Claude's login server cannot be found: is the runner's network down?", true},
    {"ECONNREFUSED", "Claude's login server cannot be reached", true},
    {"ECONNRESET", "The connection to Claude's login server broke: try again", true},
    {"socket hang up", "The connection to Claude's login server broke: try again", true},
    {"ETIMEDOUT", "Claude's login server does not answer: try again later", true},
    {"timeout of", "Claude's login server does not answer: try again later", true},
    {"certificate",
     "The certificate of Claude's login server is not trusted; behind a proxy that "
     "opens TLS, set NODE_EXTRA_CA_CERTS",
     true},
    {"status code 429", "Claude's login server is busy: try again in a few minutes", true},
    {"status code 5", "Claude's login server has trouble of its own: try again later", true},
};

/* Writes the complaint, which is one line of UTF-8, in words for people. */
static void say(const char *complaint, char *line, size_t size)
{
    for (size_t i = 0; i < COUNT_OF(meanings); i++)
        if (strstr(complaint, meanings[i].part)) {
            snprintf(line, size, "%s%s%s%s", meanings[i].sentence, meanings[i].keep ? " (" : "",
                     meanings[i].keep ? complaint : "", meanings[i].keep ? ")" : "");
            return;
        }
    snprintf(line, size, "%s", complaint);
}

bool login_cli_complaint(const struct login_cli *cli, size_t from, char *line, size_t size)
{
    const char *text = buf_str(&cli->errors);
    static const char *const failed[] = {"Login failed: ", "Couldn't log in: "};
    size_t end = cli->errors.len;
    while (end > from && (unsigned char)text[end - 1] <= ' ')
        end--;
    size_t begin = end;
    while (begin > from && text[begin - 1] != '\n')
        begin--;
    for (size_t i = 0; i < COUNT_OF(failed); i++)
        if (end - begin > strlen(failed[i]) &&
            strncmp(text + begin, failed[i], strlen(failed[i])) == 0)
            begin += strlen(failed[i]);
    if (end == begin)
        return false;
    AUTO(buf) struct buf clean = BUF_INIT(4 * OUTPUT_MAX);
    str_add_utf8(&clean, text + begin, end - begin);
    for (size_t i = 0; i < clean.len; i++)
        if ((unsigned char)clean.data[i] < ' ')
            clean.data[i] = ' ';
    say(buf_str(&clean), line, size);
    return true;
}

char *login_cli_credentials(const struct login_cli *cli)
{
    return path_join(cli->place, ".credentials.json");
}

bool login_cli_succeeded(const struct login_cli *cli, int status)
{
    return status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
           strstr(buf_str(&cli->said), "Login successful");
}

/* --- secrets ------------------------------------------------------------------------------- */

void login_cli_hide_state(const char *url, struct redact_set *secrets)
{
    const char *at = strstr(url, "state=");
    AUTO(str)
    char *state = at ? strndup(at + 6, strcspn(at + 6, "&#")) : NULL; /* Newer versions
                                                                       * have none. */
    if (state)
        redact_add(secrets, state);
}

void login_cli_hide_code(const char *code, struct redact_set *secrets)
{
    size_t n = strcspn(code, "#");
    AUTO(str) char *first = strndup(code, n);
    if (first)
        redact_add(secrets, first);
    if (code[n])
        redact_add(secrets, code + n + 1);
}
