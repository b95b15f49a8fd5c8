/*
 * The stand-in for Cloud Storage and its neighbours: bytes, keys, and what a set-up makes.
 */
#include "cloud.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEARER "Authorization: Bearer " CLOUD_TOKEN "\r\n"
#define OBJECTS "/storage/v1/b/" CLOUD_BUCKET "/o"
#define UPLOAD "/upload/storage/v1/b/" CLOUD_BUCKET "/o"
#define HELLO "hello world\n"
#define HELLO_CRC "8P9ykg=="

enum { CHUNK = 262144, BIG_MIB = 192, FLAT_KIB = 48 * 1024 };

static struct cloud *cloud;

static int start(void **state)
{
    (void)state;
    cloud = cloud_new(NULL, NULL);
    cloud_furnish(cloud, "a secret key");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    cloud_free(cloud);
    return 0;
}

/* ---- helpers ---- */

static struct reply *put(const char *name, const char *query, const char *headers, const char *text)
{
    char *path = textf(UPLOAD "?uploadType=media&name=%s%s", name, query);
    char *all = textf(BEARER "%s", headers);
    struct reply *reply = http_call(cloud->base, "POST", path, all, text);
    free(all);
    free(path);
    return reply;
}

/* The object's generation. */
static long long put_hello(const char *name)
{
    struct reply *reply = put(name, "", "Content-Type: text/plain\r\n", HELLO);
    assert_status(reply, 200);
    long long generation = strtoll(json_text(reply->json, "generation"), NULL, 10);
    reply_free(reply);
    return generation;
}

static struct reply *get_with(const char *name, const char *query, const char *headers)
{
    char *path = textf(OBJECTS "/%s%s", name, query), *all = textf(BEARER "%s", headers);
    struct reply *reply = http_call(cloud->base, "GET", path, all, NULL);
    free(all);
    free(path);
    return reply;
}

static void assert_header(const struct reply *reply, const char *name, const char *expected)
{
    char value[512] = "";
    reply_header(reply, name, value, sizeof value);
    assert_string_equal(value, expected);
}

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

/* The names on the page of the query, joined by commas, prefixes in brackets; the next page's token
 * goes to ret_token. */
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

/* ---- resumable uploads ---- */

/* The path of a new session. */
static char *begin(const char *name, const char *query, const char *headers)
{
    char location[512];
    char *path = textf(UPLOAD "?uploadType=resumable&name=%s%s", name, query);
    char *all = textf(BEARER "Content-Type: application/json\r\n%s", headers);
    struct reply *reply = http_call(cloud->base, "POST", path, all, "{}");
    assert_status(reply, 200);
    assert_true(reply_header(reply, "Location", location, sizeof location));
    assert_int_equal(strncmp(location, cloud->base, strlen(cloud->base)), 0);
    reply_free(reply);
    free(all);
    free(path);
    return strdup(location + strlen(cloud->base));
}

static struct reply *piece(const char *session, const char *range, size_t size)
{
    char *headers = textf("Content-Range: bytes %s\r\n", range), *body = malloc(size + 1);
    memset(body, 'x', size);
    body[size] = '\0';
    struct reply *reply = http_call(cloud->base, "PUT", session, headers, body);
    free(body);
    free(headers);
    return reply;
}

static void assert_piece(const char *session, const char *range, size_t size, int status,
                         const char *have)
{
    struct reply *reply = piece(session, range, size);
    print_message("  %s: %d\n", range, reply->status);
    assert_status(reply, status);
    assert_header(reply, "Range", have);
    reply_free(reply);
}

static void an_upload_comes_in_pieces(void **state)
{
    (void)state;
    char *session = begin("pieces", "&ifGenerationMatch=0", "");
    assert_piece(session, "*/*", 0, 308, "");
    assert_piece(session, "0-99/*", 100, 400, "");
    assert_piece(session, "262144-524287/*", CHUNK, 503, "");
    assert_piece(session, "0-262143/*", CHUNK, 308, "bytes=0-262143");
    assert_piece(session, "0-524287/*", 2 * CHUNK, 308, "bytes=0-524287"); /* what is there again */
    assert_piece(session, "524288-524387/524300", 100, 400, "");
    assert_piece(session, "nonsense", 0, 400, "");
    cloud_restart(cloud);
    assert_piece(session, "*/524388", 0, 308, "bytes=0-524287");
    assert_piece(session, "524288-524387/524388", 100, 200, "");
    assert_piece(session, "*/524388", 0, 200, ""); /* the answer that was lost */
    struct reply *reply = get_with("pieces", "", "");
    assert_json_text(reply->json, "size", "524388");
    reply_free(reply);
    free(session);
    session = begin("whole", "", "X-Upload-Content-Length: 5\r\n");
    assert_piece(session, "0-3/4", 4, 400, "");
    free(session);
    session = begin("empty", "", "");
    assert_piece(session, "*/0", 0, 200, "");
    free(session);
}

