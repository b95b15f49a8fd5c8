/*
 * The stand-in for Cloud Storage and its neighbours: bytes, keys, and what a set-up makes.
 */
#include "google_objects_scene.h"

#include <stdio.h>
#include <string.h>

#define HELLO_CRC "8P9ykg=="

/* ---- objects ---- */

static void bytes_come_back_whole_or_in_part(void **state)
{
    (void)state;
    static const struct {
        const char *range;
        int status;
        const char *body, *told;
    } cases[] = {
        {"", 200, HELLO, ""},
        {"Range: bytes=0-4\r\n", 206, "hello", "bytes 0-4/12"},
        {"Range: bytes=6-\r\n", 206, "world\n", "bytes 6-11/12"},
        {"Range: bytes=-3\r\n", 206, "ld\n", "bytes 9-11/12"},
        {"Range: bytes=6-999\r\n", 206, "world\n", "bytes 6-11/12"},
        {"Range: bytes=12-\r\n", 416, NULL, "bytes */12"},
        {"Range: lines=1-2\r\n", 200, HELLO, ""},
    };
    put_hello("ranged");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = get_with("ranged", "?alt=media", cases[i].range);
        assert_status(reply, cases[i].status);
        if (cases[i].body)
            assert_string_equal(reply->body, cases[i].body);
        if (cases[i].body)
            assert_header(reply, "X-Goog-Hash", "crc32c=" HELLO_CRC);
        assert_header(reply, "Content-Range", cases[i].told);
        reply_free(reply);
    }
}

static void generations_grow_and_preconditions_hold_or_not(void **state)
{
    (void)state;
    long long first = put_hello("versioned"), second = put_hello("versioned");
    assert_true(second > first);
    const struct {
        const char *query;
        long long value;
        int status;
    } cases[] = {
        {"?ifGenerationMatch=%lld", second, 200},   {"?ifGenerationMatch=%lld", first, 412},
        {"?ifGenerationMatch=%lld", 0, 412},        {"?ifGenerationNotMatch=%lld", second, 304},
        {"?ifGenerationNotMatch=%lld", first, 200}, {"?ifMetagenerationMatch=%lld", 1, 200},
        {"?ifMetagenerationMatch=%lld", 2, 412},    {"?generation=%lld", second, 200},
        {"?generation=%lld", first, 404},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char number[32], query[128];
        snprintf(number, sizeof number, "%lld", cases[i].value);
        snprintf(query, sizeof query, "%.*s%s", (int)strcspn(cases[i].query, "%"), cases[i].query,
                 number);
        struct reply *reply = get_with("versioned", query, "");
        assert_status(reply, cases[i].status);
        reply_free(reply);
    }
    struct reply *reply = put("versioned", "&ifGenerationMatch=0", "", HELLO);
    assert_status(reply, 412);
    assert_json_text(reply->json, "error.errors.0.reason", "conditionNotMet");
    reply_free(reply);
    reply = put("fresh", "&ifGenerationMatch=0", "", HELLO);
    assert_status(reply, 200);
    reply_free(reply);
}

/* Two parts, the first of which says this of the second. */
static struct reply *put_parts(const char *meta)
{
    char *body =
        textf("--==b\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--==b\r\n"
              "Content-Type: text/css\r\n\r\n" HELLO "\r\n--==b--",
              meta);
    struct reply *reply =
        http_call(cloud->base, "POST", UPLOAD "?uploadType=multipart",
                  BEARER "Content-Type: multipart/related; boundary=\"==b\"\r\n", body);
    free(body);
    return reply;
}

