/* Where a server listens: several addresses of all kinds at once, opened here or passed in. */
#include "http_peer.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/place.h"
#include "http/listen.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char dir[] = "/tmp/http-listen-XXXXXX";
static char path[64], places[256];

/* Answers with the address that the server has for the caller. */
static void whoami(struct http_request *req, void *arg)
{
    static const char *const kinds[] = {[HTTP_PEER_REMOTE] = "remote",
                                        [HTTP_PEER_LOOPBACK] = "loopback",
                                        [HTTP_PEER_UNIX] = "unix"};
    AUTO(buf) struct buf text = BUF_INIT(1000);
    uid_t uid = 0;
    (void)arg;
    bool has_user = http_peer_user(req, &uid);
    buf_addf(&text, "%s %s %d %u", kinds[http_peer_kind(req)], http_peer(req), has_user, uid);
    http_send(req, 200, "text/plain", text.data, text.len);
}

static void echo(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    struct err err;
    (void)arg;
    if (http_body(req, 1 << 20, &body, &err) < 0)
        http_send_error(req, &err, NULL);
    else
        http_send(req, 200, "text/plain", buf_str(&body), body.len);
}

static void later(struct http_request *req, void *arg)
{
    const struct http_park_config config = {0};
    struct err err;
    (void)arg;
    struct http_parked *parked = http_park(req, &config, &err);
    assert_non_null(parked);
    http_parked_send(parked, 200, "text/plain", NULL, "later", 5);
}

static const struct http_route routes[] = {
    {"GET", "/whoami", whoami, 0}, {"POST", "/echo", echo, 0}, {"GET", "/later", later, 0}};

static struct http_server *start_at(const char *bind_to, int unix_mode, struct err *err)
{
    const struct http_config config = {.bind = bind_to,
                                       .unix_mode = unix_mode,
                                       .workers = 4,
                                       .routes = routes,
                                       .route_count = COUNT_OF(routes),
                                       .head_ms = 20000,
                                       .body_idle_ms = 20000,
                                       .body_total_ms = 20000,
                                       .idle_ms = 20000,
                                       .parked_max = 10};
    return http_start(&config, err);
}

static struct http_server *must_start(const char *bind_to)
{
    struct err err;
    struct http_server *server = start_at(bind_to, 0, &err);
    if (!server)
        fail_msg("%s", err.msg);
    return server;
}

/* Connects to an address as text; -1 with errno. */
static int connect_to(const char *text, int port)
{
    struct place address;
    struct err err;
    assert_int_equal(place_parse(text, strlen(text), &address, &err), 0);
    place_set_port(&address.socket, port);
    int fd = socket(address.socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address.socket, address.len) == 0)
        return fd;
    fd_close(&fd);
    return -1;
}

static const char *body_of(const struct buf *answer)
{
    const char *end = strstr(buf_str(answer), "\r\n\r\n");
    return end ? end + 4 : "";
}

static bool has_v6(void)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    AUTO(fd) int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0;
}

static void serves_ipv4_ipv6_and_unix_sockets_at_once(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    char user[64], ours[64];
    const char *v6 = has_v6() ? ", ::1" : "";
    (void)state;
    if (!*v6)
        print_message("SKIPPED in part: this host has no IPv6\n");
    snprintf(ours, sizeof(ours), "unix unix:%u 1 %u", getuid(), getuid());
    snprintf(places, sizeof(places), "127.0.0.1%s, unix:%s", v6, path);
    snprintf(user, sizeof(user), "unix:%s", path);
    const struct {
        const char *at, *said;
    } cases[] = {
        {"127.0.0.1", "loopback 127.0.0.1 0 0"}, {user, ours}, {"::1", "loopback ::1 0 0"}};
    struct http_server *server = must_start(places);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < COUNT_OF(cases) - !*v6; i++) {
            AUTO(fd) int fd = connect_to(cases[i].at, http_port(server));
            assert_true(fd >= 0);
            for (int k = 0; k < 2; k++) { /* the connection stays open */
                peer_send(fd, "GET /whoami HTTP/1.1\r\n" HOST "\r\n");
                assert_int_equal(peer_answer(fd, &answer), 200);
                assert_string_equal(body_of(&answer), cases[i].said);
            }
            peer_send(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi");
            assert_int_equal(peer_answer(fd, &answer), 200);
            assert_string_equal(body_of(&answer), "hi");
            peer_send(fd, "GET /later HTTP/1.1\r\n" HOST "\r\n");
            assert_int_equal(peer_answer(fd, &answer), 200);
            assert_string_equal(body_of(&answer), "later");
        }
    }
    http_stop(server, 0);
}

