/*
 * Webhooks: the daemon, receivers that behave in every way, and one that is not ours.
 */
#include "loopback.h"
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET "callback-secret-0123456789"
#define STANDARD_SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

/* --- a receiver ---------------------------------------------------------------------------- */

enum { SEEN_MAX = 128, HANG = -1, CLOSE = 0 };

struct receiver {
    struct loopback *http;
    _Atomic int status; /* of the answers, or HANG, or CLOSE */
    _Atomic int next;   /* that of all after the next one; 0: the same */
    const char *_Atomic headers;
    _Atomic bool long_body;
    _Atomic int count, at_once, crowd;
    pthread_mutex_t lock;
    char *ids[SEEN_MAX], *bodies[SEEN_MAX], *heads[SEEN_MAX];
};

static void keep(struct receiver *r, struct loopback_call *call, const char *body)
{
    char id[80] = "";
    loopback_header(call, "webhook-id", id, sizeof id);
    pthread_mutex_lock(&r->lock);
    int n = r->count;
    if (n < SEEN_MAX) {
        r->ids[n] = strdup(id);
        r->bodies[n] = strdup(body);
        r->heads[n] = strdup(call->head);
    }
    r->count = n + 1;
    pthread_mutex_unlock(&r->lock);
}

static bool answer_long(struct loopback_call *call)
{
    char piece[65536];
    memset(piece, 'x', sizeof piece);
    if (!loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n"))
        return false;
    for (int i = 0; i < 160; i++)
        if (!loopback_send(call, piece, sizeof piece))
            return false;
    return true;
}

static bool receive(struct loopback_call *call, void *arg)
{
    struct receiver *r = arg;
    int now = atomic_fetch_add(&r->at_once, 1) + 1;
    if (now > r->crowd)
        r->crowd = now;
    char *body = loopback_body(call);
    int status = r->status;
    keep(r, call, body);
    free(body);
    if (r->next)
        r->status = r->next;
    bool go_on = false;
    if (status == HANG)
        loopback_await_close(call, 60000);
    else if (r->long_body)
        go_on = answer_long(call);
    else if (status != CLOSE)
        go_on = loopback_answer(call, status, r->headers ? r->headers : "", "");
    atomic_fetch_sub(&r->at_once, 1);
    return go_on;
}

static struct receiver *receiver_new(int status)
{
    struct receiver *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->status = status;
    pthread_mutex_init(&r->lock, NULL);
    r->http = loopback_start(receive, r);
    return r;
}

static void receiver_free(struct receiver *r)
{
    loopback_stop(r->http);
    for (int i = 0; i < SEEN_MAX; i++) {
        free(r->ids[i]);
        free(r->bodies[i]);
        free(r->heads[i]);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* How many of the requests had this id. */
static int seen_with(struct receiver *r, const char *id)
{
    int found = 0;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->count && i < SEEN_MAX; i++)
        found += strcmp(r->ids[i], id) == 0;
    pthread_mutex_unlock(&r->lock);
    return found;
}

/* The body of the first request about the task, parsed; NULL when there is none. */
static cJSON *body_of(struct receiver *r, const char *task)
{
    cJSON *found = NULL;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->count && i < SEEN_MAX && !found; i++) {
        cJSON *json = cJSON_Parse(r->bodies[i]);
        if (strcmp(json_text(json, "taskId"), task) == 0)
            found = json;
        else
            cJSON_Delete(json);
    }
    pthread_mutex_unlock(&r->lock);
    return found;
}

/* --- a runner that knows it ---------------------------------------------------------------- */

static struct runner *hooked_runner(void)
{
    struct runner *runner = runner_new();
    runner_set(runner, "CALLBACK_SECRET", SECRET);
    runner_set(runner, "CALLBACK_ALLOW", "127.0.0.1");
    runner_set(runner, "CALLBACK_RETRY_SECONDS", "1,1,1");
    return runner;
}

/* "callbackUrl":"…/hook?token=hunter2" and more fields. */
static char *fields_to(const struct receiver *r, const char *more)
{
    char *url = loopback_url(r->http, "/hook?token=hunter2");
    char *fields = textf("\"callbackUrl\":\"%s\"%s%s", url, *more ? "," : "", more);
    free(url);
    return fields;
}

static char *submit(const struct runner *runner, const struct receiver *r, const char *prompt,
                    const char *more)
{
    char *fields = fields_to(r, more);
    char *id = runner_submit(runner, prompt, fields);
    free(fields);
    return id;
}

static cJSON *webhook_of(const struct runner *runner, const char *task)
{
    char *path = textf("/tasks/%s", task);
    struct reply *reply = runner_get(runner, path);
    assert_status(reply, 200);
    cJSON *webhook = cJSON_DetachItemFromObject(reply->json, "webhook");
    assert_non_null(webhook);
    reply_free(reply);
    free(path);
    return webhook;
}

static bool has_state(const struct runner *runner, const char *task, const char *state)
{
    cJSON *webhook = webhook_of(runner, task);
    bool is = strcmp(json_text(webhook, "state"), state) == 0;
    cJSON_Delete(webhook);
    return is;
}

static int attempts_of(const struct runner *runner, const char *task)
{
    cJSON *webhook = webhook_of(runner, task);
    int attempts = (int)json_number(webhook, "attempts");
    cJSON_Delete(webhook);
    return attempts;
}

static char *id_of(const struct runner *runner, const char *task)
{
    cJSON *webhook = webhook_of(runner, task);
    char *id = strdup(json_text(webhook, "id"));
    cJSON_Delete(webhook);
    return id;
}

static void redeliver(const struct runner *runner, const char *task, int status, const char *code)
{
    char *path = textf("/tasks/%s/redeliver", task);
    struct reply *reply = runner_post(runner, path, NULL);
    if (code) {
        assert_problem(reply, status, code);
    } else {
        assert_status(reply, status);
        assert_json_text(reply->json, "taskId", task);
        assert_json_text(reply->json, "webhook.state", "pending");
    }
    reply_free(reply);
    free(path);
}

/* --- the receiver that is not ours --------------------------------------------------------- */

struct node {
    pid_t pid;
    char *log, *port_file, *out;
    int port;
};

static struct node node_start(const struct runner *runner, const char *secret, const char *cert,
                              const char *key)
{
    struct node node = {.log = textf("%s/seen", runner->dir),
                        .port_file = textf("%s/seen.port", runner->dir),
                        .out = textf("%s/node", runner->dir)};
    char *own[] = {strdup(secret), strdup(cert ? cert : ""), strdup(key ? key : "")};
    char *argv[] = {(char[]){"/usr/bin/node"},
                    (char[]){TEST_WEBHOOKS_FOLDER "/receiver.mjs"},
                    own[0],
                    node.log,
                    cert ? own[1] : NULL,
                    cert ? own[2] : NULL,
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    unlink(node.log);
    unlink(node.port_file);
    node.pid = proc_start(argv, env, node.out, node.out);
    EVENTUALLY(20000, file_size(node.port_file) > 1 || !proc_alive(node.pid));
    char *port = read_file(node.port_file, NULL);
    char *said = read_file(node.out, NULL);
    if (!port)
        fail_msg("%s", said ? said : "");
    node.port = (int)strtol(port, NULL, 10);
    free(port);
    free(said);
    for (int i = 0; i < 3; i++)
        free(own[i]);
    return node;
}

static void node_stop(struct node *node)
{
    int status;
    kill(node->pid, SIGKILL);
    proc_wait(node->pid, 10000, &status);
    free(node->log);
    free(node->port_file);
    free(node->out);
}

/* Its only request so far. */
static cJSON *node_seen(const struct node *node)
{
    EVENTUALLY(20000, file_size(node->log) > 0);
    char *text = read_file(node->log, NULL);
    cJSON *seen = cJSON_Parse(text);
    assert_non_null(seen);
    free(text);
    return seen;
}

static void skip_without_node(void)
{
    if (access("/usr/bin/node", X_OK) ||
        access(TEST_WEBHOOKS_FOLDER "/node_modules/standardwebhooks", R_OK))
        SKIP_BECAUSE("node or standardwebhooks is missing (npm ci in tests/webhooks)");
}

static void make_certificate(const struct runner *runner, char **ret_cert, char **ret_key)
{
    int status = -1;
    *ret_cert = textf("%s/tls.crt", runner->dir);
    *ret_key = textf("%s/tls.key", runner->dir);
    char *argv[] = {(char[]){"/usr/bin/openssl"},
                    (char[]){"req"},
                    (char[]){"-x509"},
                    (char[]){"-newkey"},
                    (char[]){"rsa:2048"},
                    (char[]){"-nodes"},
                    (char[]){"-days"},
                    (char[]){"2"},
                    (char[]){"-subj"},
                    (char[]){"/CN=localhost"},
                    (char[]){"-addext"},
                    (char[]){"subjectAltName=DNS:localhost"},
                    (char[]){"-keyout"},
                    *ret_key,
                    (char[]){"-out"},
                    *ret_cert,
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    pid_t pid = proc_start(argv, env, NULL, NULL);
    assert_true(proc_wait(pid, 30000, &status));
    assert_int_equal(status, 0);
}

static void other_peoples_code_takes_both_signatures(void **state)
{
    (void)state;
    static const char *const secrets[] = {SECRET, STANDARD_SECRET};
    skip_without_node();
    for (size_t i = 0; i < COUNT(secrets); i++) {
        struct runner *runner = hooked_runner();
        runner_set(runner, "CALLBACK_SECRET", secrets[i]);
        runner_start(runner);
        struct node node = node_start(runner, secrets[i], NULL, NULL);
        char *more = textf("\"callbackUrl\":\"http://127.0.0.1:%d/hook?a=b\","
                           "\"metadata\":{\"order\":[1, 2.50]}",
                           node.port);
        char *json = prompt_json("standin: ok gr\xc3\xbc\xc3\x9f dich", more);
        struct reply *reply = runner_post(runner, "/run-async", json);
        assert_status(reply, 202);
        const char *id = json_text(reply->json, "taskId");
        cJSON *seen = node_seen(&node);
        assert_json_text(seen, "method", "POST");
        assert_json_text(seen, "url", "/hook?a=b");
        assert_json_text(seen, "standard", "ok");
        assert_json_text(seen, "plain", "ok");
        assert_json_text(seen, "headers.content-type", "application/json");
        assert_json_text(seen, "body.taskId", id);
        assert_json_text(seen, "body.status", "completed");
        assert_json_number(seen, "body.exitCode", 0);
        assert_json_text(seen, "body.result", "gr\xc3\xbc\xc3\x9f dich");
        assert_json_number(seen, "body.summary.errors", 0);
        assert_json_number(seen, "body.metadata.order.1", 2.5);
        assert_true(json_number(seen, "body.summary.durationMs") >= 0);
        assert_true(cJSON_IsNull(json_at(seen, "body.error")));
        assert_json_lacks(seen, "body.gitCommit");
        EVENTUALLY(10000, has_state(runner, id, "delivered"));
        cJSON *webhook = webhook_of(runner, id);
        assert_json_text(webhook, "id", json_text(seen, "headers.webhook-id"));
        assert_json_number(webhook, "attempts", 1);
        assert_json_number(webhook, "lastStatus", 200);
        assert_true(cJSON_IsString(json_at(webhook, "deliveredAt")));
        char *url = textf("http://127.0.0.1:%d/hook", node.port);
        assert_json_text(webhook, "url", url);
        free(url);
        cJSON_Delete(webhook);
        cJSON_Delete(seen);
        reply_free(reply);
        free(json);
        free(more);
        node_stop(&node);
        runner_free(runner);
    }
}

static void certificates_are_checked(void **state)
{
    (void)state;
    char *cert, *key;
    skip_without_node();
    struct runner *runner = hooked_runner();
    make_certificate(runner, &cert, &key);
    struct node node = node_start(runner, SECRET, cert, key);
    runner_start(runner);
    char *more = textf("\"callbackUrl\":\"https://localhost:%d/\"", node.port);
    char *id = runner_submit(runner, "standin: ok x", more);
    EVENTUALLY(20000, has_state(runner, id, "dead"));
    cJSON *webhook = webhook_of(runner, id);
    assert_json_contains(webhook, "lastError", "certificate");
    assert_json_number(webhook, "attempts", 4);
    cJSON_Delete(webhook);
    assert_int_equal(file_size(node.log), -1);
    assert_int_equal(runner_stop(runner, 20000), 0);

    runner_set(runner, "SSL_CERT_FILE", cert);
    runner_start(runner);
    redeliver(runner, id, 202, NULL);
    EVENTUALLY(20000, has_state(runner, id, "delivered"));
    cJSON *seen = node_seen(&node);
    assert_json_text(seen, "standard", "ok");
    cJSON_Delete(seen);
    free(id);
    free(more);
    node_stop(&node);
    runner_free(runner);
    free(cert);
    free(key);
}

/* --- which tasks, which ends --------------------------------------------------------------- */

static void assert_told(struct receiver *r, const char *task, const char *status, int exit_code,
                        const char *error)
{
    cJSON *body;
    EVENTUALLY(20000, (body = body_of(r, task)) != NULL);
    char *logs = textf("/tasks/%s/events", task);
    assert_json_text(body, "status", status);
    assert_json_number(body, "exitCode", exit_code);
    assert_json_text(body, "logsPath", logs);
    if (*error)
        assert_json_contains(body, "error", error);
    assert_json_number(body, "summary.errors", *error != '\0');
    free(logs);
    cJSON_Delete(body);
}

static void every_way_a_task_ends_is_told(void **state)
{
    (void)state;
    struct receiver *r = receiver_new(200);
    struct runner *runner = hooked_runner();
    runner_set(runner, "MAX_CONCURRENT_TASKS", "1");
    runner_start(runner);
    char *fields = fields_to(r, "");
    struct reply *reply = runner_execute(runner, "standin: ok fine", fields);
    assert_status(reply, 200);
    char *done = strdup(json_text(reply->json, "taskId"));
    reply_free(reply);
    char *json = prompt_json("standin: crash 6", fields);
    struct stream *stream = stream_open(runner->base, "POST", "/run", RUNNER_AUTH, json);
    stream_until_end(stream, 20000);
    stream_free(stream);
    free(json);
    char *running = submit(runner, r, "standin: hang-middle", "");
    char *waiting = submit(runner, r, "standin: ok never", "");
    runner_await(runner, running, "running", 10000);
    assert_true(has_state(runner, waiting, "waiting"));
    EVENTUALLY(10000, r->count == 2);
    char *path = textf("/tasks/%s/cancel", waiting);
    reply_free(runner_post(runner, path, NULL));
    free(path);
    EVENTUALLY(10000, has_state(runner, waiting, "delivered"));
    path = textf("/tasks/%s/cancel", running);
    reply_free(runner_post(runner, path, NULL));
    free(path);
    EVENTUALLY(20000, has_state(runner, running, "delivered"));
    char *lost = submit(runner, r, "standin: hang-middle", "");
    runner_await(runner, lost, "running", 10000);
    runner_crash(runner);
    runner_start(runner);
    EVENTUALLY(20000, has_state(runner, lost, "delivered"));
    assert_int_equal(r->count, 5);
    assert_told(r, done, "completed", 0, "");
    assert_told(r, running, "cancelled", 130, "cancelled");
    assert_told(r, waiting, "cancelled", 130, "cancelled");
    assert_told(r, lost, "failed", 1, "the runner stopped");
    assert_non_null(strstr(r->bodies[1], "\"status\":\"failed\""));
    assert_non_null(strstr(r->bodies[1], "signal 6"));
    free(done);
    free(running);
    free(waiting);
    free(lost);
    free(fields);
    runner_free(runner);
    receiver_free(r);
}

static void secrets_of_the_task_are_not_in_it(void **state)
{
    (void)state;
    struct receiver *r = receiver_new(200);
    struct runner *runner = hooked_runner();
    runner_start(runner);
    const char *secrets = "\"environmentSecrets\":{\"TOP\":\"s3cr3t-value-of-the-task\"}";
    char *said = submit(runner, r, "standin: secret TOP", secrets);
    char *failed = submit(runner, r, "standin: stderr-fail s3cr3t-value-of-the-task", secrets);
    EVENTUALLY(20000,
               has_state(runner, said, "delivered") && has_state(runner, failed, "delivered"));
    assert_int_equal(r->count, 2);
    for (int i = 0; i < 2; i++) {
        assert_null(strstr(r->bodies[i], "s3cr3t"));
        assert_non_null(strstr(r->bodies[i], "[redacted]"));
    }
    /* nor is the URL's query anywhere but there */
    char *path = textf("/tasks/%s", said);
    struct reply *reply = runner_get(runner, path);
    assert_null(strstr(reply->body, "hunter2"));
    assert_null(strstr(reply->body, "token="));
    assert_non_null(strstr(r->heads[0], "/hook?token=hunter2 "));
    char *log = runner_log(runner);
    assert_null(strstr(log, "hunter2"));
    assert_null(strstr(log, SECRET));
    free(log);
    reply_free(reply);
    free(path);
    static const char *const files[] = {"runner.db", "runner.db-wal"};
    for (size_t i = 0; i < COUNT(files); i++) {
        size_t size = 0;
        char *place = textf("%s/%s", runner->state, files[i]);
        char *bytes = read_file(place, &size);
        assert_null(bytes ? memmem(bytes, size, "hunter2", 7) : NULL);
        free(bytes);
        free(place);
    }
    free(said);
    free(failed);
    runner_free(runner);
    receiver_free(r);
}

/* --- receivers of all kinds ---------------------------------------------------------------- */

static void a_receiver_that_stumbles_gets_it_again_with_the_same_id(void **state)
{
    (void)state;
    struct receiver *r = receiver_new(500);
    struct runner *runner = hooked_runner();
    r->next = 200;
    runner_start(runner);
    char *id = submit(runner, r, "standin: ok x", "");
    EVENTUALLY(20000, has_state(runner, id, "delivered"));
    assert_int_equal(r->count, 2);
    assert_string_equal(r->ids[0], r->ids[1]);
    assert_string_equal(r->bodies[0], r->bodies[1]);
    assert_int_equal(attempts_of(runner, id), 2);
    free(id);
    runner_free(runner);
    receiver_free(r);
}

static void each_kind_of_answer_has_its_consequence(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int status;
        const char *headers;
        bool long_body;
        const char *after;
        int attempts, count;
        const char *error;
    } cases[] = {
        {"gone", 410, NULL, false, "dead", 1, 1, "it answered 410"},
        {"redirect", 307, "Location: /elsewhere\r\n", false, "dead", 4, 4, "it answered 307"},
        {"closes at once", CLOSE, NULL, false, "dead", 4, 4, "Empty reply"},
        {"10 MB", 200, NULL, true, "delivered", 1, 1, ""},
        {"no content", 204, NULL, false, "delivered", 1, 1, ""},
    };
    struct receiver *rs[COUNT(cases)];
    char *ids[COUNT(cases)];
    struct runner *runner = hooked_runner();
    runner_start(runner);
    for (size_t i = 0; i < COUNT(cases); i++) {
        rs[i] = receiver_new(cases[i].status);
        rs[i]->headers = cases[i].headers;
        rs[i]->long_body = cases[i].long_body;
        ids[i] = submit(runner, rs[i], "standin: ok x", "");
    }
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("%s\n", cases[i].what);
        EVENTUALLY(30000, has_state(runner, ids[i], cases[i].after));
        cJSON *webhook = webhook_of(runner, ids[i]);
        assert_json_number(webhook, "attempts", cases[i].attempts);
        if (*cases[i].error)
            assert_json_contains(webhook, "lastError", cases[i].error);
        else
            assert_true(cJSON_IsNull(json_at(webhook, "lastError")));
        assert_int_equal(rs[i]->count, cases[i].count);
        cJSON_Delete(webhook);
    }
    struct reply *reply = runner_get(runner, "/tasks?webhook=dead");
    assert_status(reply, 200);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "tasks")), 3);
    assert_json_text(reply->json, "tasks.2.taskId", ids[0]);
    reply_free(reply);
    reply = runner_get(runner, "/tasks?webhook=daed");
    assert_problem(reply, 400, "invalid_request");
    reply_free(reply);
    runner_free(runner);
    for (size_t i = 0; i < COUNT(cases); i++) {
        free(ids[i]);
        receiver_free(rs[i]);
    }
}

