#include "runner/oauth/cli.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX 65536 /* more is read and forgotten */
#define GRACE_MS 2000

/* Variables of the daemon's own that the CLI gets. */
static const char *const passed_on[] = {
    "PATH",         "LANG",
    "LC_ALL",       "LC_CTYPE",
    "TZ",           "HTTP_PROXY",
    "http_proxy",   "NO_PROXY",
    "no_proxy",     "HTTPS_PROXY",
    "https_proxy",  "SSL_CERT_FILE",
    "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
};

void cli_init(struct cli *cli)
{
    *cli = (struct cli){.in = -1, .out = -1, .err = -1};
    buf_init(&cli->said, OUTPUT_MAX);
    buf_init(&cli->errors, OUTPUT_MAX);
}

void cli_done(struct cli *cli)
{
    struct err ignored;
    child_free(cli->child);
    cli->child = NULL;
    fd_close(&cli->in);
    fd_close(&cli->out);
    fd_close(&cli->err);
    buf_wipe(&cli->said);
    buf_wipe(&cli->errors);
    if (cli->place)
        path_remove_tree(cli->place, &ignored);
    free(cli->place);
    cli->place = NULL;
}

/* --- starting ------------------------------------------------------------------------------ */

static void add_environment(const struct cli *cli, const char *marker, struct strlist *env)
{
    const char *home = getenv("HOME");
    for (size_t i = 0; i < COUNT_OF(passed_on); i++) {
        const char *value = getenv(passed_on[i]);
        if (value)
            strlist_addf(env, "%s=%s", passed_on[i], value);
    }
    strlist_addf(env, "HOME=%s", home && *home == '/' ? home : cli->place);
    strlist_addf(env, "CLAUDE_CONFIG_DIR=%s", cli->place);
    strlist_add(env, "BROWSER=true"); /* nobody sits here: the URL goes to who asked for it */
    strlist_add(env, "DISABLE_AUTOUPDATER=1");
    strlist_add(env, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1");
    strlist_add(env, marker);
}

static struct plan *make_plan(const struct cli *cli, const struct config *config,
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

/* A place of the login's own, empty. */
static int make_place(struct cli *cli, const struct config *config, struct err *err)
{
    cli->place = path_join(config->state_dir, "login");
    if (!cli->place)
        return err_sys(err, "login");
    if (path_remove_tree(cli->place, err)) /* of a runner that was killed */
        return -1;
    return mkdir(cli->place, 0700) ? err_sys(err, "cannot make '%s'", cli->place) : 0;
}

struct pipes {
    int in[2], out[2], err[2];
};

static void close_pipes(struct pipes *pipes)
{
    int *ends[] = {&pipes->in[0],  &pipes->in[1],  &pipes->out[0],
                   &pipes->out[1], &pipes->err[0], &pipes->err[1]};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        fd_close(ends[i]);
}

static int take_end(int *end)
{
    int fd = *end;
    *end = -1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int cli_start(struct cli *cli, const struct config *config, struct launcher *launcher,
              const char *marker, struct err *err)
{
    struct pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}};
    if (make_place(cli, config, err))
        return -1;
    AUTO(plan) struct plan *plan = make_plan(cli, config, marker, err);
    if (!plan)
        return -1;
    if (pipe2(pipes.in, O_CLOEXEC) || pipe2(pipes.out, O_CLOEXEC) || pipe2(pipes.err, O_CLOEXEC)) {
        close_pipes(&pipes);
        return err_sys(err, "login");
    }
    const int stdio[3] = {pipes.in[0], pipes.out[1], pipes.err[1]};
    cli->child = launcher_spawn(launcher, plan, stdio, err);
    if (cli->child) {
        cli->in = take_end(&pipes.in[1]);
        cli->out = take_end(&pipes.out[0]);
        cli->err = take_end(&pipes.err[0]);
    }
    close_pipes(&pipes);
    return cli->child ? 0 : -1;
}

/* --- talking ------------------------------------------------------------------------------- */

static bool read_some(int *fd, struct buf *to)
{
    char piece[4096];
    ssize_t n = *fd < 0 ? -1 : read(*fd, piece, sizeof(piece));
    if (n > 0 && to->len + (size_t)n <= to->max)
        buf_add(to, piece, (size_t)n);
    if (n == 0)
        fd_close(fd); /* poll() would report the end again and again */
    explicit_bzero(piece, sizeof(piece));
    return n > 0;
}

bool cli_read(struct cli *cli)
{
    bool out = read_some(&cli->out, &cli->said);
    return read_some(&cli->err, &cli->errors) || out;
}

void cli_wait(const struct cli *cli, int wake_fd, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = child_fd(cli->child), .events = POLLIN},
                           {.fd = cli->out, .events = POLLIN},
                           {.fd = cli->err, .events = POLLIN},
                           {.fd = wake_fd, .events = POLLIN}};
    poll(fds, COUNT_OF(fds), timeout_ms);
}

void cli_say(struct cli *cli, const char *line)
{
    /* far less than a pipe takes without waiting; a CLI that is gone ends by its own event */
    (void)!write(cli->in, line, strlen(line));
}

/* --- what it says -------------------------------------------------------------------------- */

bool cli_find_url(const struct cli *cli, char *url, size_t size)
{
    const char *at = strstr(buf_str(&cli->said), "https://");
    size_t len = 0;
    while (at && at[len] > ' ' && at[len] <= '~' && !strchr("\"'<>\\`", at[len]))
        len++;
    if (!at || at[len] == '\0' || len >= size) /* an end must have come */
        return false;
    snprintf(url, size, "%.*s", (int)len, at);
    return true;
}

bool cli_complaint(const struct cli *cli, size_t from, char *line, size_t size)
{
    const char *text = buf_str(&cli->errors);
    static const char failed[] = "Login failed: ";
    size_t end = cli->errors.len;
    while (end > from && (unsigned char)text[end - 1] <= ' ')
        end--;
    size_t begin = end;
    while (begin > from && text[begin - 1] != '\n')
        begin--;
    if (end - begin > strlen(failed) && strncmp(text + begin, failed, strlen(failed)) == 0)
        begin += strlen(failed);
    if (end == begin)
        return false;
    AUTO(buf) struct buf clean = BUF_INIT(4 * OUTPUT_MAX);
    str_add_utf8(&clean, text + begin, end - begin);
    for (size_t i = 0; i < clean.len; i++)
        if ((unsigned char)clean.data[i] < ' ')
            clean.data[i] = ' ';
    snprintf(line, size, "%s", buf_str(&clean));
    return true;
}

char *cli_credentials(const struct cli *cli)
{
    return path_join(cli->place, ".credentials.json");
}

bool cli_succeeded(const struct cli *cli)
{
    int status = child_status(cli->child);
    return status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
           strstr(buf_str(&cli->said), "Login successful");
}

/* --- secrets ------------------------------------------------------------------------------- */

void cli_hide_state(const char *url, struct redact_set *secrets)
{
    const char *at = strstr(url, "state=");
    AUTO(str) char *state = at ? strndup(at + 6, strcspn(at + 6, "&#")) : NULL;
    if (state)
        redact_add(secrets, state);
}

void cli_hide_code(const char *code, struct redact_set *secrets)
{
    size_t n = strcspn(code, "#");
    AUTO(str) char *first = strndup(code, n);
    if (first)
        redact_add(secrets, first);
    if (code[n])
        redact_add(secrets, code + n + 1);
}
