/*
 * Behaviour that Google documents and that servers of these APIs implement differently: uploads
 * that continue at another address, forms of ranges, members that are left out when empty, pages
 * without items, endpoints below a path.
 */
#include "base/str.h"
#include "google/jobs.h"
#include "google/storage.h"
#include "loopback.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MEBI ((size_t)1 << 20)
#define UNIT ((size_t)256 << 10)
#define BYTES (9 * MEBI + 3) /* two pieces */

enum range { RANGE_UNIT, RANGE_BARE };

struct habit {
    const char *what;
    const char *base;     /* of the endpoint, below its host */
    const char *location; /* Location after the start; %1$s: this server, %2$s: another */
    enum range range;
    size_t holds_back;  /* how many bytes of the first piece it does not store */
    int made;           /* the status of an object that was made; 0: 200 */
    const char *object; /* the answer instead of the object's description */
};

struct server {
    struct loopback *first, *second;
    char *url, *elsewhere;
    const struct habit *habit;
    char *data;
    size_t len;
    int pieces;
    char wrong[200]; /* what the server found wrong */
};

static bool refuse(struct server *s, struct loopback_call *call, const char *why)
{
    snprintf(s->wrong, sizeof(s->wrong), "%s: %.120s", why, call->path);
    return loopback_answer(call, 400, "", "");
}

static void add_object(const struct server *s, struct buf *out)
{
    uint32_t crc = google_crc32c_portable(0, s->data, s->len);
    const unsigned char bytes[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                    (unsigned char)(crc >> 8), (unsigned char)crc};
    buf_addf(out, "{\"name\":\"o\",\"generation\":\"7\",\"size\":\"%zu\",\"new\":{},\"crc32c\":\"",
             s->len);
    str_add_base64(out, BASE64_STD, bytes, sizeof(bytes));
    buf_adds(out, "\"}");
}

static bool tell_object(struct server *s, struct loopback_call *call, const char *instead)
{
    AUTO(buf) struct buf text = BUF_INIT(1024);
    add_object(s, &text);
    return loopback_answer(call, s->habit->made ? s->habit->made : 200, "",
                           instead ? instead : buf_str(&text));
}

static bool begin_upload(struct server *s, struct loopback_call *call)
{
    AUTO(buf) struct buf head = BUF_INIT(1024);
    free(loopback_body(call));
    buf_adds(&head, "Location: ");
    for (const char *at = s->habit->location; *at; at++) /* 1: here, 2: elsewhere */
        if (*at == '\1' || *at == '\2')
            buf_adds(&head, *at == '\1' ? s->url : s->elsewhere);
        else
            buf_addc(&head, *at);
    buf_adds(&head, "\r\n");
    return loopback_answer(call, 200, buf_str(&head), "");
}

static bool take_piece(struct server *s, struct loopback_call *call)
{
    char range[96] = "", head[64] = "";
    size_t first = 0, last = 0, total = 0;
    loopback_header(call, "Content-Range", range, sizeof(range));
    bool bytes = sscanf(range, "bytes %zu-%zu/%zu", &first, &last, &total) >= 2;
    if (!bytes)
        sscanf(range, "bytes */%zu", &total);
    if (bytes && first != s->len)
        return refuse(s, call, "not where it stands");
    size_t wants = bytes ? last + 1 : s->len;
    for (ssize_t n = 1; n > 0 && s->len < wants; s->len += (size_t)n)
        n = loopback_read(call, s->data + s->len, wants - s->len);
    if (bytes && s->pieces++ == 0)
        s->len -= s->habit->holds_back;
    if (total > 0 && s->len == total)
        return tell_object(s, call, s->habit->object);
    if (s->len > 0)
        snprintf(head, sizeof(head), "Range: %s0-%zu\r\n",
                 s->habit->range == RANGE_UNIT ? "bytes=" : "", s->len - 1);
    return loopback_answer(call, 308, head, "");
}