static void a_receiver_that_hangs_is_left_after_a_while_and_holds_up_nobody(void **state)
{
    (void)state;
    struct receiver *hangs = receiver_new(HANG), *good = receiver_new(200);
    struct runner *runner = hooked_runner();
    hangs->next = 200;
    runner_start(runner);
    char *first = submit(runner, hangs, "standin: ok x", "");
    EVENTUALLY(10000, hangs->count == 1);
    int64_t begun = now_ms();
    char *second = submit(runner, good, "standin: ok x", "");
    EVENTUALLY(10000, has_state(runner, second, "delivered"));
    assert_true(now_ms() - begun < 10000 * slowness());
    EVENTUALLY(25000, has_state(runner, first, "delivered"));
    assert_true(now_ms() - begun >= 14000);
    assert_int_equal(hangs->count, 2);
    hangs->status = HANG;
    hangs->next = 0;
    redeliver(runner, first, 202, NULL);
    EVENTUALLY(10000, hangs->count == 3);
    begun = now_ms(); /* nor does it hold up the runner's end */
    assert_int_equal(runner_stop(runner, 10000), 0);
    free(first);
    free(second);
    runner_free(runner);
    receiver_free(hangs);
    receiver_free(good);
}

static void one_host_gets_one_at_a_time(void **state)
{
    (void)state;
    enum { TASKS = 50 };
    struct receiver *r = receiver_new(200);
    struct runner *runner = hooked_runner();
    char *ids[TASKS];
    runner_set(runner, "MAX_CONCURRENT_TASKS", "8");
    runner_start(runner);
    for (int i = 0; i < TASKS; i++)
        ids[i] = submit(runner, r, "standin: ok x", "");
    EVENTUALLY(60000, r->count == TASKS);
    assert_int_equal(r->crowd, 1);
    for (int i = 0; i < TASKS; i++) {
        EVENTUALLY(10000, has_state(runner, ids[i], "delivered"));
        char *id = id_of(runner, ids[i]);
        assert_int_equal(seen_with(r, id), 1);
        free(id);
        free(ids[i]);
    }
    runner_free(runner);
    receiver_free(r);
}

