#include "google/storage.h"

#include "base/clock.h"
#include "google_peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MEBI ((size_t)1 << 20)

/* A peer and its client, for each test. */
struct world {
    struct google_peer *peer;
    struct google *google;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->peer = google_peer_start(NULL, NULL);
    w->google = google_peer_client(w->peer);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    int left = google_peer_faults_left(w->peer);
    google_free(w->google);
    google_peer_stop(w->peer);
    free(w);
    if (left > 0)
        print_error("%d faults did not happen\n", left);
    return left;
}

static char *make_bytes(size_t len)
{
    char *bytes = malloc(len + 1);
    assert_non_null(bytes);
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        bytes[i] = (char)x;
    }
    return bytes;
}

static void assert_stored(struct world *w, const char *name, const void *data, size_t len)
{
    size_t stored_len = 0;
    AUTO(str) char *stored = google_peer_object(w->peer, name, &stored_len);
    assert_non_null(stored);
    assert_int_equal(stored_len, len);
    assert_memory_equal(stored, data, len);
}

static void what_is_put_can_be_read_listed_and_deleted(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    int64_t generation = 0;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    AUTO(storage_object) struct storage_object object = {0};
    if (storage_put(w->google, "b", "a/b c?", "text/plain", "hello", 5, STORAGE_ABSENT, &object,
                    &err))
        fail_msg("%s", err.msg);
    assert_string_equal(object.name, "a/b c?");
    assert_int_equal(object.size, 5);
    assert_stored(w, "a/b c?", "hello", 5);
    buf_adds(&out, "> ");
    if (storage_get(w->google, "b", "a/b c?", &out, &generation, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(buf_str(&out), "> hello");
    assert_int_equal(generation, object.generation);
    assert_int_equal(storage_delete(w->google, "b", "a/b c?", generation, &err), 0);
    assert_int_equal(storage_delete(w->google, "b", "a/b c?", generation, &err), 0);
    assert_int_equal(storage_get(w->google, "b", "a/b c?", &out, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(buf_str(&out), "> hello");
    assert_int_equal(google_peer_tokens(w->peer), 1);
}

static int add_name(const struct storage_object *object, void *arg)
{
    buf_addf(arg, "%s,", object->name);
    return 0;
}

static int add_until_d(const struct storage_object *object, void *arg)
{
    return add_name(object, arg), object->name[2] == 'd';
}

static void all_pages_are_listed_in_order_within_prefix_offset_and_maximum(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"o/a", "o/b", "o/c", "o/d", "o/e", "p/&=", "q"};
    static const struct {
        struct storage_list wish;
        int (*fn)(const struct storage_object *object, void *arg);
        const char *want;
    } cases[] = {
        {{NULL, NULL, 0}, add_name, "o/a,o/b,o/c,o/d,o/e,p/&=,q,"},
        {{"o/", NULL, 0}, add_name, "o/a,o/b,o/c,o/d,o/e,"},
        {{"o/", "o/c", 0}, add_name, "o/c,o/d,o/e,"},
        {{"o/", NULL, 3}, add_name, "o/a,o/b,o/c,"},
        {{"o/", NULL, 1}, add_name, "o/a,"},
        {{"o/", NULL, 0}, add_until_d, "o/a,o/b,o/c,o/d,"},
        {{"p/&=", NULL, 0}, add_name, "p/&=,"},
        {{"zzz", NULL, 0}, add_name, ""},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        google_peer_put(w->peer, names[i], "x", 1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf got = BUF_INIT(1024);
        if (storage_list(w->google, "b", &cases[i].wish, cases[i].fn, &got, &err))
            fail_msg("%s", err.msg);
        assert_string_equal(buf_str(&got), cases[i].want);
    }
}

static int write_file(const char *data, size_t len)
{
    char path[] = "/tmp/unit-google-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    return fd;
}

static void a_file_of_any_size_is_stored_from_its_offset_on(void **state)
{
    struct world *w = *state;
    static const size_t sizes[] = {0, 1, MEBI, MEBI + 1, 5 * MEBI + 77};
    AUTO(str) char *bytes = make_bytes(6 * MEBI);
    int fd = write_file(bytes, 6 * MEBI);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct err err = ERR_INIT;
        AUTO(storage_object) struct storage_object object = {0};
        if (storage_put_file(w->google, "b", "file", "x/y", fd, 13, (int64_t)sizes[i], STORAGE_ANY,
                             NULL, &object, &err))
            fail_msg("%zu: %s", sizes[i], err.msg);
        assert_int_equal(object.size, sizes[i]);
        assert_stored(w, "file", bytes + 13, sizes[i]);
    }
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_can_be_read_listed_and_deleted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            all_pages_are_listed_in_order_within_prefix_offset_and_maximum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_of_any_size_is_stored_from_its_offset_on, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
