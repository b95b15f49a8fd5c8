/*
 * Inputs: packed once for a path and uploaded once for a digest, also with several callers at once.
 * The runner is a strict stand-in that stores what it receives.
 */
#include "testbase.h"

#include "loopback.h"
#include "runner/client/inputs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET "test-secret-0123456789"
#define KEPT_MAX 16

/* The runner: what it has stored, and how often it was asked. */
static struct store {
    pthread_mutex_t lock;
    char kept[KEPT_MAX][65];
    size_t count;
    _Atomic int heads, puts, wrong, failures; /* failures: the number of PUTs that will still
                                               * fail */
} store = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool has(const char *digest)
{
    bool found = false;
    pthread_mutex_lock(&store.lock);
    for (size_t i = 0; i < store.count; i++)
        found |= strcmp(store.kept[i], digest) == 0;
    pthread_mutex_unlock(&store.lock);
    return found;
}

static void keep(const char *digest)
{
    pthread_mutex_lock(&store.lock);
    if (store.count < KEPT_MAX)
        snprintf(store.kept[store.count++], 65, "%s", digest);
    pthread_mutex_unlock(&store.lock);
}

static bool put(struct loopback_call *call, const char *digest)
{
    char type[64], name[] = "/tmp/client-inputs-XXXXXX", line[100] = "";
    char piece[65536];
    ssize_t n;
    FILE *file = fdopen(mkstemp(name), "w");
    store.puts++;
    while ((n = loopback_read(call, piece, sizeof(piece))) > 0)
        fwrite(piece, 1, (size_t)n, file);
    fclose(file);
    AUTO(str)
    char *command = textf("sha256sum %s >%s.sum", name, name), *sum = textf("%s.sum", name);
    proc_shell(command);
    AUTO(str) char *text = read_file(sum, NULL);
    snprintf(line, sizeof(line), "%.64s", text);
    unlink(name);
    unlink(sum);
    if (strcmp(line, digest) != 0 || !loopback_header(call, "Content-Type", type, sizeof(type)) ||
        strcmp(type, "application/gzip") != 0) {
        store.wrong++;
        return loopback_answer(call, 422, "",
                               "{\"code\":\"unprocessable\",\"detail\":\"mismatch\"}");
    }
    if (store.failures > 0) {
        store.failures--;
        return loopback_answer(
            call, 507, "", "{\"code\":\"insufficient_storage\",\"detail\":\"the disk is full\"}");
    }
    keep(digest);
    return loopback_answer(call, 201, "", "{}");
}