/* --- what is refused ----------------------------------------------------------------------- */

static void urls_are_refused_with_their_reason(void **state)
{
    (void)state;
    static const struct {
        const char *secret, *url, *message;
    } cases[] = {
        {SECRET, "https://127.0.0.1/", "must be public: CALLBACK_ALLOW does not name '127.0.0.1'"},
        {SECRET, "https://169.254.169.254/", "must be public"},
        {SECRET, "https://localhost/", "must be public"},
        {SECRET, "http://example.com/", "must be an https URL"},
        {SECRET, "https://user:pass@example.com/", "user"},
        {SECRET, "ftp://example.com/", "must be an http or https URL"},
        {NULL, "https://example.com/", "needs CALLBACK_SECRET"},
    };
    static const char *const routes[] = {"/execute", "/run", "/run-async"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct runner *runner = hooked_runner();
        runner_set(runner, "CALLBACK_SECRET", cases[i].secret);
        runner_set(runner, "CALLBACK_ALLOW", NULL);
        runner_start(runner);
        char *more = textf("\"callbackUrl\":\"%s\"", cases[i].url);
        char *json = prompt_json("standin: ok x", more);
        for (size_t k = 0; k < COUNT(routes); k++) {
            struct reply *reply = runner_post(runner, routes[k], json);
            assert_problem(reply, 400, "invalid_request");
            assert_json_text(reply->json, "errors.0.field", "callbackUrl");
            assert_json_contains(reply->json, "errors.0.message", cases[i].message);
            reply_free(reply);
        }
        struct reply *reply = runner_get(runner, "/tasks");
        assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "tasks")), 0);
        reply_free(reply);
        free(json);
        free(more);
        runner_free(runner);
    }
}