static void a_promised_checksum_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *meta;
        int status;
    } cases[] = {
        {"{\"name\":\"p1\",\"crc32c\":\"" HELLO_CRC "\"}", 200},
        {"{\"name\":\"p2\",\"crc32c\":\"AAAAAA==\"}", 400},
        {"{\"name\":\"p3\",\"md5Hash\":\"b1kCrCNwJL3QwXbLk7m+bQ==\"}", 400},
        {"{\"name\":\"p4\",\"metadata\":{\"a\":\"b\"}}", 200},
        {"{\"name\":\"p5\",\"metadata\":{\"a\":1}}", 400},
        {"{\"name\":\"p6\",\"checksum\":\"\"}", 400},
        {"{", 400},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = put_parts(cases[i].meta);
        assert_status(reply, cases[i].status);
        if (cases[i].status == 200) {
            assert_json_text(reply->json, "crc32c", HELLO_CRC);
            assert_json_text(reply->json, "contentType", "text/css");
            assert_json_text(reply->json, "size", "12");
        }
        reply_free(reply);
    }
    struct reply *reply = get_with("p2", "", "");
    assert_status(reply, 404);
    reply_free(reply);
}

/* The names on the page that the query gives, joined by commas, prefixes in brackets. The next
 * page's token is returned in ret_token. */
static char *names(const char *query, char **ret_token)
{
    char *path = textf(OBJECTS "?%s", query), *all = strdup("");
    struct reply *reply = http_call(cloud->base, "GET", path, BEARER, NULL);
    assert_status(reply, 200);
    const cJSON *item;
    cJSON_ArrayForEach(item, json_at(reply->json, "prefixes"))
    {
        char *longer = textf("%s[%s],", all, item->valuestring);
        free(all);
        all = longer;
    }
    cJSON_ArrayForEach(item, json_at(reply->json, "items"))
    {
        char *longer = textf("%s%s,", all, json_text(item, "name"));
        free(all);
        all = longer;
    }
    *ret_token = strdup(json_text(reply->json, "nextPageToken"));
    reply_free(reply);
    free(path);
    return all;
}

static void lists_come_in_pages_of_two(void **state)
{
    (void)state;
    static const struct {
        const char *query, *pages[5];
    } cases[] = {
        {"prefix=l/", {"l/a,l/b/1,", "l/b/2,l/c,", "l/d,"}},
        {"prefix=l/&maxResults=1", {"l/a,", "l/b/1,", "l/b/2,", "l/c,", "l/d,"}},
        {"prefix=l/&maxResults=1000&startOffset=l/b/2", {"l/b/2,l/c,", "l/d,"}},
        {"prefix=l/&startOffset=l/b&endOffset=l/c", {"l/b/1,l/b/2,"}},
        {"prefix=l/&delimiter=/", {"[l/b/],l/a,", "l/c,l/d,"}},
        {"prefix=l/&delimiter=/&maxResults=1", {"l/a,", "[l/b/],", "l/c,", "l/d,"}},
        {"prefix=nothing", {""}},
    };
    static const char *const made[] = {"l%2Fa", "l%2Fb%2F1", "l%2Fb%2F2", "l%2Fc", "l%2Fd"};
    for (size_t i = 0; i < COUNT(made); i++)
        put_hello(made[i]);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *token = strdup("");
        for (size_t page = 0; page < 5 && cases[i].pages[page]; page++) {
            char *query = textf("%s%s%s", cases[i].query, *token ? "&pageToken=" : "", token);
            free(token);
            char *found = names(query, &token);
            assert_string_equal(found, cases[i].pages[page]);
            bool last = page == 4 || !cases[i].pages[page + 1];
            assert_int_equal(!*token, last);
            free(found);
            free(query);
        }
        free(token);
    }
}

static void objects_are_put_together(void **state)
{
    (void)state;
    long long one = put_hello("c1");
    put_hello("c2");
    char *good = textf("{\"sourceObjects\":[{\"name\":\"c1\",\"objectPreconditions\":{"
                       "\"ifGenerationMatch\":\"%lld\"}},{\"name\":\"c2\"}],\"destination\":{"
                       "\"contentType\":\"text/plain\"}}",
                       one);
    struct reply *reply = cloud_call(cloud, "POST", OBJECTS "/both/compose", good);
    assert_status(reply, 200);
    assert_json_text(reply->json, "size", "24");
    assert_json_number(reply->json, "componentCount", 2);
    reply_free(reply);
    reply = get_with("both", "?alt=media", "");
    assert_string_equal(reply->body, HELLO HELLO);
    reply_free(reply);
    put_hello("c1");
    reply = cloud_call(cloud, "POST", OBJECTS "/both/compose", good);
    assert_status(reply, 412);
    reply_free(reply);
    reply = cloud_call(cloud, "POST", OBJECTS "/both/compose?ifGenerationMatch=0",
                       "{\"sourceObjects\":[{\"name\":\"c1\"}]}");
    assert_status(reply, 412);
    reply_free(reply);
    free(good);
}

