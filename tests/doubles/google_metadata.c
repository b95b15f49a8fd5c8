/* The metadata server, and a port of its own for every account that executions run as. */
#include "google_auth.h"
#include "google_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAVOR "Metadata-Flavor: Google\r\n"
#define ACCOUNTS "/computeMetadata/v1/instance/service-accounts/"

static int answer(struct server_conn *conn, int status, const char *type, const char *text)
{
    char headers[256];
    snprintf(headers, sizeof headers, FLAVOR "Content-Type: %s\r\n", type);
    server_reply(conn, status, headers, text, strlen(text));
    return status;
}

static int answer_token(struct server_conn *conn, const char *account)
{
    store_lock();
    int64_t lifetime = world_setting("tokenLifetime");
    char *token = auth_token_new(account, lifetime), *text = NULL;
    store_unlock();
    if (asprintf(&text, "{\"access_token\":\"%s\",\"expires_in\":%lld,\"token_type\":\"Bearer\"}",
                 token, (long long)lifetime) < 0)
        abort();
    int status = answer(conn, 200, "application/json", text);
    free(token);
    free(text);
    return status;
}

static int answer_account(struct server_conn *conn, const char *account)
{
    char *text = NULL;
    if (asprintf(&text,
                 "{\"aliases\":[\"default\"],\"email\":\"%s\",\"scopes\":[\"https://"
                 "www.googleapis.com/auth/cloud-platform\"]}",
                 account) < 0)
        abort();
    int status = answer(conn, 200, "application/json", text);
    free(text);
    return status;
}

static int answer_below_account(struct server_conn *conn, const char *what, const char *account)
{
    if (strcmp(what, "token") == 0)
        return answer_token(conn, account);
    if (strcmp(what, "email") == 0)
        return answer(conn, 200, "application/text", account);
    if (strcmp(what, "scopes") == 0)
        return answer(conn, 200, "application/text",
                      "https://www.googleapis.com/auth/cloud-platform\n");
    if (!*what)
        return answer_account(conn, account);
    return answer(conn, 404, "text/html", "Not Found");
}

int auth_serve_metadata(struct server_conn *conn, const struct server_request *req,
                        const char *account)
{
    const char *flavor = server_header(req, "metadata-flavor");
    const char *path = req->path;
    size_t len = strlen(account);
    if (strcmp(path, "/") == 0)
        return answer(conn, 200, "application/text", "computeMetadata/\n");
    if (!flavor || strcmp(flavor, "Google") != 0 || server_header(req, "x-forwarded-for"))
        return answer(conn, 403, "text/html", "Missing Metadata-Flavor:Google header.");
    if (strcmp(req->method, "GET") != 0)
        return answer(conn, 405, "text/html", "Method Not Allowed");
    if (strncmp(path, ACCOUNTS "default/", sizeof ACCOUNTS + 7) == 0)
        return answer_below_account(conn, path + sizeof ACCOUNTS + 7, account);
    if (strncmp(path, ACCOUNTS, sizeof ACCOUNTS - 1) == 0 &&
        strncmp(path + sizeof ACCOUNTS - 1, account, len) == 0 &&
        path[sizeof ACCOUNTS - 1 + len] == '/')
        return answer_below_account(conn, path + sizeof ACCOUNTS + len, account);
    if (strcmp(path, "/computeMetadata/v1/project/project-id") == 0)
        return answer(conn, 200, "application/text", world.project);
    if (strcmp(path, "/computeMetadata/v1/project/numeric-project-id") == 0) {
        char number[32];
        snprintf(number, sizeof number, "%lld", world.project_number);
        return answer(conn, 200, "application/text", number);
    }
    if (strcmp(path, "/computeMetadata/v1/universe/universe-domain") == 0)
        return answer(conn, 200, "application/text", "googleapis.com");
    if (strcmp(path, "/computeMetadata/v1/instance/region") == 0)
        return answer(conn, 200, "application/text", "projects/1/regions/us-central1");
    if (strcmp(path, "/computeMetadata/v1/instance") == 0)
        return answer(conn, 200, "application/text", "service-accounts/\n");
    return answer(conn, 404, "text/html", "Not Found");
}

/* ---- of the executions ---- */

struct metadata {
    int fd;
    char account[256];
};

static void handle(struct server_conn *conn, const struct server_request *req, void *ctx)
{
    const struct metadata *metadata = ctx;
    auth_serve_metadata(conn, req, metadata->account);
}

static void *serve(void *arg)
{
    struct metadata *metadata = arg;
    server_serve(metadata->fd, NULL, handle, metadata);
    return NULL;
}

/* Listens on the port; the port, or 0. */
static int start(const char *account, int port)
{
    struct metadata *metadata = calloc(1, sizeof *metadata);
    pthread_t thread;
    metadata->fd = server_listen(&port);
    snprintf(metadata->account, sizeof metadata->account, "%s", account);
    if (metadata->fd < 0 || pthread_create(&thread, NULL, serve, metadata) != 0) {
        free(metadata);
        return 0;
    }
    pthread_detach(thread);
    return port;
}

/* A port that no connection gets as its own while this program is away: below those that the kernel
 * gives out. Other stand-ins, whose own ports differ, begin elsewhere. */
static int start_below(const char *account)
{
    enum { FIRST = 8000, COUNT = 12000, STEP = 97 };
    int port = 0;
    for (int i = 0; i < COUNT && !port; i++)
        port = start(account, FIRST + (world.port + i * STEP) % COUNT);
    return port;
}

int auth_metadata_port(const char *account)
{
    cJSON *known = store_getf("metadata:%s", account);
    if (known)
        return (int)known->valuedouble;
    int port = start_below(account);
    char name[300];
    snprintf(name, sizeof name, "metadata:%s", account);
    if (port)
        store_put(name, cJSON_CreateNumber(port));
    return port;
}

void auth_resume(void)
{
    const char *name;
    const cJSON *port;
    for (size_t i = store_seek("metadata:"); (port = store_at_prefix(i, "metadata:", &name)); i++)
        if (!start(name + strlen("metadata:"), (int)port->valuedouble))
            fprintf(stderr, "google-api: the metadata server of %s has lost its port\n", name);
}
