#include "google/storage.h"

#include "base/clock.h"
#include "google_peer.h"

#include <errno.h>
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
    if (storage_put(w->google,
                    &(const struct storage_at){"b", "a/b c?", "text/plain", STORAGE_ABSENT},
                    "hello", 5, &object, &err))
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
        if (storage_put_file(w->google, &(const struct storage_at){"b", "file", "x/y", STORAGE_ANY},
                             fd, 13, (int64_t)sizes[i], NULL, &object, &err))
            fail_msg("%zu: %s", sizes[i], err.msg);
        assert_int_equal(object.size, sizes[i]);
        assert_stored(w, "file", bytes + 13, sizes[i]);
    }
    close(fd);
}

/* --- faults --------------------------------------------------------------------------------- */

static void fault(struct world *w, enum peer_fault_kind kind, const char *match, size_t bytes)
{
    google_peer_fault(w->peer, &(struct peer_fault){.kind = kind, .match = match, .bytes = bytes});
}

static void answer(struct world *w, const char *match, int status, const char *headers)
{
    google_peer_fault(
        w->peer, &(struct peer_fault){
                     .kind = PEER_ANSWER, .match = match, .status = status, .headers = headers});
}

static void a_put_whose_answer_was_lost_counts_once(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(storage_object) struct storage_object object = {0};
    fault(w, PEER_LOSE, "uploadType=media", 0);
    if (storage_put(w->google, &(const struct storage_at){"b", "o", NULL, STORAGE_ABSENT}, "hello",
                    5, &object, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(google_peer_count(w->peer, "uploadType=media"), 2);
    assert_int_equal(object.size, 5);
    assert_stored(w, "o", "hello", 5);
    fault(w, PEER_LOSE, "uploadType=media", 0);
    assert_int_equal(storage_put(w->google,
                                 &(const struct storage_at){"b", "o", NULL, object.generation},
                                 "other", 5, NULL, &err),
                     0);
    assert_stored(w, "o", "other", 5);
}

static void a_put_over_another_generation_is_refused(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    google_peer_put(w->peer, "o", "theirs", 6);
    assert_int_equal(storage_put(w->google,
                                 &(const struct storage_at){"b", "o", NULL, STORAGE_ABSENT}, "ours",
                                 4, NULL, &err),
                     -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    assert_string_equal(err.msg, "Cloud Storage: HTTP 412 (conditionNotMet): it is so");
    /* nor is somebody else's object taken for ours when an answer is lost */
    fault(w, PEER_LOSE, "uploadType=media", 0);
    assert_int_equal(storage_put(w->google, &(const struct storage_at){"b", "o", NULL, 7}, "ours",
                                 4, NULL, &err),
                     -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    /* and bytes that were there before are not what this put has made */
    fault(w, PEER_LOSE, "uploadType=media", 0);
    assert_int_equal(storage_put(w->google, &(const struct storage_at){"b", "o", NULL, 1001},
                                 "ours", 4, NULL, &err),
                     0);
    assert_int_equal(storage_put(w->google, &(const struct storage_at){"b", "o", NULL, 1001},
                                 "theirs", 6, NULL, &err),
                     -1);
    assert_stored(w, "o", "ours", 4);
}

static void a_put_is_tried_again_on_what_passes(void **state)
{
    struct world *w = *state;
    static const int statuses[] = {500, 502, 503, 504, 429, 408, 401};
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        struct err err = ERR_INIT;
        answer(w, "uploadType=media", statuses[i], NULL);
        if (storage_put(w->google, &(const struct storage_at){"b", "o", NULL, STORAGE_ANY}, "hello",
                        5, NULL, &err))
            fail_msg("%d: %s", statuses[i], err.msg);
    }
    assert_int_equal(google_peer_count(w->peer, "uploadType=media"), 2 * COUNT_OF(statuses));
    assert_int_equal(google_peer_tokens(w->peer), 2); /* the 401's is not used again */
}

static void what_arrives_changed_is_deleted_and_reported(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    fault(w, PEER_SPOIL, "uploadType=media", 0);
    assert_int_equal(storage_put(w->google, &(const struct storage_at){"b", "o", NULL, STORAGE_ANY},
                                 "hello", 5, NULL, &err),
                     -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_non_null(strstr(err.msg, "arrived changed"));
    assert_int_equal(google_peer_objects(w->peer), 0);
}

/* --- uploads -------------------------------------------------------------------------------- */

static int put_file(struct world *w, const char *bytes, size_t len, int64_t generation,
                    struct err *err)
{
    int fd = write_file(bytes, len);
    int rc = storage_put_file(w->google, &(const struct storage_at){"b", "file", "x/y", generation},
                              fd, 0, (int64_t)len, NULL, NULL, err);
    close(fd);
    return rc;
}

static void an_upload_goes_on_wherever_it_is_cut(void **state)
{
    struct world *w = *state;
    static const size_t cuts[] = {0,      1,    200000,        262143,      262144,
                                  262145, MEBI, 2 * MEBI + 99, 3 * MEBI - 1};
    size_t len = 3 * MEBI + 5;
    AUTO(str) char *bytes = make_bytes(len);
    for (size_t i = 0; i < COUNT_OF(cuts); i++) {
        struct err err = ERR_INIT;
        fault(w, PEER_CUT_REQUEST, "PUT ", cuts[i]);
        if (put_file(w, bytes, len, STORAGE_ANY, &err))
            fail_msg("%zu: %s", cuts[i], err.msg);
        assert_stored(w, "file", bytes, len);
        assert_int_equal(google_peer_faults_left(w->peer), 0);
    }
}

static void every_stage_of_an_upload_may_fail_once(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *what;
        struct peer_fault first, second;
        int begins;
    } cases[] = {
        {"begin refused", {PEER_ANSWER, .match = "uploadType=resumable", .status = 503}, {0}, 2},
        {"begin lost", {PEER_LOSE, .match = "POST "}, {0}, 2},
        {"begin unauthorized", {PEER_ANSWER, .match = "POST ", .status = 401}, {0}, 2},
        {"piece refused", {PEER_ANSWER, .match = "PUT ", .status = 503}, {0}, 1},
        {"piece unauthorized", {PEER_ANSWER, .match = "PUT ", .status = 401}, {0}, 1},
        {"too many",
         {PEER_ANSWER, .match = "PUT ", .status = 429, .headers = "Retry-After: 0\r\n"},
         {0},
         1},
        {"cut, then the question refused",
         {PEER_CUT_REQUEST, .match = "PUT ", .bytes = MEBI},
         {PEER_ANSWER, .match = "PUT ", .status = 500},
         1},
        {"cut, then the question lost",
         {PEER_CUT_REQUEST, .match = "PUT ", .bytes = MEBI},
         {PEER_LOSE, .match = "PUT "},
         1},
        {"forgotten", {PEER_FORGET, .match = "PUT "}, {0}, 2},
        {"cut and forgotten",
         {PEER_CUT_REQUEST, .match = "PUT ", .bytes = MEBI},
         {PEER_FORGET, .match = "PUT "},
         2},
        {"the last answer lost", {PEER_LOSE, .match = "PUT "}, {0}, 1},
        {"the last answer lost, and forgotten",
         {PEER_LOSE, .match = "PUT "},
         {PEER_FORGET, .match = "PUT "},
         1},
        {"session gone by 404", {PEER_ANSWER, .match = "PUT ", .status = 404}, {0}, 2},
        {"nothing stored, as it says", {PEER_ANSWER, .match = "PUT ", .status = 308}, {0}, 1},
        {"an empty 200",
         {PEER_LOSE, .match = "PUT "},
         {PEER_ANSWER, .match = "PUT ", .status = 200},
         1},
    };
    size_t len = 2 * MEBI + 5;
    AUTO(str) char *bytes = make_bytes(len);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        int before = google_peer_count(w->peer, "POST /upload");
        google_peer_fault(w->peer, &cases[i].first);
        if (cases[i].second.match)
            google_peer_fault(w->peer, &cases[i].second);
        if (put_file(w, bytes, len, STORAGE_ABSENT, &err))
            fail_msg("%s: %s", cases[i].what, err.msg);
        assert_stored(w, "file", bytes, len);
        if (google_peer_faults_left(w->peer) > 0)
            fail_msg("%s: did not happen", cases[i].what);
        if (google_peer_count(w->peer, "POST /upload") - before != cases[i].begins)
            fail_msg("%s: %d begins", cases[i].what,
                     google_peer_count(w->peer, "POST /upload") - before);
        assert_int_equal(storage_delete(w->google, "b", "file", STORAGE_ANY, &err), 0);
    }
}

static void an_upload_that_cannot_succeed_says_why(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *what;
        struct peer_fault fault;
        enum err_code code;
        const char *words;
    } cases[] = {
        {"spoiled", {PEER_SPOIL, .match = "PUT "}, ERR_UPSTREAM, "arrived changed"},
        {"forbidden", {PEER_ANSWER, .match = "PUT ", .status = 403}, ERR_FORBIDDEN, "HTTP 403"},
        {"forbidden to begin",
         {PEER_ANSWER, .match = "POST ", .status = 403},
         ERR_FORBIDDEN,
         "HTTP 403"},
        {"unauthorized",
         {PEER_ANSWER, .match = "POST ", .times = 2, .status = 401},
         ERR_FORBIDDEN,
         "401"},
        {"no location", {PEER_ANSWER, .match = "POST ", .status = 200}, ERR_UPSTREAM, "location"},
        {"elsewhere",
         {PEER_ANSWER, .match = "POST ", .status = 200, .headers = "Location: //x/y\r\n"},
         ERR_UPSTREAM,
         "location"},
        {"stands too far",
         {PEER_ANSWER, .match = "PUT ", .status = 308, .headers = "Range: bytes=0-99999999\r\n"},
         ERR_UPSTREAM,
         "stands at byte"},
        {"stands nowhere",
         {PEER_ANSWER, .match = "PUT ", .status = 308, .headers = "Range: bytes=5-10\r\n"},
         ERR_UPSTREAM,
         "nowhere"},
        {"stands at words",
         {PEER_ANSWER, .match = "PUT ", .status = 308, .headers = "Range: bytes=0-x\r\n"},
         ERR_UPSTREAM,
         "nowhere"},
        {"forgotten for ever",
         {PEER_ANSWER, .match = "PUT ", .times = 4, .status = 410},
         ERR_NOT_FOUND,
         "forgotten"},
        {"replaced", {PEER_ANSWER, .match = "PUT ", .status = 412}, ERR_MISMATCH, "412"},
    };
    size_t len = 2 * MEBI + 5;
    AUTO(str) char *bytes = make_bytes(len);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        google_peer_fault(w->peer, &cases[i].fault);
        int rc = put_file(w, bytes, len, STORAGE_ABSENT, &err);
        if (rc == 0 || err.code != cases[i].code || !strstr(err.msg, cases[i].words))
            fail_msg("%s: %d %s", cases[i].what, rc, err.msg);
        assert_int_equal(google_peer_objects(w->peer), 0);
    }
}