static void says_where_it_listens(void **state)
{
    char text[200], want[200];
    (void)state;
    snprintf(places, sizeof(places), "unix:%s 127.0.0.1", path);
    struct http_server *server = must_start(places);
    assert_true(http_place(server, 0, text, sizeof(text)));
    snprintf(want, sizeof(want), "unix:%s", path);
    assert_string_equal(text, want);
    assert_true(http_place(server, 1, text, sizeof(text)));
    snprintf(want, sizeof(want), "http://127.0.0.1:%d", http_port(server));
    assert_string_equal(text, want);
    assert_false(http_place(server, 2, text, sizeof(text)));
    http_stop(server, 0);
}

static void the_file_of_a_unix_socket_has_its_mode_and_goes_with_it(void **state)
{
    static const int modes[][2] = {{0, 0660}, {0600, 0600}, {0666, 0666}};
    struct stat st;
    struct err err;
    (void)state;
    snprintf(places, sizeof(places), "unix:%s", path);
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct http_server *server = start_at(places, modes[i][0], &err);
        assert_non_null(server);
        assert_int_equal(http_port(server), 0);
        assert_int_equal(lstat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, modes[i][1]);
        http_stop(server, 0);
        assert_int_equal(lstat(path, &st), -1);
    }
}

static void takes_over_a_dead_socket_file_and_nothing_else(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct err err;
    struct stat st;
    (void)state;
    snprintf(places, sizeof(places), "unix:%s", path);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    close(fd); /* its file stays, as after a crash */
    struct http_server *server = must_start(places);
    assert_null(start_at(places, 0, &err)); /* another process serves there */
    assert_non_null(strstr(err.msg, "listens there already"));
    assert_int_equal(lstat(path, &st), 0);
    unlink(path); /* the server's file was removed; the other file at its path stays */
    fd = open(path, O_CREAT | O_CLOEXEC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    http_stop(server, 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_null(start_at(places, 0, &err));
    assert_non_null(strstr(err.msg, "there is something else"));
    assert_int_equal(lstat(path, &st), 0);
    unlink(path);
}

/* Runs in a child process: descriptor 3 must be free for what systemd would have put there. */
static int serve_inherited(int tcp, int un)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    char pid[32], at[100];
    struct err err;
    int count = 0;
    if (dup2(tcp, 100) < 0 || dup2(un, 101) < 0 || dup2(100, 3) < 0 || dup2(101, 4) < 0)
        return 1;
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_PID", "1", 1);
    if (start_at("systemd", 0, &err) || !strstr(err.msg, "LISTEN_PID"))
        return 2; /* the descriptors were meant for another process */
    snprintf(pid, sizeof(pid), "%d", getpid());
    setenv("LISTEN_PID", pid, 1);
    struct http_server *server = start_at("systemd", 0, &err);
    if (!server || http_port(server) <= 0 || !(fcntl(3, F_GETFD) & FD_CLOEXEC))
        return 3;
    snprintf(at, sizeof(at), "unix:%s", path);
    const char *const all[] = {"127.0.0.1", at};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        AUTO(fd) int fd = connect_to(all[i], http_port(server));
        peer_send(fd, "GET /whoami HTTP/1.1\r\n" HOST "\r\n");
        count += fd >= 0 && peer_answer(fd, &answer) == 200;
    }
    http_stop(server, 0);
    if (access(path, F_OK) < 0)
        return 4; /* the file belongs to systemd */
    return count == 2 ? 0 : 5;
}

