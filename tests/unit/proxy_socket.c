/* The listening sockets of the credential proxy, and requests for which there is no memory. */
#include "proxy_scene.h"

#include "base/strlist.h"

#include <signal.h>
#include <sys/un.h>

static char dir[] = "/tmp/proxy-socket-XXXXXX";
static char path[64];

/* Replaces strlist_addf(): fails as if memory were exhausted while `starved`. */
static _Atomic bool starved;
int __wrap_strlist_addf(struct strlist *list, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

int __wrap_strlist_addf(struct strlist *list, const char *fmt, ...)
{
    AUTO(str) char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int rc = vasprintf(&text, fmt, args);
    va_end(args);
    if (rc < 0)
        text = NULL;
    if (text && !atomic_load(&starved))
        return strlist_add(list, text);
    list->failed = true;
    return -1;
}

static int connect_to_socket(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    return fd;
}

/* Asks over the unix socket with a token; the answer's status. */
static int call_socket(struct scene *s, const char *token)
{
    AUTO(buf) struct buf text = BUF_INIT(4096);
    AUTO(fd) int fd = connect_to_socket();
    buf_addf(&text,
             "POST /v1/messages HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %s\r\n"
             "Content-Length: 2\r\nConnection: close\r\n\r\n{}",
             token);
    peer_send_bytes(fd, text.data, text.len);
    buf_clear(&s->in);
    assert_true(peer_read_end(fd, &s->in));
    return peer_status(&s->in);
}

static void a_jail_reaches_it_by_a_unix_socket(void **state)
{
    struct stat st;
    (void)state;
    struct scene *s = scene_at(path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(call_socket(s, lease_token(s->lease)), 200);
    assert_true(api_got(s, "Authorization: Bearer " TOKEN));
    assert_int_equal(call_socket(s, "no token"), 401); /* access to the socket is not enough */
    assert_string_equal(lease_url(s->lease), "");      /* there is no other way to it */
    assert_string_equal(proxy_socket(s->proxy), path);
    scene_free(s);
    assert_int_equal(stat(path, &st), -1);
}

static void a_task_that_ends_takes_its_requests_on_the_socket_along(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(4096);
    (void)state;
    struct scene *s = scene_at(path);
    s->up.manner = HOLD;
    AUTO(fd) int fd = connect_to_socket();
    buf_addf(&text,
             "POST /v1/messages HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %s\r\n"
             "Content-Length: 2\r\n\r\n{}",
             lease_token(s->lease));
    peer_send_bytes(fd, text.data, text.len);
    assert_true(peer_read_until(fd, &s->in, "data: first"));
    proxy_end(s->lease);
    s->lease = NULL;
    assert_true(peer_read_end(fd, &s->in));
    peer_wait_for(s->up.left == 1);
    scene_free(s);
}

static void a_client_that_leaves_the_socket_ends_its_request_at_the_api(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(4096);
    (void)state;
    struct scene *s = scene_at(path);
    s->up.manner = HOLD;
    int fd = connect_to_socket();
    buf_addf(&text,
             "POST /v1/messages HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %s\r\n"
             "Content-Length: 2\r\n\r\n{}",
             lease_token(s->lease));
    peer_send_bytes(fd, text.data, text.len);
    assert_true(peer_read_until(fd, &s->in, "data: first"));
    close(fd);
    peer_wait_for(s->up.left == 1);
    scene_free(s);
}

static void a_path_that_cannot_be_is_told(void **state)
{
    struct err err;
    (void)state;
    struct scene *s = scene_new();
    static const char *const wrong[] = {
        "relative", "/nowhere/at/all/x.sock",
        ("/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
         "8901234567890123456789")};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        const struct proxy_config proxy = {.config = &s->w->in_force,
                                           .keeper = s->w->keeper,
                                           .breaker = s->breaker,
                                           .socket = wrong[i]};
        assert_null(proxy_new(&proxy, &err));
        assert_non_null(strstr(err.msg, "credential proxy"));
    }
    scene_free(s);
}

static void a_request_without_memory_is_the_runners_failure(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    int asked = s->up.requests;
    atomic_store(&starved, true);
    assert_int_equal(call(s, "/v1/messages", "X-More: 1\r\n"), 500);
    atomic_store(&starved, false);
    assert_non_null(strstr(buf_str(&s->in), "\"type\":\"api_error\""));
    assert_non_null(strstr(buf_str(&s->in), "no memory"));
    assert_int_equal(s->up.requests, asked); /* the request was not sent without its credential */
    assert_int_equal(call(s, "/v1/messages", "X-More: 1\r\n"), 200);
    scene_free(s);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/proxy.sock", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jail_reaches_it_by_a_unix_socket),
        cmocka_unit_test(a_task_that_ends_takes_its_requests_on_the_socket_along),
        cmocka_unit_test(a_client_that_leaves_the_socket_ends_its_request_at_the_api),
        cmocka_unit_test(a_path_that_cannot_be_is_told),
        cmocka_unit_test(a_request_without_memory_is_the_runners_failure),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