static void a_file_that_became_shorter_is_refused(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(str) char *bytes = make_bytes(2 * MEBI);
    int fd = write_file(bytes, 2 * MEBI);
    static const int64_t sizes[] = {1000, 2 * MEBI};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        assert_int_equal(
            storage_put_file(w->google, &(const struct storage_at){"b", "file", NULL, STORAGE_ANY},
                             fd, 2 * MEBI - 500, sizes[i], NULL, NULL, &err),
            -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, "shorter"));
    }
    close(fd);
    assert_int_equal(storage_put_file(w->google,
                                      &(const struct storage_at){"b", "file", NULL, STORAGE_ANY},
                                      -1, 0, 2 * MEBI, NULL, NULL, &err),
                     -1);
    assert_int_equal(err.sys, EBADF);
}

/* Once the request has come that will get no answer. */
static bool stop_when_asked(void *arg)
{
    struct world *w = arg;
    return google_peer_faults_left(w->peer) == 0;
}

static void an_upload_and_a_download_stop_when_they_are_asked_to(void **state)
{
    struct world *w = *state;
    static const char *const stages[] = {"POST ", "PUT "};
    const struct storage_stop stop = {stop_when_asked, w};
    const struct storage_sink sink = {.stop = stop_when_asked, .arg = w};
    AUTO(str) char *bytes = make_bytes(2 * MEBI);
    int fd = write_file(bytes, 2 * MEBI);
    google_peer_put(w->peer, "o", bytes, 2 * MEBI);
    int64_t began = clock_mono_ms();
    for (size_t i = 0; i < COUNT_OF(stages); i++) {
        struct err err = ERR_INIT;
        fault(w, PEER_SILENT, stages[i], 0);
        assert_int_equal(
            storage_put_file(w->google, &(const struct storage_at){"b", "file", NULL, STORAGE_ANY},
                             fd, 0, 2 * MEBI, &stop, NULL, &err),
            -1);
    }
    struct err err = ERR_INIT;
    fault(w, PEER_SILENT, "alt=media", 0);
    assert_int_equal(storage_read(w->google, "b", "o", 0, -1, &sink, &err), -1);
    assert_true(clock_mono_ms() - began < 15000);
    close(fd);
}