/* The name says nothing; the address does, when it is connected to. */
static void a_name_that_leads_home_is_refused_at_the_connection(void **state)
{
    (void)state;
    struct receiver *r = receiver_new(200);
    struct runner *runner = hooked_runner();
    char *allow = textf("%s/allow", runner->dir);
    char *more = textf("\"callbackUrl\":\"http://localhost:%d/\"", loopback_port(r->http));
    write_file(allow, "10.0.0.0/8\n", 0644);
    runner_set(runner, "CALLBACK_ALLOW", NULL);
    runner_set(runner, "CALLBACK_ALLOW_FILE", allow);
    runner_set(runner, "CALLBACK_RETRY_SECONDS", "0,3600");
    runner_start(runner);
    char *id = runner_submit(runner, "standin: ok x", more);
    EVENTUALLY(20000, attempts_of(runner, id) == 2);
    cJSON *webhook = webhook_of(runner, id);
    assert_json_text(webhook, "state", "pending");
    assert_json_contains(webhook, "lastError", "may not be reached");
    assert_true(cJSON_IsNull(json_at(webhook, "lastStatus")));
    assert_true(cJSON_IsString(json_at(webhook, "nextAttemptAt")));
    cJSON_Delete(webhook);
    assert_int_equal(loopback_connections(r->http), 0);

    write_file(allow, "localhost\n", 0644);
    char *log = runner_log(runner);
    assert_null(strstr(log, "reloaded"));
    free(log);
    kill(runner->pid, SIGHUP);
    EVENTUALLY(10000, (log = runner_log(runner),
                       strstr(log, "reloaded") != NULL ? (free(log), true) : (free(log), false)));
    redeliver(runner, id, 202, NULL);
    EVENTUALLY(20000, has_state(runner, id, "delivered"));
    free(id);
    free(more);
    free(allow);
    runner_free(runner);
    receiver_free(r);
}

