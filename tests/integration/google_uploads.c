#include "google_objects_scene.h"

#include <string.h>
#include <unistd.h>

enum { CHUNK = 262144, BIG_MIB = 192, FLAT_KIB = 48 * 1024 };

/* ---- resumable uploads ---- */

/* The path of a new upload. */
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
    assert_piece(session, "0-524287/*", 2 * CHUNK, 308, "bytes=0-524287"); /* sent again: bytes that
                                                                            * are stored already */
    assert_piece(session, "524288-524387/524300", 100, 400, "");
    assert_piece(session, "nonsense", 0, 400, "");
    cloud_restart(cloud);
    assert_piece(session, "*/524388", 0, 308, "bytes=0-524287");
    assert_piece(session, "524288-524387/524388", 100, 200, "");
    assert_piece(session, "*/524388", 0, 200, ""); /* asked again: the answer that was lost */
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
    EVENTUALLY(30000, cloud_count(cloud, "upload", "0-999999/1000000") == 1);
    assert_piece(session, "*/1000000", 0, 308, "bytes=0-524287");
    assert_piece(session, "524288-999999/1000000", 1000000 - 2 * CHUNK, 200, "");
    free(data);
    free(head);
    free(session);
}

/* The status of a query for how much has been stored. */
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
    EVENTUALLY(20000, asked(session) == 410);
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

/* Sends BIG_MIB in one PUT. Returns the status. */
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

/* Downloads the object. Returns the number of its bytes. */
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
    if (slowness() == 1) /* sanitizers use memory of their own */
        assert_true(proc_rss_kib(cloud->api->pid) < FLAT_KIB);
    struct reply *reply = cloud_call(cloud, "DELETE", OBJECTS "/big", NULL);
    assert_status(reply, 204);
    reply_free(reply);
    free(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_comes_in_pieces),
        cmocka_unit_test(what_came_before_a_cut_counts_in_multiples),
        cmocka_unit_test(a_connection_breaks_where_it_is_planned),
        cmocka_unit_test(an_upload_ends_unfinished),
        cmocka_unit_test(a_big_object_takes_no_memory),
    };
    return cmocka_run_group_tests_name("google_uploads", tests, start, stop);
}