static int add_all(struct storage_upload *upload, const char *bytes, size_t len, size_t piece,
                   struct err *err)
{
    int rc = 0;
    for (size_t at = 0; at < len && rc == 0; at += piece)
        rc = storage_upload_add(upload, bytes + at, piece < len - at ? piece : len - at, err);
    return rc;
}

static void an_upload_of_unknown_size_becomes_what_was_added(void **state)
{
    struct world *w = *state;
    static const size_t sizes[] = {0, 5, 8 * MEBI, 8 * MEBI + 1, 16 * MEBI, 17 * MEBI + 3};
    AUTO(str) char *bytes = make_bytes(18 * MEBI);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct err err = ERR_INIT;
        AUTO(storage_object) struct storage_object object = {0};
        AUTO(storage_upload)
        struct storage_upload *upload =
            storage_upload_new(w->google, "b", "u", NULL, STORAGE_ANY, &err);
        assert_non_null(upload);
        if (i > 2) /* the first piece is stored in part only */
            fault(w, PEER_CUT_REQUEST, "PUT ", 3 * MEBI + 1000);
        if (add_all(upload, bytes, sizes[i], 1000003, &err) ||
            storage_upload_end(upload, &object, &err))
            fail_msg("%zu: %s", sizes[i], err.msg);
        assert_int_equal(object.size, sizes[i]);
        assert_stored(w, "u", bytes, sizes[i]);
    }
}

