/*
 * Webhooks: the daemon, receivers that behave in many ways, and one receiver of another author.
 */
#include "webhooks_scene.h"

#include <signal.h>
#include <unistd.h>

#define STANDARD_SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

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
        EVENTUALLY(20000, has_state(runner, id, "delivered"));
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
    runner_await(runner, running, "running", 20000);
    assert_true(has_state(runner, waiting, "waiting"));
    EVENTUALLY(20000, r->count == 2);
    char *path = textf("/tasks/%s/cancel", waiting);
    reply_free(runner_post(runner, path, NULL));
    free(path);
    EVENTUALLY(20000, has_state(runner, waiting, "delivered"));
    path = textf("/tasks/%s/cancel", running);
    reply_free(runner_post(runner, path, NULL));
    free(path);
    EVENTUALLY(20000, has_state(runner, running, "delivered"));
    char *lost = submit(runner, r, "standin: hang-middle", "");
    runner_await(runner, lost, "running", 20000);
    runner_crash(runner);
    runner_start(runner);
    EVENTUALLY(20000, has_state(runner, lost, "delivered"));
    assert_int_equal(webhooks_of(r), 5);
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
    /* the URL's query is not shown anywhere else */
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

/* The name is allowed; the address is refused when the runner connects to it. */
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
    EVENTUALLY(20000, (log = runner_log(runner),
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

/* The first webhook occupies the host's only place; the second is due and not yet tried when the
 * runner is killed. */
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
    assert_int_equal(seen_with(r, first_id), 2); /* the receiver may have taken it: it is sent again
                                                  * with the same id */
    assert_int_equal(seen_with(r, second_id), 1); /* this one had not been sent */
    runner_crash(runner);
    runner_start(runner);
    char *third = submit(runner, r, "standin: ok third", "");
    EVENTUALLY(20000, has_state(runner, third, "delivered"));
    assert_int_equal(r->count, 4); /* a delivered webhook is not sent again */
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
        cmocka_unit_test(urls_are_refused_with_their_reason),
        cmocka_unit_test(a_name_that_leads_home_is_refused_at_the_connection),
        cmocka_unit_test(a_crash_between_the_tasks_end_and_the_webhook_loses_nothing),
        cmocka_unit_test(what_was_sent_can_be_sent_again),
    };
    return cmocka_run_group_tests_name("webhooks", tests, NULL, NULL);
}
