/*
 * google-api: a stand-in for Google's APIs as far as the runner speaks to them, strict where they
 * are: requests are held against Google's own descriptions (google_schema.h), and every service on
 * one port of loopback.
 *
 *   google-api --state FOLDER [--port N] [--project ID] [--account E-MAIL] [--key-file PATH]
 *              [--user-file PATH] [--metadata-account E-MAIL] [--accept-token T]…
 *              [--job-program PATH] [--job-arg A]… [--job-env NAME=VALUE]…
 *              [--token-lifetime S] [--owner PID] [--die-with-parent]
 *
 * What it knows is in FOLDER and outlives it: killed and started again (on the same port) it goes
 * on where it was, and the executions that it has started go on meanwhile. With --owner all of it
 * ends when that process does.
 *
 *   POST /token                        the key file's token_uri
 *   /computeMetadata/…                 the metadata server, as the metadata account
 *   /storage, /upload, /download, /v1, /v2, /v3, /compute   the services
 *
 *   GET  /_state                       settings, counts, the plan
 *   GET, DELETE /_log[?contains=T][&id=METHOD]   {"requests":[{"method","url","id","account",
 *                                      "status" (0: none went out),"time_ms","headers","body"}],
 *                                      "count"}
 *   GET  /_log?lines=1                 those to Google's methods, one a line, without the rest
 *   POST /_control                     an object of any of
 *     NAME:NUMBER                      a setting (google_world.c)
 *     "faults":[{"method":GLOB?,"pathContains"?,"skip":0,"times":1,"delayMs"?,"status"?,
 *                "retryAfter"?,"cut":"before"|"after"?,"twice":true?,"wrongCrc":true?,
 *                "truncateAt":BYTES?,"cutUploadAt":BYTES?,"hold":true?}]
 *                                      in the place of the plan before; methods are Google's ids,
 *                                      and "token", "metadata", "upload" (pieces of an upload)
 *     "expireTokens":true, "expirePages":true
 *     "deny"|"allow"|"only":{"account","permissions":[…]}
 *     "lose":{"execution":NAME,"how":"fail"|"forget"|"hang"}
 *     "vanish":{"bucket","name"}       an object is gone
 *     "age":{"bucket","name","ms"}     an object was written so long ago
 *     "killExecutions":true
 *     "release":true                   those that are held ("held" in the state) go on
 */
#include "google_auth.h"
#include "google_faults.h"
#include "google_objects.h"
#include "google_run.h"
#include "google_world.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct call_row *const tables[] = {
    google_storage_rows, google_object_rows,    google_upload_rows, google_kms_rows,
    google_run_rows,     google_execution_rows, google_secret_rows, google_iam_rows,
    google_project_rows, google_compute_rows,   google_build_rows,  google_service_rows,
};

static const struct call_row *find_row(const char *id)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const struct call_row *row = tables[i]; row->method; row++)
            if (strcmp(row->method, id) == 0)
                return row;
    return NULL;
}

/* Whether the method's service is switched on in the project, where that is enforced. */
static bool is_enabled(struct call *call)
{
    char service[64];
    snprintf(service, sizeof service, "%.*s", (int)strcspn(call->method->id, "."),
             call->method->id);
    if (!world_setting("enforceServices") || strcmp(service, "serviceusage") == 0 ||
        strcmp(call->method->id, "cloudresourcemanager.projects.search") == 0 ||
        strcmp(call->method->id, "cloudresourcemanager.projects.create") == 0 ||
        strcmp(call->method->id, "cloudresourcemanager.operations.get") == 0 ||
        store_getf("service:%s.googleapis.com", service))
        return true;
    call_fail(call, "PERMISSION_DENIED",
              "%s.googleapis.com has not been used in project %s before or it is disabled. Enable "
              "it, then retry.",
              service, world.project);
    return false;
}

static bool is_upload(const struct server_request *req)
{
    return strncmp(req->path, "/upload/", 8) == 0;
}

/* ---- one call ---- */