static void what_came_before_a_cut_counts_in_multiples(void **state)
{
    (void)state;
    char *session = begin("cut", "", "");
    char *head = textf("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nContent-Range: "
                       "bytes 0-999999/1000000\r\n\r\n",
                       session);
    char *data = calloc(1, 2 * CHUNK + 5000);
    int fd = http_connect(cloud->base);
    assert_true(http_send_text(fd, head) && http_send(fd, data, 2 * CHUNK + 5000));
    close(fd);
    EVENTUALLY(10000, cloud_count(cloud, "upload", "0-999999/1000000") == 1);
    assert_piece(session, "*/1000000", 0, 308, "bytes=0-524287");
    assert_piece(session, "524288-999999/1000000", 1000000 - 2 * CHUNK, 200, "");
    free(data);
    free(head);
    free(session);
}

/* The status of a question for what is there. */
static int asked(const char *session)
{
    struct reply *reply = piece(session, "*/*", 0);
    int status = reply->status;
    reply_free(reply);
    return status;
}

static void a_connection_breaks_where_it_is_planned(void **state)
{
    (void)state;
    char *session = begin("broken", "", "");
    cloud_control(cloud, "{\"faults\":[{\"method\":\"upload\",\"cutUploadAt\":300000}]}");
    struct reply *reply = piece(session, "0-599999/600000", 600000);
    assert_int_equal(reply->status, 0);
    reply_free(reply);
    assert_piece(session, "*/600000", 0, 308, "bytes=0-262143");
    assert_piece(session, "262144-599999/600000", 600000 - CHUNK, 200, "");
    free(session);
}

static void an_upload_ends_unfinished(void **state)
{
    (void)state;
    char *session = begin("expired", "", "");
    cloud_control(cloud, "{\"uploadLifetimeMs\":0}");
    EVENTUALLY(5000, asked(session) == 410);
    cloud_control(cloud, "{\"uploadLifetimeMs\":604800000}");
    struct reply *reply = http_call(cloud->base, "DELETE", session, NULL, NULL);
    assert_status(reply, 499);
    reply_free(reply);
    assert_piece(session, "*/*", 0, 404, "");
    free(session);
    session = begin("raced", "&ifGenerationMatch=0", "");
    put_hello("raced");
    assert_piece(session, "0-3/4", 4, 412, "");
    free(session);
}

/* ---- big ones ---- */

/* Sends BIG_MIB in one PUT: the status. */
static int send_big(const char *session)
{
    long long size = (long long)BIG_MIB << 20;
    char *head = textf("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %lld\r\nContent-Range: bytes "
                       "0-%lld/%lld\r\n\r\n",
                       session, size, size - 1, size);
    char *data = calloc(1, 1 << 20);
    int fd = http_connect(cloud->base);
    assert_true(http_send_text(fd, head));
    for (int i = 0; i < BIG_MIB; i++)
        assert_true(http_send(fd, data, 1 << 20));
    struct reply *reply = http_read(fd, HTTP_DEADLINE_MS);
    int status = reply->status;
    reply_free(reply);
    close(fd);
    free(data);
    free(head);
    return status;
}

/* How many bytes of the object come. */
static long long receive_big(const char *name)
{
    char *path = textf(OBJECTS "/%s?alt=media", name), *data = malloc(1 << 20);
    int fd = http_begin(cloud->base, "GET", path, BEARER, NULL);
    long long got = 0, head = 0;
    ssize_t n;
    while ((got < (long long)BIG_MIB << 20) && (n = read(fd, data, 1 << 20)) > 0) {
        if (!head) {
            const char *end = memmem(data, (size_t)n, "\r\n\r\n", 4);
            assert_non_null(end);
            head = end + 4 - data;
            got -= head;
        }
        got += n;
    }
    close(fd);
    free(data);
    free(path);
    return got;
}