/* --- restarts and redelivery --------------------------------------------------------------- */

/* The first webhook holds the host's only place; the second is owed and not tried when the runner
 * is killed. */
static void a_crash_between_the_tasks_end_and_the_webhook_loses_nothing(void **state)
{
    (void)state;
    struct receiver *r = receiver_new(HANG);
    struct runner *runner = hooked_runner();
    runner_start(runner);
    char *first = submit(runner, r, "standin: ok first", "");
    EVENTUALLY(20000, r->count == 1);
    char *second = submit(runner, r, "standin: ok second", "");
    runner_await(runner, second, "completed", 20000);
    assert_true(has_state(runner, second, "pending"));
    char *first_id = id_of(runner, first), *second_id = id_of(runner, second);
    runner_crash(runner);
    assert_int_equal(seen_with(r, second_id), 0);
    r->status = 200;
    runner_start(runner);
    EVENTUALLY(20000, has_state(runner, first, "delivered"));
    EVENTUALLY(20000, has_state(runner, second, "delivered"));
    assert_int_equal(r->count, 3);
    assert_int_equal(seen_with(r, first_id), 2); /* it may have been taken: so again, as the same */
    assert_int_equal(seen_with(r, second_id), 1); /* it was not */
    runner_crash(runner);
    runner_start(runner);
    char *third = submit(runner, r, "standin: ok third", "");
    EVENTUALLY(20000, has_state(runner, third, "delivered"));
    assert_int_equal(r->count, 4); /* what was delivered stays so */
    free(first);
    free(second);
    free(third);
    free(first_id);
    free(second_id);
    runner_free(runner);
    receiver_free(r);
}

