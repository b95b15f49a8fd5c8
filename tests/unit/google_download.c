#include "google_storage_scene.h"

#include "base/clock.h"

#include <string.h>

/* --- downloads ------------------------------------------------------------------------------ */

struct taken {
    struct buf bytes;
    int refuse_after; /* refuse after that many pieces; 0: never */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(any_part_of_an_object_can_be_read_however_often_it_is_cut),
        TEST(a_download_without_ranges_and_checksums_works_too),
        TEST(a_download_is_of_one_generation),
        TEST(a_spoiled_download_is_an_error),
        TEST(a_download_ends_where_its_taker_gives_up),
        TEST(another_part_than_was_asked_for_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