static void a_big_object_takes_no_memory(void **state)
{
    (void)state;
    char *session = begin("big", "", "");
    assert_int_equal(send_big(session), 200);
    assert_true(receive_big("big") == (long long)BIG_MIB << 20);
    if (slowness() == 1) /* sanitizers keep memory of their own */
        assert_true(proc_rss_kib(cloud->api->pid) < FLAT_KIB);
    struct reply *reply = cloud_call(cloud, "DELETE", OBJECTS "/big", NULL);
    assert_status(reply, 204);
    reply_free(reply);
    free(session);
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
    reply = get_with("faulty", "?alt=media", ""); /* the skip; so the next one in the plan */
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
    reply = get_with("lost", "", "");
    assert_status(reply, 200);
    assert_true(reply->total_ms >= 290);
    reply_free(reply);
    cloud_control(cloud, "{\"vanish\":{\"bucket\":\"" CLOUD_BUCKET "\",\"name\":\"lost\"}}");
    reply = get_with("lost", "", "");
    assert_status(reply, 404);
    reply_free(reply);
}

/* ---- keys ---- */

static struct reply *open_sealed(const char *key, const char *sealed, const char *aad)
{
    char *path = textf("/v1/%s:decrypt", key);
    char *body =
        textf("{\"ciphertext\":\"%s\",\"additionalAuthenticatedData\":\"%s\"}", sealed, aad);
    struct reply *reply = cloud_call(cloud, "POST", path, body);
    free(body);
    free(path);
    return reply;
}

static void only_the_same_key_and_data_open_what_was_sealed(void **state)
{
    (void)state;
    struct reply *reply =
        cloud_call(cloud, "POST",
                   "/v1/projects/" CLOUD_PROJECT "/locations/global/keyRings/" CLOUD_KEY_RING
                   "/cryptoKeys?cryptoKeyId=other",
                   "{\"purpose\":\"ENCRYPT_DECRYPT\"}");
    assert_status(reply, 200);
    reply_free(reply);
    reply = cloud_call(cloud, "POST", "/v1/" CLOUD_KEY_NAME ":encrypt",
                       "{\"plaintext\":\"YWJj\",\"plaintextCrc32c\":\"910901175\","
                       "\"additionalAuthenticatedData\":\"dGFzaz0x\"}");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "verifiedPlaintextCrc32c", true);
    char *sealed = strdup(json_text(reply->json, "ciphertext"));
    reply_free(reply);
    cloud_restart(cloud);
    const struct {
        const char *key, *aad;
        int status;
    } cases[] = {
        {CLOUD_KEY_NAME, "dGFzaz0x", 200},
        {CLOUD_KEY_NAME, "dGFzaz0y", 400},
        {CLOUD_KEY_NAME, "", 400},
        {"projects/" CLOUD_PROJECT "/locations/global/keyRings/" CLOUD_KEY_RING "/cryptoKeys/other",
         "dGFzaz0x", 400},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        reply = open_sealed(cases[i].key, sealed, cases[i].aad);
        assert_status(reply, cases[i].status);
        if (cases[i].status == 200)
            assert_json_text(reply->json, "plaintextCrc32c", "910901175");
        reply_free(reply);
    }
    free(sealed);
}

/* ---- what a set-up makes ---- */

static bool is_done(const char *operation)
{
    char *path = textf("/v1/%s", operation);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    bool done = cJSON_IsTrue(json_at(reply->json, "done"));
    reply_free(reply);
    free(path);
    return done;
}