static void what_was_sent_can_be_sent_again(void **state)
{
    (void)state;
    struct receiver *r = receiver_new(200);
    struct runner *runner = hooked_runner();
    runner_start(runner);
    char *bare = runner_submit(runner, "standin: ok x", "");
    char *runs = submit(runner, r, "standin: hang-middle", "");
    char *id = submit(runner, r, "standin: ok x", "");
    EVENTUALLY(20000, has_state(runner, id, "delivered"));
    redeliver(runner, "nobody", 404, "not_found");
    redeliver(runner, bare, 404, "not_found");
    redeliver(runner, runs, 409, "conflict");
    redeliver(runner, id, 202, NULL);
    EVENTUALLY(20000, has_state(runner, id, "delivered"));
    EVENTUALLY(20000, attempts_of(runner, id) == 2);
    assert_int_equal(r->count, 2);
    assert_string_equal(r->ids[0], r->ids[1]);
    assert_string_equal(r->bodies[0], r->bodies[1]);
    free(bare);
    free(runs);
    free(id);
    runner_free(runner);
    receiver_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_peoples_code_takes_both_signatures),
        cmocka_unit_test(certificates_are_checked),
        cmocka_unit_test(every_way_a_task_ends_is_told),
        cmocka_unit_test(secrets_of_the_task_are_not_in_it),
        cmocka_unit_test(a_receiver_that_stumbles_gets_it_again_with_the_same_id),
        cmocka_unit_test(each_kind_of_answer_has_its_consequence),
        cmocka_unit_test(a_receiver_that_hangs_is_left_after_a_while_and_holds_up_nobody),
        cmocka_unit_test(one_host_gets_one_at_a_time),
        cmocka_unit_test(urls_are_refused_with_their_reason),
        cmocka_unit_test(a_name_that_leads_home_is_refused_at_the_connection),
        cmocka_unit_test(a_crash_between_the_tasks_end_and_the_webhook_loses_nothing),
        cmocka_unit_test(what_was_sent_can_be_sent_again),
    };
    return cmocka_run_group_tests_name("webhooks", tests, NULL, NULL);
}
