#include "google_storage_scene.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

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

/* Stops the upload when the request that gets no answer has arrived. */
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
        if (i > 2) /* only a part of the first piece is stored */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_upload_goes_on_wherever_it_is_cut),
        TEST(every_stage_of_an_upload_may_fail_once),
        TEST(an_upload_that_cannot_succeed_says_why),
        TEST(a_file_that_became_shorter_is_refused),
        TEST(an_upload_and_a_download_stop_when_they_are_asked_to),
        TEST(an_upload_of_unknown_size_becomes_what_was_added),
        TEST(an_upload_that_was_forgotten_begins_again_only_from_its_beginning),
        TEST(an_abandoned_upload_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
