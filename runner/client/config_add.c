/* config add, config list, secret new: the known runners, and a new caller's secret. */
#include "base/auto.h"
#include "base/fd.h"
#include "base/form.h"
#include "base/id.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/client/commands.h"
#include "runner/client/terminal.h"
#include "runner/config/caller_limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_BYTES 4096
#define FILE_MAX 65536

/* --- asking -------------------------------------------------------------------------------- */

/* Takes an answer from the option of that name, else asks the person; "" for none. */
static int ask(const struct call *call, const char *option, const char *question, bool hidden,
               char *answer, struct err *err)
{
    const char *given = options_value(&call->given, option);
    if (given)
        snprintf(answer, ANSWER_BYTES, "%s", given);
    if (given)
        return 0;
    if (!isatty(STDIN_FILENO) && !options_value(&call->given, "ask")) {
        answer[0] = '\0';
        return 0;
    }
    fprintf(stderr, "%s: ", question);
    return terminal_read_line(answer, ANSWER_BYTES, hidden, NULL)
               ? err_set(err, ERR_INVALID, "no answer: %s", question)
               : 0;
}

struct answers {
    char url[ANSWER_BYTES], secret[ANSWER_BYTES], access_id[ANSWER_BYTES],
        access_secret[ANSWER_BYTES];
};

static int ask_all(const struct call *call, struct answers *a, struct err *err)
{
    const char *file = options_value(&call->given, "secret-file");
    AUTO(buf_wipe) struct buf text = BUF_INIT(ANSWER_BYTES - 1);
    if (ask(call, "url", "Address, https://…", false, a->url, err))
        return -1;
    if (file && file_read(file, &text, err))
        return err_wrap(err, "--secret-file");
    if (file)
        snprintf(a->secret, sizeof(a->secret), "%.*s", (int)strcspn(buf_str(&text), "\r\n"),
                 buf_str(&text));
    else if (ask(call, "secret", "Secret", true, a->secret, err))
        return -1;
    if (ask(call, "access-id", "Client id of a Cloudflare Access service token, if any", false,
            a->access_id, err))
        return -1;
    return a->access_id[0] ? ask(call, "access-secret", "Its secret", true, a->access_secret, err)
                           : 0;
}

/* --- trying -------------------------------------------------------------------------------- */

static int try_it(const struct answers *a, struct err *err)
{
    struct settings to = {.url = strdup(a->url),
                          .secret = a->secret[0] ? strdup(a->secret) : NULL,
                          .access_id = a->access_id[0] ? strdup(a->access_id) : NULL,
                          .access_secret = a->access_secret[0] ? strdup(a->access_secret) : NULL};
    AUTO(json) struct json *answer = client_call(&to, "GET", "/tasks/status", NULL, err);
    settings_done(&to);
    return answer ? 0 : -1;
}

/* --- writing ------------------------------------------------------------------------------- */

static int check_name(const char *name, struct err *err)
{
    return id_is_valid(name) ? 0 : err_set(err, ERR_INVALID, "'%.60s' is no name", name);
}

/* Copies the file's text without the section of that name. */
static void keep_others(const char *text, const char *name, struct buf *out)
{
    AUTO(str) char *head = NULL;
    bool skipping = false;
    if (asprintf(&head, "[%s]", name) < 0)
        return;
    while (*text) {
        size_t n = strcspn(text, "\n");
        n += text[n] == '\n';
        if (*text == '[')
            skipping = strncmp(text, head, strlen(head)) == 0;
        if (!skipping)
            buf_add(out, text, n);
        text += n;
    }
}

static int write_secret(const char *config, const char *name, const char *what, const char *secret,
                        struct buf *out, struct err *err)
{
    AUTO(str) char *path = NULL;
    if (asprintf(&path, "%.*s/%s.%s", (int)(strrchr(config, '/') - config), config, name, what) < 0)
        return err_sys(err, "secret");
    AUTO(buf_wipe) struct buf line = BUF_INIT(ANSWER_BYTES + 2);
    buf_addf(&line, "%s\n", secret);
    if (file_replace(path, buf_str(&line), line.len, 0600, err))
        return -1;
    return buf_addf(out, "%s_file = %s\n", what, path);
}