static void serves_sockets_that_systemd_has_opened(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int status;
    (void)state;
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    AUTO(fd) int tcp = socket(AF_INET, SOCK_STREAM, 0);
    AUTO(fd) int local = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(tcp, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(bind(local, (struct sockaddr *)&un, sizeof(un)), 0);
    assert_int_equal(listen(tcp, 16), 0);
    assert_int_equal(listen(local, 16), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(serve_inherited(tcp, local));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    unlink(path);
}

static void refuses_what_is_no_address(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "no address"},
        {" , ", "no address"},
        {"localhost", "neither"},
        {"127.0.0.1:0", "not a port"},
        {"127.0.0.1:65536", "not a port"},
        {"127.0.0.1:", "not a port"},
        {"[::1", "not [IPv6]"},
        {"[::1]x", "not [IPv6]"},
        {"[::1]:x", "not a port"},
        {"::g", "not an IPv6"},
        {"unix:", "begins with '/'"},
        {"unix:run/x", "begins with '/'"},
        {"unix:/a/very/long/path/"
         "0123456789012345678901234567890123456789012345678901234567890123456"
         "7890123456789012345678901234567890",
         "at most 107"},
        {"systemd", "LISTEN_PID"},
        {"127.0.0.1,127.0.0.1:x", "not a port"},
        {"1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 "
         "1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1",
         "more than 16"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err;
        assert_null(start_at(cases[i].text, 0, &err));
        if (!strstr(err.msg, cases[i].why))
            fail_msg("'%s': %s", cases[i].text, err.msg);
    }
}

static void says_why_it_cannot_listen_and_leaves_nothing(void **state)
{
    char taken[64];
    struct err err;
    (void)state;
    int before = peer_count("/proc/self/fd");
    struct http_server *server = must_start("127.0.0.1");
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", http_port(server));
    snprintf(places, sizeof(places), "unix:%s,%s", path, taken);
    assert_null(start_at(places, 0, &err));
    assert_non_null(strstr(err.msg, "cannot listen on"));
    assert_non_null(strstr(err.msg, taken));
    assert_int_equal(access(path, F_OK), -1);
    assert_null(start_at("unix:/nowhere/at/all", 0, &err));
    assert_non_null(strstr(err.msg, "/nowhere/at/all"));
    http_stop(server, 0);
    assert_int_equal(peer_count("/proc/self/fd"), before);
}

static void knows_which_addresses_a_network_has(void **state)
{
    (void)state;
    static const struct {
        const char *host, *network;
        int within;
    } cases[] = {
        {"10.1.2.3", "10.0.0.0/8", 1},
        {"11.1.2.3", "10.0.0.0/8", 0},
        {"172.31.255.255", "172.16.0.0/12", 1},
        {"172.32.0.0", "172.16.0.0/12", 0},
        {"192.0.2.7", "192.0.2.7", 1},
        {"192.0.2.8", "192.0.2.7/32", 0},
        {"203.0.113.9", "0.0.0.0/0", 1},
        {"fd00::1", "fd00::/8", 1},
        {"fe00::1", "fd00::/8", 0},
        {"10.1.2.3", "fd00::/8", 0},
        {"unix", "0.0.0.0/0", 0},
        {"10.0.0.1", "10.0.0.0/33", -1},
        {"10.0.0.1", "10.0.0.0/", -1},
        {"10.0.0.1", "example.org", -1},
        {"10.0.0.1", "", -1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (place_is_within(cases[i].host, cases[i].network) != cases[i].within)
            fail_msg("%s in %s", cases[i].host, cases[i].network);
}

static void knows_addresses_of_loopback(void **state)
{
    static const struct {
        const char *text, *host;
        bool loopback;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", true},
        {"127.9.9.9", "127.9.9.9", true},
        {"128.0.0.1", "128.0.0.1", false},
        {"::1", "::1", true},
        {"::2", "::2", false},
        {"::ffff:127.0.0.1", "127.0.0.1", true},
        {"::ffff:10.0.0.1", "10.0.0.1", false},
        {"0.0.0.0", "0.0.0.0", false},
        {"[2001:db8::1]", "2001:db8::1", false},
        {"unix:/x", "unix", false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct place address;
        struct err err;
        char host[PLACE_TEXT_MAX];
        assert_int_equal(place_parse(cases[i].text, strlen(cases[i].text), &address, &err), 0);
        place_format_host(&address.socket, host);
        assert_string_equal(host, cases[i].host);
        assert_int_equal(place_is_loopback(&address.socket), cases[i].loopback);
    }
}

/* A pair's end stands for a connection whose answer was sent elsewhere. */
static void a_returned_connection_is_accepted_again(void **state)
{
    const struct listen_config config = {.places = "127.0.0.1"};
    struct sockaddr_storage peer;
    struct err err;
    int pairs[3][2], more[2];
    (void)state;
    struct listener *listener = listen_open(&config, &err);
    assert_non_null(listener);
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
        assert_int_equal(listen_return(listener, pairs[i][0]), 0);
    }
    for (size_t i = 0; i < 2; i++) { /* in their order, the third stays */
        assert_int_equal(listen_wait(listener, PEER_MS), 1);
        assert_int_equal(listen_accept(listener, &peer), pairs[i][0]);
        assert_int_equal(peer.ss_family, AF_UNIX);
        close(pairs[i][0]);
    }
    listen_stop(listener);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, more), 0);
    assert_int_equal(listen_return(listener, more[0]), -1);
    assert_int_equal(listen_wait(listener, PEER_MS), 0);
    listen_shut(listener);
    assert_int_equal(recv(pairs[2][1], &peer, 1, 0), 0); /* It was closed. */
    assert_int_equal(listen_return(listener, more[0]), -1);
    listen_close(listener);
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        close(pairs[i][1]);
    close(more[0]);
    close(more[1]);
}

/* No more than it has room for; those that were refused stay the caller's. */
static void refuses_more_returned_connections_than_it_has_room_for(void **state)
{
    const struct listen_config config = {.places = "127.0.0.1"};
    struct err err;
    int count = 0, fd;
    (void)state;
    struct listener *listener = listen_open(&config, &err);
    assert_non_null(listener);
    while ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0 &&
           listen_return(listener, fd) == 0)
        count++;
    assert_true(fd >= 0);
    close(fd);
    assert_true(count >= 100 && count < 1000);
    int before = peer_count("/proc/self/fd");
    listen_close(listener);
    assert_int_equal(peer_count("/proc/self/fd"), before - count - 2); /* a socket, the bell */
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/x.sock", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir); /* no file is left in it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_ipv4_ipv6_and_unix_sockets_at_once),
        cmocka_unit_test(says_where_it_listens),
        cmocka_unit_test(the_file_of_a_unix_socket_has_its_mode_and_goes_with_it),
        cmocka_unit_test(takes_over_a_dead_socket_file_and_nothing_else),
        cmocka_unit_test(serves_sockets_that_systemd_has_opened),
        cmocka_unit_test(refuses_what_is_no_address),
        cmocka_unit_test(says_why_it_cannot_listen_and_leaves_nothing),
        cmocka_unit_test(a_returned_connection_is_accepted_again),
        cmocka_unit_test(refuses_more_returned_connections_than_it_has_room_for),
        cmocka_unit_test(knows_which_addresses_a_network_has),
        cmocka_unit_test(knows_addresses_of_loopback),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