static void an_upload_that_was_forgotten_begins_again_only_from_its_beginning(void **state)
{
    struct world *w = *state;
    AUTO(str) char *bytes = make_bytes(17 * MEBI);
    for (int skip = 0; skip < 3; skip++) {
        struct err err = ERR_INIT;
        AUTO(storage_upload)
        struct storage_upload *upload =
            storage_upload_new(w->google, "b", "u", NULL, STORAGE_ABSENT, &err);
        google_peer_fault(w->peer,
                          &(struct peer_fault){.kind = PEER_FORGET, .match = "PUT ", .skip = skip});
        int rc = add_all(upload, bytes, 17 * MEBI, MEBI, &err);
        if (rc == 0)
            rc = storage_upload_end(upload, NULL, &err);
        if (rc != (skip == 0 ? 0 : -1))
            fail_msg("%d: %d %s", skip, rc, err.msg);
        if (skip > 0) {
            assert_non_null(strstr(err.msg, "forgotten"));
            assert_int_equal(google_peer_objects(w->peer), 0);
            struct err again = ERR_INIT;
            assert_int_equal(storage_upload_end(upload, NULL, &again), -1);
        }
        storage_delete(w->google, "b", "u", STORAGE_ANY, &err);
    }
}

static void an_abandoned_upload_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(str) char *bytes = make_bytes(9 * MEBI);
    struct storage_upload *upload =
        storage_upload_new(w->google, "b", "u", NULL, STORAGE_ABSENT, &err);
    assert_int_equal(storage_upload_add(upload, bytes, 9 * MEBI, &err), 0);
    storage_upload_free(upload);
    storage_upload_free(NULL);
    assert_int_equal(google_peer_objects(w->peer), 0);
}

/* --- downloads ------------------------------------------------------------------------------ */

struct taken {
    struct buf bytes;
    int refuse_after; /* pieces; 0: never */
    int pieces;
};