static bool serve(struct loopback_call *call, void *arg)
{
    struct server *s = arg;
    char token[64] = "";
    const char *base = s->habit->base ? s->habit->base : "";
    if (strcmp(call->path, "/token") == 0) {
        free(loopback_body(call));
        return loopback_answer(
            call, 200, "",
            "{\"access_token\":\"ya29.t\",\"token_type\":\"Bearer\",\"id_token\":null}");
    }
    loopback_header(call, "Authorization", token, sizeof(token));
    if (strcmp(token, "Bearer ya29.t") != 0 || strncmp(call->path, base, strlen(base)) != 0)
        return refuse(s, call, "no token, or no such path");
    if (strcmp(call->method, "PUT") == 0)
        return take_piece(s, call);
    if (strstr(call->path, "uploadType=resumable"))
        return begin_upload(s, call);
    return tell_object(s, call, NULL);
}

static struct google *make_client(const struct server *s)
{
    struct err err = ERR_INIT;
    char url[128], path[] = "/tmp/unit-google-XXXXXX";
    struct google_config config = {.credentials = path};
    snprintf(url, sizeof(url), "%s%s", s->url, s->habit->base ? s->habit->base : "");
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        config.endpoints[i] = url;
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(dprintf(fd,
                        "{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":"
                        "\"s\",\"refresh_token\":\"r\",\"token_uri\":\"%s/token\"}",
                        s->url) > 0);
    close(fd);
    struct google *google = google_new(&config, &err);
    unlink(path);
    if (!google)
        fail_msg("%s", err.msg);
    return google;
}

static void begin(struct server *s, loopback_handler *handler)
{
    s->first = loopback_start(handler, s);
    s->second = loopback_start(handler, s);
    s->url = loopback_url(s->first, "");
    s->elsewhere = loopback_url(s->second, "");
}

static void end(struct server *s)
{
    loopback_stop(s->first);
    loopback_stop(s->second);
    free(s->url);
    free(s->elsewhere);
    free(s->data);
}

static int upload(struct google *google, const char *bytes, struct err *err)
{
    AUTO(storage_upload)
    struct storage_upload *upload = storage_upload_new(google, "b", "o", NULL, STORAGE_ANY, err);
    assert_non_null(upload);
    return storage_upload_add(upload, bytes, BYTES, err) || storage_upload_end(upload, NULL, err)
               ? -1
               : 0;
}

static void an_upload_arrives_whatever_the_servers_habits(void **state)
{
    (void)state;
    static const struct habit habits[] = {
        {.what = "as we know it", .location = "\1/upload/x?upload_id=1"},
        {.what = "a session without its host", .location = "/upload/x?upload_id=1"},
        {.what = "a session on another port", .location = "\2/any/where?upload_id=1&x"},
        {.what = "a session at Google", .location = "https://www.googleapis.com/upload/x?y"},
        {.what = "a session where nobody is", .location = "http://127.0.0.1:1/upload/x"},
        {.what = "a session at an address of the inside", .location = "http://storage:80/upload/x"},
        {.what = "an endpoint below a path", .base = "/a/b/", .location = "\1/a/b/upload/x"},
        {.what = "the same without its host", .base = "/a/b", .location = "/a/b/upload/x"},
        {.what = "ranges without a unit", .location = "\1/upload/x", .range = RANGE_BARE},
        {.what = "a piece that is stored in part", .location = "\1/x", .holds_back = MEBI},
        {.what = "a piece that is not stored", .location = "\1/x", .holds_back = 8 * MEBI},
        {.what = "an object that is created", .location = "\1/x", .made = 201},
        {.what = "an answer without an object", .location = "\1/x", .object = ""},
        {.what = "an object without a checksum",
         .location = "\1/x",
         .object = "{\"name\":\"o\",\"generation\":\"7\",\"size\":\"9437187\"}"},
    };
    AUTO(str) char *bytes = malloc(BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < COUNT_OF(habits); i++) {
        struct err err = ERR_INIT;
        struct server s = {.habit = &habits[i], .data = calloc(1, BYTES)};
        begin(&s, serve);
        AUTO(google) struct google *google = make_client(&s);
        if (upload(google, bytes, &err) || *s.wrong)
            fail_msg("%s: %s %s", habits[i].what, err.msg, s.wrong);
        assert_int_equal(s.len, BYTES);
        assert_memory_equal(s.data, bytes, BYTES);
        end(&s);
    }
}