static bool serve(struct loopback_call *call, void *arg)
{
    char secret[64];
    (void)arg;
    if (!loopback_header(call, "X-Runner-Secret", secret, sizeof(secret)) ||
        strcmp(secret, SECRET) != 0 || strncmp(call->path, "/inputs/", 8) != 0 ||
        strlen(call->path) != 8 + 64) {
        store.wrong++;
        return loopback_answer(call, 400, "", "{}");
    }
    const char *digest = call->path + 8;
    if (strcmp(call->method, "HEAD") == 0) {
        store.heads++;
        bool found = has(digest);
        return loopback_text(call, found ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                                         : "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    if (strcmp(call->method, "PUT") == 0)
        return put(call, digest);
    store.wrong++;
    return loopback_answer(call, 405, "", "{}");
}

static struct loopback *server;
static struct settings to;
static char *dir;

static int set_up(void **state)
{
    (void)state;
    store.count = 0;
    store.heads = store.puts = store.wrong = store.failures = 0;
    server = loopback_start(serve, NULL);
    to = (struct settings){.url = loopback_url(server, ""), .secret = strdup(SECRET)};
    dir = tmp_dir_new();
    AUTO(str)
    char *script = textf("cd %s; mkdir a b c; printf one >a/x; printf two >b/x; cp -a a/x c/x;"
                         "seq 20000 >a/y; cp a/y c/y; printf f >file",
                         dir);
    proc_shell(script);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(store.wrong, 0);
    loopback_stop(server);
    settings_done(&to);
    tmp_dir_free(dir);
    return 0;
}

static struct client_inputs *new_inputs(void)
{
    struct err err = ERR_INIT;
    struct client_inputs *inputs = client_inputs_new(&to, false, &err);
    OK(inputs, &err);
    return inputs;
}

static void put_one(struct client_inputs *inputs, const char *name, char digest[INPUTS_DIGEST_SIZE])
{
    struct err err = ERR_INIT;
    AUTO(str) char *path = textf("%s/%s", dir, name);
    OK(client_inputs_put(inputs, path, digest, &err) == 0, &err);
    assert_memory_equal(digest, "sha256:", 7);
    assert_true(has(digest + 7));
}

static void a_path_is_packed_once_and_a_digest_uploaded_once(void **state)
{
    char first[INPUTS_DIGEST_SIZE], second[INPUTS_DIGEST_SIZE];
    struct inputs_count count;
    (void)state;
    struct client_inputs *inputs = new_inputs();
    put_one(inputs, "a", first);
    put_one(inputs, "a", second);
    assert_string_equal(first, second);
    put_one(inputs, "./b/../a", second); /* another spelling of the same path */
    put_one(inputs, "c", second);        /* another file with the same content */
    assert_string_equal(first, second);
    put_one(inputs, "b", second);
    assert_string_not_equal(first, second);
    client_inputs_count(inputs, &count);
    assert_int_equal(count.packed, 3);
    assert_int_equal(count.asked, 2);
    assert_int_equal(count.uploaded, 2);
    client_inputs_free(inputs);
    inputs = new_inputs(); /* another process: the runner has the input already */
    put_one(inputs, "a", second);
    put_one(inputs, "file", second);
    client_inputs_count(inputs, &count);
    assert_int_equal(count.uploaded, 1);
    assert_int_equal(store.puts, 3);
    client_inputs_free(inputs);
}

static struct client_inputs *shared;

static void *ask(void *arg)
{
    static _Atomic int turn;
    static const char *const names[] = {"a", "b", "c", "a"};
    char digest[INPUTS_DIGEST_SIZE];
    (void)arg;
    put_one(shared, names[turn++ % 4], digest);
    return NULL;
}

static void many_at_once_wait_for_one_upload(void **state)
{
    struct inputs_count count;
    (void)state;
    shared = new_inputs();
    in_threads(24, ask, NULL);
    client_inputs_count(shared, &count);
    assert_int_equal(count.packed, 3);
    assert_int_equal(count.uploaded, 2);
    assert_int_equal(store.heads, 2);
    assert_int_equal(store.puts, 2);
    client_inputs_free(shared);
}

static void a_failure_is_everybodys_and_says_why(void **state)
{
    struct err err = ERR_INIT;
    char digest[INPUTS_DIGEST_SIZE];
    AUTO(str) char *path = textf("%s/a", dir), *missing = textf("%s/nothing", dir);
    (void)state;
    struct client_inputs *inputs = new_inputs();
    store.failures = 1;
    assert_int_equal(client_inputs_put(inputs, path, digest, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_non_null(strstr(err.msg, "the disk is full"));
    err = (struct err)ERR_INIT;
    assert_int_equal(client_inputs_put(inputs, path, digest, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_int_equal(store.puts, 1);
    assert_int_equal(client_inputs_put(inputs, missing, digest, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    client_inputs_free(inputs);
}

static void names_come_from_the_option_or_the_path(void **state)
{
    struct err err = ERR_INIT;
    AUTO(str) char *plain = textf("%s/a", dir), *named = textf("repo=%s", plain), *name = NULL;
    (void)state;
    assert_string_equal(client_inputs_split(named, &name, &err), plain);
    assert_string_equal(name, "repo");
    free(name);
    assert_string_equal(client_inputs_split(plain, &name, &err), plain);
    assert_string_equal(name, "a");
    AUTO(str) char *unused = NULL;
    assert_null(client_inputs_split("../x=/tmp", &unused, &err));
    assert_null(client_inputs_split("x=", &unused, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_path_is_packed_once_and_a_digest_uploaded_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_at_once_wait_for_one_upload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failure_is_everybodys_and_says_why, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_come_from_the_option_or_the_path, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