static int take(const char *data, size_t len, void *arg)
{
    struct taken *taken = arg;
    if (taken->refuse_after > 0 && ++taken->pieces > taken->refuse_after)
        return -1;
    return buf_add(&taken->bytes, data, len);
}

static void any_part_of_an_object_can_be_read_however_often_it_is_cut(void **state)
{
    struct world *w = *state;
    static const struct {
        int64_t from, len, want_from, want_len;
    } cases[] = {
        {0, -1, 0, 3 * MEBI},
        {0, 0, 0, 0},
        {0, 1, 0, 1},
        {100, 1000, 100, 1000},
        {MEBI, -1, MEBI, 2 * MEBI},
        {3 * MEBI - 1, 5, 3 * MEBI - 1, 1},
        {3 * MEBI, -1, 3 * MEBI, 0},
        {4 * MEBI, 10, 4 * MEBI, 0},
        {MEBI, MEBI, MEBI, MEBI},
    };
    AUTO(str) char *bytes = make_bytes(3 * MEBI);
    google_peer_put(w->peer, "o", bytes, 3 * MEBI);
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (int cuts = 0; cuts < 4; cuts++) {
            struct err err = ERR_INIT;
            struct taken taken = {.bytes = BUF_INIT(4 * MEBI)};
            const struct storage_sink sink = {.write = take, .arg = &taken};
            for (int cut = 0; cut < cuts && cases[i].want_len > 1000; cut++)
                fault(w, PEER_CUT_ANSWER, "alt=media", cut == 0 ? 0 : 100000 * (size_t)cut + 7);
            if (storage_read(w->google, "b", "o", cases[i].from, cases[i].len, &sink, &err))
                fail_msg("%zu, %d: %s", i, cuts, err.msg);
            assert_int_equal(taken.bytes.len, cases[i].want_len);
            assert_memory_equal(buf_str(&taken.bytes),
                                cases[i].want_len ? bytes + cases[i].want_from : "",
                                cases[i].want_len);
            buf_done(&taken.bytes);
        }
}