static int save(const char *name, const struct answers *a, bool is_default, struct err *err)
{
    AUTO(str) char *path = settings_path(), *dir = path ? strdup(path) : NULL;
    AUTO(buf_wipe) struct buf old = BUF_INIT(FILE_MAX), out = BUF_INIT(FILE_MAX);
    if (!dir)
        return err_set(err, ERR_CONFIG, "neither XDG_CONFIG_HOME nor HOME is set");
    *strrchr(dir, '/') = '\0';
    if (path_make_dirs(dir, 0700, err))
        return -1;
    if (file_read(path, &old, err) && err->code != ERR_NOT_FOUND)
        return -1;
    if (is_default)
        buf_addf(&out, "default = %s\n", name);
    AUTO(buf_wipe) struct buf others = BUF_INIT(FILE_MAX);
    keep_others(buf_str(&old), name, &others);
    const char *rest = buf_str(&others);
    if (is_default && str_starts(rest, "default")) /* The line before it counts. */
        rest += strcspn(rest, "\n") + (strchr(rest, '\n') != NULL);
    buf_adds(&out, rest);
    buf_addf(&out, "%s[%s]\nurl = %s\n", out.len > 0 ? "\n" : "", name, a->url);
    if (a->secret[0] && write_secret(path, name, "secret", a->secret, &out, err))
        return -1;
    if (a->access_id[0])
        buf_addf(&out, "access_client_id = %s\n", a->access_id);
    if (a->access_secret[0] &&
        write_secret(path, name, "access_client_secret", a->access_secret, &out, err))
        return -1;
    if (buf_check(&out, "the configuration", err))
        return -1;
    return file_replace(path, buf_str(&out), out.len, 0600, err);
}

int client_config_add(struct call *call, struct err *err)
{
    struct answers a = {0};
    struct form_url url;
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    AUTO(str) char *chosen = NULL;
    const char *name = call->args.items[0];
    if (check_name(name, err) || ask_all(call, &a, err) || settings_names(&names, &chosen, err))
        return -1;
    if (form_url(a.url, &url))
        return err_set(err, ERR_INVALID, "'%.100s' is no http or https URL", a.url);
    if (!options_value(&call->given, "untried") && try_it(&a, err))
        return err_wrap(err, "it does not work, nothing was kept");
    bool is_default = names.count == 0 || options_value(&call->given, "default");
    int rc = save(name, &a, is_default, err);
    explicit_bzero(&a, sizeof(a));
    if (rc == 0)
        printf("%s%s\n", name, is_default ? " is the default now" : "");
    return rc;
}

int client_config_list(struct call *call, struct err *err)
{
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    AUTO(str) char *chosen = NULL;
    (void)call;
    if (settings_names(&names, &chosen, err))
        return -1;
    for (size_t i = 0; i < names.count; i++)
        printf("%s%s\n", names.items[i],
               chosen && strcmp(chosen, names.items[i]) == 0 ? "  (default)" : "");
    return 0;
}

/* Makes a named caller's secret: the runner accepts it once it is in RUNNER_SECRET. */
int client_secret_new(struct call *call, struct err *err)
{
    char token[ID_TOKEN_SIZE];
    const char *limit;
    if (check_name(call->args.items[0], err))
        return -1;
    for (size_t i = 0; (limit = options_nth(&call->given, "limit", i)); i++)
        if (caller_limits_check_one(limit, err))
            return err_wrap(err, "--limit %.60s", limit);
    id_token(token);
    printf("%s:%s\n", call->args.items[0], token);
    fprintf(stderr, "add it to RUNNER_SECRET (comma separated), then reload the runner; "
                    "the caller sends what follows the colon\n");
    for (size_t i = 0; (limit = options_nth(&call->given, "limit", i)); i++)
        fprintf(stderr, "%s%s.%s%s", i == 0 ? "add to CALLER_LIMITS: " : ",", call->args.items[0],
                limit, options_nth(&call->given, "limit", i + 1) ? "" : "\n");
    explicit_bzero(token, sizeof(token));
    return 0;
}
