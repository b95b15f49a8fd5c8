#include "runner/cli/client.h"

#include "base/auto.h"
#include "base/fd.h"
#include "net/net.h"
#include "runner/config/vars.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define ANSWER_MAX (64u << 20)
#define CALL_MS 60000
#define SECRET_FILE_MAX 4096

void client_done(struct client *client)
{
    free(client->url);
    if (client->secret)
        explicit_bzero(client->secret, strlen(client->secret));
    free(client->secret);
}

/* --- which runner -------------------------------------------------------------------------- */

/* The first secret of a list "name:secret,…". */
static int take_secret(struct client *client, const char *text, struct err *err)
{
    text += strspn(text, " \t\r\n");
    size_t n = strcspn(text, ", \t\r\n");
    const char *colon = memchr(text, ':', n);
    if (colon) {
        n -= (size_t)(colon + 1 - text);
        text = colon + 1;
    }
    client->secret = strndup(text, n);
    return client->secret ? 0 : err_sys(err, "secret");
}

static int read_secret(struct client *client, const char *path, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(SECRET_FILE_MAX);
    if (file_read(path, &text, err))
        return err_wrap(err, "secret");
    return take_secret(client, buf_str(&text), err);
}

static int take_url(struct client *client, const char *text, const char *port, struct err *err)
{
    if (text)
        client->url = strdup(text);
    else if (asprintf(&client->url, "http://127.0.0.1:%s", port ? port : "8787") < 0)
        client->url = NULL;
    if (!client->url)
        return err_sys(err, "URL");
    for (size_t n = strlen(client->url); n > 0 && client->url[n - 1] == '/'; n--)
        client->url[n - 1] = '\0';
    if (strncasecmp(client->url, "http://", 7) != 0 && strncasecmp(client->url, "https://", 8) != 0)
        return err_set(err, ERR_INVALID, "'%.100s' is no http or https URL", client->url);
    return 0;
}

/* A variable from the environment, else from ./.env. */
static const char *find(const struct vars *env, const struct vars *file, const char *name)
{
    const char *value = vars_get(env, name);
    return value ? value : vars_get(file, name);
}

static int look_around(struct client *client, const char *url, const char *secret_file,
                       struct err *err)
{
    AUTO(vars) struct vars env = {0}, file = {0};
    AUTO(strlist) struct strlist ignored = STRLIST_INIT;
    vars_read_env(&env, environ);
    if (access(".env", R_OK) == 0)
        vars_read_file(&file, ".env", &ignored);
    if (take_url(client, url ? url : find(&env, &file, "RUNNER_URL"), find(&env, &file, "PORT"),
                 err))
        return -1;
    if (secret_file)
        return read_secret(client, secret_file, err);
    const struct vars *places[] = {&env, &file};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        const char *secret = vars_get(places[i], "RUNNER_SECRET");
        const char *path = vars_get(places[i], "RUNNER_SECRET_FILE");
        if (secret)
            return take_secret(client, secret, err);
        if (path)
            return read_secret(client, path, err);
    }
    return 0;
}

int client_open(struct client *client, int argc, char **argv, const char *usage, struct err *err)
{
    static const struct option known[] = {{"url", required_argument, NULL, 'u'},
                                          {"secret-file", required_argument, NULL, 's'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *url = NULL, *secret_file = NULL;
    int got;
    client->command = argv[0];
    while ((got = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        if (got == 'u')
            url = optarg;
        else if (got == 's')
            secret_file = optarg;
        else if (got == 'j')
            client->json = true;
        else if (got == 'h')
            return fputs(usage, stdout) < 0 ? -1 : 1;
        else
            return err_set(err, ERR_INVALID, "see claude-runner %s --help", argv[0]);
    }
    if (optind < argc)
        return err_set(err, ERR_INVALID, "unexpected '%.80s'", argv[optind]);
    return look_around(client, url, secret_file, err);
}

/* --- calls --------------------------------------------------------------------------------- */

static enum err_code code_of(const char *wire, int status)
{
    static const struct {
        enum err_code code;
        const char *wire;
        int status;
    } codes[] = {
#define CODE_ROW(name, wire, title, http, exit) {name, wire, http},
        ERR_CODES(CODE_ROW)
#undef CODE_ROW
    };
    for (size_t i = 0; wire && i < COUNT_OF(codes); i++)
        if (strcmp(codes[i].wire, wire) == 0)
            return codes[i].code;
    for (size_t i = 0; i < COUNT_OF(codes); i++)
        if (codes[i].status == status)
            return codes[i].code;
    return ERR_UPSTREAM;
}

static int explain(const struct client *client, const struct net_answer *answer, struct err *err)
{
    struct err ignored;
    AUTO(json) struct json *root = json_parse(buf_str(&answer->body), answer->body.len, &ignored);
    const char *detail = json_text(json_get(root, "detail"));
    enum err_code code = code_of(json_text(json_get(root, "code")), answer->status);
    if (code == ERR_FORBIDDEN)
        return err_set(err, code, "%s takes %s", client->url,
                       client->secret ? "another secret" : "a secret: set RUNNER_SECRET");
    if (!detail)
        return err_set(err, code, "%s answered %d", client->url, answer->status);
    return err_set(err, code, "%s", detail);
}

int client_fetch(struct client *client, const char *method, const char *path, const char *body,
                 struct buf *out, struct err *err)
{
    AUTO(str) char *url = NULL;
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    if (asprintf(&url, "%s%s", client->url, path) < 0)
        return err_sys(err, "URL");
    strlist_add(&headers, "Accept: application/json");
    if (client->secret)
        strlist_addf(&headers, "X-Runner-Secret: %s", client->secret);
    if (body)
        strlist_add(&headers, "Content-Type: application/json");
    const struct net_request request = {.method = method,
                                        .url = url,
                                        .headers = &headers,
                                        .body = body,
                                        .body_len = body ? strlen(body) : 0,
                                        .reach = NET_TRUSTED,
                                        .total_ms = CALL_MS,
                                        .answer_max = ANSWER_MAX};
    if (net_call(&request, &answer, err))
        return -1;
    if (answer.status < 200 || answer.status > 299)
        return explain(client, &answer, err);
    buf_add(out, buf_str(&answer.body), answer.body.len);
    return buf_check(out, "the answer", err);
}

struct json *client_call(struct client *client, const char *method, const char *path,
                         const char *body, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(ANSWER_MAX);
    if (client_fetch(client, method, path, body, &text, err))
        return NULL;
    struct json *root = json_parse(buf_str(&text), text.len, err);
    if (!root) {
        err->code = ERR_UPSTREAM;
        err_wrap(err, "%s", client->url);
    }
    return root;
}

int client_fail(const struct client *client, const struct err *err)
{
    fprintf(stderr, "claude-runner %s: %s\n", client->command, err->msg);
    return err_exit(err->code);
}
