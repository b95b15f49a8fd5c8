/* A bucket with faults that the tests set, and what they put into it. */
#ifndef TESTS_GOOGLE_STORAGE_SCENE_H
#define TESTS_GOOGLE_STORAGE_SCENE_H

#include "google/storage.h"

#include "google_peer.h"

#include <fcntl.h>
#include <stdlib.h>
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

static inline int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->peer = google_peer_start(NULL, NULL);
    w->google = google_peer_client(w->peer);
    *state = w;
    return 0;
}

static inline int tear_down(void **state)
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

static inline char *make_bytes(size_t len)
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

static inline void assert_stored(struct world *w, const char *name, const void *data, size_t len)
{
    size_t stored_len = 0;
    AUTO(str) char *stored = google_peer_object(w->peer, name, &stored_len);
    assert_non_null(stored);
    assert_int_equal(stored_len, len);
    assert_memory_equal(stored, data, len);
}

static inline int write_file(const char *data, size_t len)
{
    char path[] = "/tmp/unit-google-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    return fd;
}

/* --- faults --------------------------------------------------------------------------------- */

static inline void fault(struct world *w, enum peer_fault_kind kind, const char *match,
                         size_t bytes)
{
    google_peer_fault(w->peer, &(struct peer_fault){.kind = kind, .match = match, .bytes = bytes});
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
