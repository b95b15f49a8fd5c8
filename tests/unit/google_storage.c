#include "google_storage_scene.h"

#include "base/clock.h"

#include <string.h>

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
    /* another writer's object is not taken for this one when an answer is lost */
    fault(w, PEER_LOSE, "uploadType=media", 0);
    assert_int_equal(storage_put(w->google, &(const struct storage_at){"b", "o", NULL, 7}, "ours",
                                 4, NULL, &err),
                     -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    /* and bytes that existed before do not count as the result of this put */
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
    assert_int_equal(google_peer_tokens(w->peer), 2); /* the token that was refused is not used
                                                       * again */
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
    answer(w, "DELETE ", 412, NULL); /* the status that some servers give for a missing object */
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

/* Answers that are wrong, as JSON or as an object's description. */
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
        TEST(objects_are_put_together_in_order),
        TEST(a_delete_is_of_the_generation_that_is_meant),
        TEST(names_that_nothing_can_have_are_refused_here),
        TEST(answers_that_make_no_sense_are_errors),
        TEST(a_list_that_leads_in_a_circle_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