/* ---- faults ---- */

static void plan(const char *fault)
{
    char *json = textf("{\"faults\":[%s]}", fault);
    cloud_control(cloud, json);
    free(json);
}

static void faults_are_shown_as_planned(void **state)
{
    (void)state;
    put_hello("faulty");
    plan("{\"method\":\"storage.objects.get\",\"status\":429,\"retryAfter\":7},"
         "{\"method\":\"storage.*\",\"times\":2,\"status\":502},"
         "{\"pathContains\":\"faulty\",\"skip\":1,\"wrongCrc\":true},"
         "{\"method\":\"storage.objects.get\",\"truncateAt\":5},"
         "{\"method\":\"storage.objects.get\",\"cut\":\"before\"}");
    struct reply *reply = get_with("faulty", "", "");
    assert_status(reply, 429);
    assert_header(reply, "Retry-After", "7");
    assert_json_text(reply->json, "error.errors.0.reason", "rateLimitExceeded");
    reply_free(reply);
    for (int i = 0; i < 2; i++) {
        reply = get_with("faulty", "", "");
        assert_status(reply, 502);
        reply_free(reply);
    }
    reply = get_with("faulty", "?alt=media", ""); /* the skip is over, so this request meets the
                                                   * next fault of the plan */
    assert_int_equal(reply->body_size, 5);
    assert_false(reply->complete);
    reply_free(reply);
    reply = get_with("faulty", "?alt=media", "");
    assert_header(reply, "X-Goog-Hash", "crc32c=AAAAAA==");
    assert_string_equal(reply->body, HELLO);
    reply_free(reply);
    reply = get_with("faulty", "", "");
    assert_int_equal(reply->status, 0);
    reply_free(reply);
    reply = get_with("faulty", "?alt=media", "");
    assert_status(reply, 200);
    assert_string_equal(reply->body, HELLO);
    reply_free(reply);
}

static void a_lost_answer_leaves_the_object_there(void **state)
{
    (void)state;
    plan("{\"method\":\"storage.objects.insert\",\"cut\":\"after\"}");
    struct reply *reply = put("lost", "&ifGenerationMatch=0", "", HELLO);
    assert_int_equal(reply->status, 0);
    reply_free(reply);
    reply = get_with("lost", "", "");
    assert_status(reply, 200);
    reply_free(reply);
    plan("{\"method\":\"storage.objects.get\",\"delayMs\":300}");
    int64_t begin = now_ms(); /* before it is sent: the delay runs from there */
    reply = get_with("lost", "", "");
    assert_status(reply, 200);
    assert_true(now_ms() - begin >= 290);
    reply_free(reply);
    cloud_control(cloud, "{\"vanish\":{\"bucket\":\"" CLOUD_BUCKET "\",\"name\":\"lost\"}}");
    reply = get_with("lost", "", "");
    assert_status(reply, 404);
    reply_free(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back_whole_or_in_part),
        cmocka_unit_test(generations_grow_and_preconditions_hold_or_not),
        cmocka_unit_test(a_promised_checksum_is_checked),
        cmocka_unit_test(lists_come_in_pages_of_two),
        cmocka_unit_test(objects_are_put_together),
        cmocka_unit_test(faults_are_shown_as_planned),
        cmocka_unit_test(a_lost_answer_leaves_the_object_there),
    };
    return cmocka_run_group_tests_name("google_objects", tests, start, stop);
}