static void a_download_without_ranges_and_checksums_works_too(void **state)
{
    struct world *w = *state;
    AUTO(str) char *bytes = make_bytes(MEBI);
    google_peer_put(w->peer, "o", bytes, MEBI);
    for (int i = 0; i < 2; i++) {
        struct err err = ERR_INIT;
        struct taken taken = {.bytes = BUF_INIT(4 * MEBI)};
        const struct storage_sink sink = {.write = take, .arg = &taken};
        google_peer_fault(w->peer, &(struct peer_fault){.kind = PEER_PLAIN, .match = "alt=media"});
        if (storage_read(w->google, "b", "o", i * 1000, i ? 2000 : -1, &sink, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(taken.bytes.len, i ? 2000 : MEBI);
        assert_memory_equal(taken.bytes.data, bytes + i * 1000, taken.bytes.len);
        buf_done(&taken.bytes);
    }
}

static void a_download_is_of_one_generation(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct taken taken = {.bytes = BUF_INIT(4 * MEBI)};
    const struct storage_sink sink = {.write = take, .arg = &taken};
    AUTO(str) char *bytes = make_bytes(MEBI);
    google_peer_put(w->peer, "o", bytes, MEBI);
    fault(w, PEER_CUT_ANSWER, "alt=media", 1000);
    fault(w, PEER_REPLACE, "alt=media", 0);
    assert_int_equal(storage_read(w->google, "b", "o", 0, -1, &sink, &err), -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    assert_non_null(strstr(err.msg, "replaced"));
    assert_int_equal(taken.bytes.len, 1000);
    buf_done(&taken.bytes);
}

static void a_spoiled_download_is_an_error(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf out = BUF_INIT(MEBI);
    google_peer_put(w->peer, "o", "hello", 5);
    fault(w, PEER_SPOIL, "alt=media", 0);
    assert_int_equal(storage_get(w->google, "b", "o", &out, NULL, &err), -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_non_null(strstr(err.msg, "CRC32C"));
    assert_string_equal(buf_str(&out), "");
}

static void a_download_ends_where_its_taker_gives_up(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(str) char *bytes = make_bytes(3 * MEBI);
    struct taken taken = {.bytes = BUF_INIT(4 * MEBI), .refuse_after = 2};
    const struct storage_sink sink = {.write = take, .arg = &taken};
    AUTO(buf) struct buf small = BUF_INIT(1000);
    google_peer_put(w->peer, "o", bytes, 3 * MEBI);
    assert_int_equal(storage_read(w->google, "b", "o", 0, -1, &sink, &err), -1);
    assert_int_equal(taken.pieces, 3);
    assert_int_equal(storage_get(w->google, "b", "o", &small, NULL, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(google_peer_count(w->peer, "alt=media"), 2);
    buf_done(&taken.bytes);
}

static void another_part_than_was_asked_for_is_an_error(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct taken taken = {.bytes = BUF_INIT(4 * MEBI)};
    const struct storage_sink sink = {.write = take, .arg = &taken};
    google_peer_put(w->peer, "o", "hello", 5);
    google_peer_fault(w->peer, &(struct peer_fault){.kind = PEER_ANSWER,
                                                    .match = "alt=media",
                                                    .status = 206,
                                                    .headers = "Content-Range: bytes 0-1/5\r\n",
                                                    .body = "he"});
    assert_int_equal(storage_read(w->google, "b", "o", 3, -1, &sink, &err), -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_int_equal(taken.bytes.len, 0);
}

/* --- the rest ------------------------------------------------------------------------------- */

static void objects_are_put_together_in_order(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    static const char *const names[] = {"c", "a", "b", "a"};
    AUTO(storage_object) struct storage_object object = {0};
    google_peer_put(w->peer, "a", "first ", 6);
    google_peer_put(w->peer, "b", "second ", 7);
    google_peer_put(w->peer, "c", "", 0);
    if (storage_compose(w->google, &(const struct storage_at){"b", "all", "x/y", STORAGE_ABSENT},
                        names, 4, &object, &err))
        fail_msg("%s", err.msg);
    assert_stored(w, "all", "first second first ", 19);
    assert_int_equal(storage_compose(w->google, &(const struct storage_at){"b", "all", NULL, 5},
                                     names, 4, NULL, &err),
                     -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    fault(w, PEER_LOSE, "/compose", 0);
    if (storage_compose(w->google, &(const struct storage_at){"b", "all", NULL, object.generation},
                        names, 3, NULL, &err))
        fail_msg("%s", err.msg);
    assert_stored(w, "all", "first second ", 13);
    assert_int_equal(storage_compose(w->google, &(const struct storage_at){"b", "all", NULL, 5},
                                     names, 0, NULL, &err),
                     -1);
    assert_int_equal(storage_compose(w->google, &(const struct storage_at){"b", "all", NULL, 5},
                                     names, 33, NULL, &err),
                     -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(storage_compose(w->google,
                                     &(const struct storage_at){"b", "a", NULL, STORAGE_ANY}, names,
                                     2, NULL, &err),
                     -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_stored(w, "a", "first ", 6);
}

static void a_delete_is_of_the_generation_that_is_meant(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(storage_object) struct storage_object object = {0};
    google_peer_put(w->peer, "o", "x", 1);
    assert_int_equal(storage_stat(w->google, "b", "o", &object, &err), 0);
    assert_int_equal(storage_delete(w->google, "b", "o", object.generation - 1, &err), -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    fault(w, PEER_LOSE, "DELETE ", 0);
    assert_int_equal(storage_delete(w->google, "b", "o", object.generation, &err), 0);
    answer(w, "DELETE ", 412, NULL); /* as some say where there is none */
    assert_int_equal(storage_delete(w->google, "b", "o", object.generation, &err), 0);
    assert_int_equal(storage_stat(w->google, "b", "o", &object, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void names_that_nothing_can_have_are_refused_here(void **state)
{
    struct world *w = *state;
    char longest[1026];
    memset(longest, 'x', sizeof(longest));
    longest[1025] = '\0';
    const char *const names[] = {"", ".", "..", "a\nb", "a\rb", "\xff", longest};
    static const char *const buckets[] = {"", "A", "a/b", "a b", ".", "..", ".a", "a.", "b?c"};
    struct err err = ERR_INIT;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (storage_delete(w->google, "b", names[i], STORAGE_ANY, &err) == 0 ||
            err.code != ERR_INVALID)
            fail_msg("name %zu", i);
    for (size_t i = 0; i < COUNT_OF(buckets); i++)
        if (storage_delete(w->google, buckets[i], "o", STORAGE_ANY, &err) == 0 ||
            err.code != ERR_INVALID)
            fail_msg("bucket '%s'", buckets[i]);
    assert_int_equal(google_peer_count(w->peer, ""), 0);
    assert_int_equal(storage_put(w->google,
                                 &(const struct storage_at){"b", longest + 1, NULL, STORAGE_ANY},
                                 "x", 1, NULL, &err),
                     0);
    assert_int_equal(
        storage_put(w->google,
                    &(const struct storage_at){"b", "a/../b%2F\xc3\xa4", NULL, STORAGE_ANY}, "x", 1,
                    NULL, &err),
        0);
    assert_stored(w, "a/../b%2F\xc3\xa4", "x", 1);
}

/* What is wrong with an answer, as JSON or as an object. */
static void answers_that_make_no_sense_are_errors(void **state)
{
    struct world *w = *state;
    static const char *const bodies[] = {
        "",
        "null",
        "[]",
        "{",
        "<html>",
        "{\"name\":1}",
        "{\"name\":\"o\"}",
        "{\"name\":\"o\",\"generation\":\"x\",\"size\":\"1\"}",
        "{\"name\":\"o\",\"generation\":\"1\",\"size\":\"-1\"}",
        "{\"name\":\"o\",\"generation\":\"99999999999999999999\",\"size\":\"1\"}",
        "{\"name\":\"o\",\"generation\":{},\"size\":[]}"};
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        struct err err = ERR_INIT;
        struct storage_object object;
        google_peer_fault(
            w->peer, &(struct peer_fault){
                         .kind = PEER_ANSWER, .match = "GET ", .status = 200, .body = bodies[i]});
        if (storage_stat(w->google, "b", "o", &object, &err) == 0 || err.code != ERR_UPSTREAM)
            fail_msg("%s: %s", bodies[i], err.msg);
    }
}

static void a_list_that_leads_in_a_circle_ends(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf got = BUF_INIT(1024);
    google_peer_fault(w->peer, &(struct peer_fault){.kind = PEER_ANSWER,
                                                    .match = "GET ",
                                                    .times = 2,
                                                    .status = 200,
                                                    .body = "{\"nextPageToken\":\"x\"}"});
    assert_int_equal(storage_list(w->google, "b", &(struct storage_list){0}, add_name, &got, &err),
                     -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_put_can_be_read_listed_and_deleted),
        TEST(all_pages_are_listed_in_order_within_prefix_offset_and_maximum),
        TEST(a_file_of_any_size_is_stored_from_its_offset_on),
        TEST(a_put_whose_answer_was_lost_counts_once),
        TEST(a_put_over_another_generation_is_refused),
        TEST(a_put_is_tried_again_on_what_passes),
        TEST(what_arrives_changed_is_deleted_and_reported),
        TEST(an_upload_goes_on_wherever_it_is_cut),
        TEST(every_stage_of_an_upload_may_fail_once),
        TEST(an_upload_that_cannot_succeed_says_why),
        TEST(a_file_that_became_shorter_is_refused),
        TEST(an_upload_and_a_download_stop_when_they_are_asked_to),
        TEST(an_upload_of_unknown_size_becomes_what_was_added),
        TEST(an_upload_that_was_forgotten_begins_again_only_from_its_beginning),
        TEST(an_abandoned_upload_leaves_nothing),
        TEST(any_part_of_an_object_can_be_read_however_often_it_is_cut),
        TEST(a_download_without_ranges_and_checksums_works_too),
        TEST(a_download_is_of_one_generation),
        TEST(a_spoiled_download_is_an_error),
        TEST(a_download_ends_where_its_taker_gives_up),
        TEST(another_part_than_was_asked_for_is_an_error),
        TEST(objects_are_put_together_in_order),
        TEST(a_delete_is_of_the_generation_that_is_meant),
        TEST(names_that_nothing_can_have_are_refused_here),
        TEST(answers_that_make_no_sense_are_errors),
        TEST(a_list_that_leads_in_a_circle_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