/* Reads and checks the body; false after a refusal. */
static bool take_body(struct call *call)
{
    char fault[GOOGLE_FAULT_MAX];
    const char *type = server_header(call->req, "content-type");
    if (google_query_fault(call->method, call->req->query, fault)) {
        call_fail(call, "INVALID_ARGUMENT", "%s", fault);
        return false;
    }
    if (is_upload(call->req) || call->req->body_size == 0)
        return true;
    /* Google's Node clients send an empty string to methods that take no message. */
    if (call->req->body_size == 2 && memcmp(call->req->body, "\"\"", 2) == 0 &&
        strcmp(call->method->message, "-") == 0)
        return true;
    if (!type || strncasecmp(type, "application/json", 16) != 0) {
        call_fail(call, "INVALID_ARGUMENT", "Content-Type must be application/json.");
        return false;
    }
    call->body = strlen(call->req->body) == call->req->body_size
                     ? cJSON_ParseWithOpts(call->req->body, NULL, 1)
                     : NULL;
    if (!cJSON_IsObject(call->body))
        call_fail(call, "INVALID_ARGUMENT",
                  "Invalid JSON payload received. Unexpected token or end.");
    else if (google_body_fault(call->method, call->body, fault))
        call_fail(call, "INVALID_ARGUMENT", "%s", fault);
    return !call->sent;
}

/* Carries it out, twice when a fault says so: then the first answer is lost. */
static void carry_out(struct call *call, const struct call_row *row, bool twice)
{
    cJSON *answer;
    if (!row->unlocked)
        store_lock();
    answer = row->handler(call);
    if (twice && !call->sent) {
        cJSON_Delete(answer);
        answer = row->handler(call);
    }
    if (!row->unlocked)
        store_unlock();
    call_answer(call, answer);
}

static const char *serve_method(struct call *call)
{
    const char *path = call->req->path;
    bool twice;
    if (is_upload(call->req))
        path += strlen("/upload");
    else if (strncmp(path, "/download/", 10) == 0)
        path += strlen("/download");
    call->method = google_route(call->req->method, path, call->args, &call->n_args);
    const struct call_row *row = call->method ? find_row(call->method->id) : NULL;
    if (!row) {
        call_fail(call, "NOT_FOUND", "The requested URL was not found on this server.");
        return call->method ? call->method->id : "";
    }
    if (faults_apply(call, call->method->id, &twice))
        return call->method->id;
    store_lock();
    bool known = auth_identify(call);
    store_unlock();
    if (known && take_body(call)) {
        store_lock();
        bool may = is_enabled(call) && (!row->permission || auth_permit(call, row->permission));
        store_unlock();
        if (may)
            carry_out(call, row, twice);
    }
    return call->method->id;
}

/* The parts that are not one of Google's methods; NULL: it is one. */
static const char *serve_other(struct call *call)
{
    bool twice, token = strcmp(call->req->path, "/token") == 0;
    bool metadata =
        strncmp(call->req->path, "/computeMetadata/", 17) == 0 || strcmp(call->req->path, "/") == 0;
    bool upload = is_upload(call->req) && strcmp(call->req->method, "POST") != 0;
    const char *id = token ? "token" : metadata ? "metadata" : upload ? "upload" : NULL;
    if (!id || faults_apply(call, id, &twice))
        return id;
    if (call->lose_answer && !upload)
        return id; /* a token that nobody gets is none */
    if (token)
        call->status = auth_serve_token(call->conn, call->req);
    else if (metadata)
        call->status = auth_serve_metadata(call->conn, call->req, world.metadata_account);
    else if (!upload_serve(call))
        call_fail(call, "NOT_FOUND", "The upload is not known.");
    return id;
}

static void handle(struct server_conn *conn, const struct server_request *req, void *ctx)
{
    (void)ctx;
    if (control_serve(conn, req))
        return;
    struct call call = {.conn = conn, .req = req, .cut_body_at = -1, .cut_upload_at = -1};
    bool answered = false;
    server_before_answer(conn, log_expect, &answered);
    const char *id = serve_other(&call);
    if (!id)
        id = serve_method(&call);
    server_before_answer(conn, NULL, NULL);
    if (call.lose_answer) {
        call.status = 0;
        server_cut(conn);
    }
    log_add(&call, id, answered);
    for (size_t i = 0; i < call.n_args; i++)
        free(call.args[i]);
    cJSON_Delete(call.body);
    cJSON_Delete(call.note);
}