/* --- what is left out ----------------------------------------------------------------------- */

/* Answers by the path that was requested. */
static bool serve_short(struct loopback_call *call, void *arg)
{
    static const struct {
        const char *method, *path, *body;
    } rows[] = {
        {"POST", "/token", "{\"access_token\":\"ya29.t\"}"},
        {"GET", "/o/empty", "{\"name\":\"empty\",\"generation\":\"3\"}"},
        {"GET", "/o?",
         "{\"kind\":\"storage#objects\",\"prefixes\":[],\"nextPageToken\":\"a/b+=\"}"},
        {"GET", "pageToken=a%2Fb%2B%3D",
         "{\"items\":[{\"name\":\"x\",\"generation\":5,\"size\":7,\"updated\":"
         "\"2026-01-02T03:04:05Z\"}],\"nextPageToken\":\"c\"}"},
        {"GET", "pageToken=c", "{\"items\":[],\"nextPageToken\":\"\"}"},
        {"POST", ":run",
         "{\"name\":\"o\",\"error\":null,\"metadata\":{\"@type\":\"x\",\"name\":"
         "\"projects/123/locations/l/jobs/j/executions/e1\",\"job\":\"j\"}}"},
        {"GET", "/executions?",
         "{\"executions\":[{\"name\":\"projects/123/locations/l/jobs/j/executions/"
         "e2\",\"template\":"
         "{\"containers\":[{},{\"env\":[{\"name\":\"EMPTY\"},{\"name\":\"K\",\"value\":\"v\"}]}]}}]"
         "}"},
        {"GET", "/executions/e3",
         "{\"name\":\"projects/p/locations/l/jobs/j/executions/e3\",\"createTime\":"
         "\"2026-01-02T03:04:05.123456789Z\",\"startTime\":\"2026-01-02T03:04:06+00:00\","
         "\"completionTime\":null,\"conditions\":[{\"type\":\"Completed\"}],\"runningCount\":1}"},
        {"PATCH", "/jobs/j", "{\"name\":\"projects/p/locations/l/operations/o\",\"done\":true}"},
        {"DELETE", "/o/gone", ""},
    };
    size_t best = COUNT_OF(rows);
    (void)arg;
    free(loopback_body(call));
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(call->method, rows[i].method) == 0 && strstr(call->path, rows[i].path))
            best = i; /* the last range that fits */
    return best < COUNT_OF(rows)
               ? loopback_answer(call, 200, "", rows[best].body)
               : loopback_answer(call, 404, "Content-Type: text/plain; charset=utf-8\r\n",
                                 "Not Found");
}

static int add_name(const struct storage_object *object, void *arg)
{
    buf_addf(arg, "%s:%lld:%lld:%lld,", object->name, (long long)object->generation,
             (long long)object->size, (long long)object->updated_ms);
    return 0;
}

static int take_name(const struct jobs_execution *execution, void *arg)
{
    snprintf(arg, RUN_NAME_SIZE, "%s", execution->name);
    return 1;
}

#define JOB "projects/p/locations/l/jobs/j"