/* A request, and what is then said at a place of the answer. */
static const struct {
    const char *method, *path, *body, *at, *expected;
} set_up[] = {
    {"POST", "/v1/projects/" CLOUD_PROJECT "/services/run.googleapis.com:enable", "{}", NULL, NULL},
    {"GET", "/v1/projects/" CLOUD_PROJECT "/services/run.googleapis.com", NULL, "state", "ENABLED"},
    {"GET", "/v1/projects/" CLOUD_PROJECT "/services/logging.googleapis.com", NULL, "state",
     "DISABLED"},
    {"POST", "/v1/" CLOUD_LOCATION "/repositories?repositoryId=runner", "{\"format\":\"DOCKER\"}",
     NULL, NULL},
    {"GET", "/v1/" CLOUD_LOCATION "/repositories/runner", NULL, "format", "DOCKER"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts", "{\"accountId\":\"home-runner\"}",
     "email", "home-runner@" CLOUD_PROJECT ".iam.gserviceaccount.com"},
    {"POST",
     "/v1/projects/" CLOUD_PROJECT "/serviceAccounts/home-runner@" CLOUD_PROJECT
     ".iam.gserviceaccount.com/keys",
     "{}", "keyAlgorithm", "KEY_ALG_RSA_2048"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/roles",
     "{\"roleId\":\"runner\",\"role\":{\"includedPermissions\":[\"run.jobs.run\"]}}", "name",
     "projects/" CLOUD_PROJECT "/roles/runner"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":setIamPolicy",
     "{\"policy\":{\"bindings\":[{\"role\":\"projects/" CLOUD_PROJECT
     "/roles/runner\",\"members\":[\"serviceAccount:home-runner@" CLOUD_PROJECT
     ".iam.gserviceaccount.com\"]}]}}",
     NULL, NULL},
    {"GET", "/v2/" CLOUD_JOB_NAME ":getIamPolicy", NULL, "bindings.0.role",
     "projects/" CLOUD_PROJECT "/roles/runner"},
    {"GET", "/v3/projects/" CLOUD_PROJECT, NULL, "projectId", CLOUD_PROJECT},
    {"PATCH", "/storage/v1/b/" CLOUD_BUCKET,
     "{\"lifecycle\":{\"rule\":[{\"action\":{\"type\":\"Delete\"},\"condition\":{\"age\":7,"
     "\"matchesPrefix\":[\"inputs/\"]}}]}}",
     "lifecycle.rule.0.action.type", "Delete"},
    {"GET", "/compute/v1/projects/" CLOUD_PROJECT "/regions/" CLOUD_REGION "/subnetworks/default",
     NULL, "ipCidrRange", "10.128.0.0/20"},
    {"POST", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls",
     "{\"name\":\"out-443\",\"network\":\"global/networks/default\",\"direction\":\"EGRESS\","
     "\"priority\":900,\"allowed\":[{\"IPProtocol\":\"tcp\",\"ports\":[\"443\"]}],"
     "\"destinationRanges\":[\"0.0.0.0/0\"],\"targetTags\":[\"runner\"]}",
     "operationType", "insert"},
    {"GET", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/out-443", NULL, "direction",
     "EGRESS"},
    {"DELETE", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/out-443", NULL,
     "operationType", "delete"},
    {"DELETE",
     "/v1/projects/" CLOUD_PROJECT "/serviceAccounts/home-runner@" CLOUD_PROJECT
     ".iam.gserviceaccount.com",
     NULL, NULL, NULL},
};

static void what_a_set_up_makes_is_there_afterwards(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(set_up); i++) {
        struct reply *reply = cloud_call(cloud, set_up[i].method, set_up[i].path, set_up[i].body);
        print_message("  %s %s\n", set_up[i].method, set_up[i].path);
        assert_status(reply, 200);
        if (set_up[i].at)
            assert_json_text(reply->json, set_up[i].at, set_up[i].expected);
        const char *name = json_text(reply->json, "name");
        if (strncmp(name, "operations/", 11) == 0)
            EVENTUALLY(5000, is_done(name));
        reply_free(reply);
    }
}

static void a_policy_changes_only_from_what_was_read(void **state)
{
    (void)state;
    const char *path = "/v3/projects/" CLOUD_PROJECT ":setIamPolicy";
    struct reply *reply =
        cloud_call(cloud, "POST", "/v3/projects/" CLOUD_PROJECT ":getIamPolicy", "{}");
    assert_status(reply, 200);
    char *change = textf("{\"policy\":{\"etag\":\"%s\",\"bindings\":[{\"role\":\"roles/viewer\","
                         "\"members\":[\"user:owner@example.com\"]}]}}",
                         json_text(reply->json, "etag"));
    reply_free(reply);
    reply = cloud_call(cloud, "POST", path, change);
    assert_status(reply, 200);
    reply_free(reply);
    reply = cloud_call(cloud, "POST", path, change);
    assert_status(reply, 409);
    assert_json_text(reply->json, "error.status", "ABORTED");
    reply_free(reply);
    free(change);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back_whole_or_in_part),
        cmocka_unit_test(generations_grow_and_preconditions_hold_or_not),
        cmocka_unit_test(a_promised_checksum_is_checked),
        cmocka_unit_test(lists_come_in_pages_of_two),
        cmocka_unit_test(objects_are_put_together),
        cmocka_unit_test(an_upload_comes_in_pieces),
        cmocka_unit_test(what_came_before_a_cut_counts_in_multiples),
        cmocka_unit_test(a_connection_breaks_where_it_is_planned),
        cmocka_unit_test(an_upload_ends_unfinished),
        cmocka_unit_test(a_big_object_takes_no_memory),
        cmocka_unit_test(faults_are_shown_as_planned),
        cmocka_unit_test(a_lost_answer_leaves_the_object_there),
        cmocka_unit_test(only_the_same_key_and_data_open_what_was_sealed),
        cmocka_unit_test(what_a_set_up_makes_is_there_afterwards),
        cmocka_unit_test(a_policy_changes_only_from_what_was_read),
    };
    return cmocka_run_group_tests_name("google_objects", tests, start, stop);
}