/* ---- the start ---- */

static int usage(void)
{
    fputs("usage: google-api --state FOLDER [--port N] [--project ID] [--account E-MAIL]\n"
          "                  [--key-file PATH] [--user-file PATH] [--metadata-account E-MAIL]\n"
          "                  [--accept-token T]... [--job-program PATH] [--job-arg A]...\n"
          "                  [--job-env NAME=VALUE]... [--token-lifetime S] [--owner PID]\n"
          "                  [--die-with-parent]\n",
          stderr);
    return 2;
}

static bool add(const char **list, const char *value)
{
    size_t n = 0;
    while (n + 1 < WORLD_LIST_MAX && list[n])
        n++;
    list[n] = value;
    return n + 1 < WORLD_LIST_MAX;
}

static long token_lifetime;

static bool take_option(const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **text;
        const char **list;
    } options[] = {
        {"--state", &world.state, NULL},
        {"--project", &world.project, NULL},
        {"--account", &world.account, NULL},
        {"--key-file", &world.key_file, NULL},
        {"--user-file", &world.user_file, NULL},
        {"--metadata-account", &world.metadata_account, NULL},
        {"--job-program", &world.job_program, NULL},
        {"--job-arg", NULL, world.job_args},
        {"--job-env", NULL, world.job_env},
        {"--accept-token", NULL, world.accepted_tokens},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (strcmp(options[i].name, name) != 0)
            continue;
        if (options[i].list)
            return add(options[i].list, value);
        *options[i].text = value;
        return true;
    }
    if (strcmp(name, "--port") == 0)
        world.port = (int)strtol(value, NULL, 10);
    else if (strcmp(name, "--owner") == 0)
        world.owner = (int)strtol(value, NULL, 10);
    else if (strcmp(name, "--token-lifetime") == 0)
        token_lifetime = strtol(value, NULL, 10);
    else
        return false;
    return true;
}

static bool parse_options(int argc, char **argv)
{
    static char account[128];
    world.project = "stand-in";
    world.project_number = 123456789012;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--die-with-parent") == 0)
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        else if (i + 1 == argc || !take_option(argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    snprintf(account, sizeof account, "runner@%s.iam.gserviceaccount.com", world.project);
    if (!world.account)
        world.account = account;
    if (!world.metadata_account)
        world.metadata_account = world.account;
    return world.state != NULL;
}

static void *watch_owner(void *arg)
{
    struct pollfd pfd = {.fd = (int)syscall(SYS_pidfd_open, world.owner, 0), .events = POLLIN};
    (void)arg;
    if (pfd.fd >= 0)
        poll(&pfd, 1, -1);
    _exit(1);
}

static bool begin(void)
{
    pthread_t thread;
    store_lock();
    bool good = auth_init();
    if (good && token_lifetime)
        world_set("tokenLifetime", token_lifetime);
    if (good)
        auth_resume();
    store_unlock();
    return good && (!world.owner || pthread_create(&thread, NULL, watch_owner, NULL) == 0);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--supervise") == 0)
        return supervise(argv[2]);
    if (!parse_options(argc, argv))
        return usage();
    google_schema_init();
    google_schema_add(google_compute_methods, google_compute_schemas);
    google_schema_add(google_build_methods, google_build_schemas);
    server_stream_bodies(is_upload);
    signal(SIGCHLD, SIG_IGN); /* supervisors are not waited for */
    int fd = server_listen(&world.port);
    snprintf(world.base, sizeof world.base, "http://127.0.0.1:%d", world.port);
    if (fd < 0 || !store_open(world.state) || !begin()) {
        perror("google-api");
        return 1;
    }
    printf("listening on %s\n", world.base);
    fflush(stdout);
    server_serve(fd, NULL, handle, NULL);
    perror("google-api");
    return 1;
}