static void members_that_say_nothing_may_be_missing(void **state)
{
    (void)state;
    static const struct habit plain = {0};
    struct err err = ERR_INIT;
    struct server s = {.habit = &plain};
    struct jobs_execution execution;
    char name[RUN_NAME_SIZE] = "";
    bool unsure;
    AUTO(buf) struct buf names = BUF_INIT(1024);
    AUTO(storage_object) struct storage_object object = {0};
    begin(&s, serve_short);
    AUTO(google) struct google *google = make_client(&s);
    assert_int_equal(storage_stat(google, "b", "empty", &object, &err), 0);
    assert_int_equal(object.size, 0);
    assert_false(object.has_crc32c);
    assert_int_equal(storage_delete(google, "b", "gone", STORAGE_ANY, &err), 0);
    assert_int_equal(storage_stat(google, "b", "missing", &object, &err), -1);
    assert_string_equal(err.msg, "Cloud Storage: HTTP 404: Not Found");
    const struct storage_list all = {0};
    if (storage_list(google, "b", &all, add_name, &names, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(buf_str(&names), "x:5:7:1767323045000,");
    if (jobs_start(google, JOB, &(struct jobs_start){0}, name, &unsure, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(name, JOB "/executions/e1");
    assert_int_equal(jobs_find(google, JOB, "K", "v", 0, take_name, name, &err), 0);
    assert_string_equal(name, JOB "/executions/e2");
    assert_int_equal(jobs_get(google, JOB "/executions/e3", &execution, &err), 0);
    assert_int_equal(execution.state, RUN_RUNNING);
    assert_int_equal(execution.started_ms - execution.created_ms, 877);
    assert_int_equal(execution.ended_ms, 0);
    if (jobs_job_put(google, JOB, "{}", 2, true, &err))
        fail_msg("%s", err.msg);
    end(&s);
}

/* --- lists that are counted ------------------------------------------------------------------- */

struct counted {
    char names[16]; /* one letter each */
    bool stays;     /* a deleted object stays in the list */
};

/* Pages of two objects, by the current positions in the list. */
static bool serve_counted(struct loopback_call *call, void *arg)
{
    struct counted *c = arg;
    AUTO(buf) struct buf body = BUF_INIT(4096);
    const char *token = strstr(call->path, "pageToken=");
    const char *name = strstr(call->path, "/o/");
    size_t count = strlen(c->names), from = token ? strtoul(token + 10, NULL, 10) : 0;
    free(loopback_body(call));
    if (strcmp(call->path, "/token") == 0)
        return loopback_answer(call, 200, "", "{\"access_token\":\"ya29.t\",\"expires_in\":1e9}");
    if (strcmp(call->method, "DELETE") == 0) {
        char *at = strchr(c->names, name[3]);
        if (at && !c->stays)
            memmove(at, at + 1, strlen(at));
        return loopback_text(call, "HTTP/1.1 204 No Content\r\n\r\n");
    }
    buf_adds(&body, "{\"items\":[");
    for (size_t i = from; i < count && i < from + 2; i++)
        buf_addf(&body, "%s{\"name\":\"%c\",\"generation\":\"1\"}", i > from ? "," : "",
                 c->names[i]);
    buf_adds(&body, "]");
    if (from + 2 < count)
        buf_addf(&body, ",\"nextPageToken\":\"%zu\"", from + 2);
    buf_adds(&body, "}");
    return loopback_answer(call, 200, "", buf_str(&body));
}

static bool is_not_c(const char *name, void *arg)
{
    (void)arg;
    return *name != 'c';
}

static void a_sweep_leaves_nothing_though_pages_are_counted(void **state)
{
    (void)state;
    static const struct habit plain = {0};
    struct err err = ERR_INIT;
    struct counted c = {.names = "abcdefghi"};
    struct loopback *server = loopback_start(serve_counted, &c);
    struct server s = {.habit = &plain, .url = loopback_url(server, "")};
    AUTO(google) struct google *google = make_client(&s);
    if (storage_sweep(google, "b", NULL, is_not_c, NULL, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(c.names, "c");
    c.stays = true; /* a bucket that keeps deleted objects causes no endless loop */
    assert_int_equal(storage_sweep(google, "b", NULL, NULL, NULL, &err), -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    loopback_stop(server);
    free(s.url);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_arrives_whatever_the_servers_habits),
        cmocka_unit_test(members_that_say_nothing_may_be_missing),
        cmocka_unit_test(a_sweep_leaves_nothing_though_pages_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
