/*
 * Connections of programs that use the gate as their HTTP proxy: where they lead, and what they are
 * told. In a network namespace of our own in which every address is here.
 */
#include "testbase.h"

#include "base/buf.h"
#include "base/fd.h"
#include "own_network.h"
#include "runner/egress/gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT 8000
#define DEAF_PORT 8001 /* nobody listens */
#define PATIENCE_MS 60000
#define END "\r\n\r\n"
#define YES "HTTP/1.1 200 Connection established" END

/* --- the script ----------------------------------------------------------------------------- */

static atomic_llong passed_ms; /* by the clock's own account */
static atomic_bool held;       /* whoever looks up a name waits */
static atomic_int lookups;     /* all of them, and those that go on */
static atomic_int lookups_now;
static atomic_int lookups_most; /* at once */

int64_t __real_clock_mono_ms(void);
int64_t __wrap_clock_mono_ms(void);
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);
void __wrap_freeaddrinfo(struct addrinfo *all);

int64_t __wrap_clock_mono_ms(void)
{
    return __real_clock_mono_ms() + atomic_load(&passed_ms);
}

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    static const char *const names[][2] = {{"a.example", "8.8.8.8"},
                                           {"b.example", "8.8.4.4"},
                                           {"in.example", "127.0.0.1"},
                                           {"lan.example", "192.168.1.1"},
                                           {"meta.example", "169.254.169.254"}};
    (void)service, (void)hints;
    atomic_fetch_add(&lookups, 1);
    int now = atomic_fetch_add(&lookups_now, 1) + 1;
    if (now > atomic_load(&lookups_most))
        atomic_store(&lookups_most, now);
    while (atomic_load(&held))
        usleep(1000);
    atomic_fetch_sub(&lookups_now, 1);
    if (strncmp(name, "many-", 5) == 0) /* all the same */
        name = "a.example";
    for (size_t i = 0; i < COUNT(names); i++) {
        if (strcmp(names[i][0], name) != 0)
            continue;
        struct addrinfo *one = calloc(1, sizeof(*one));
        struct sockaddr_in *at = calloc(1, sizeof(*at));
        assert_true(one && at);
        at->sin_family = AF_INET;
        inet_pton(AF_INET, names[i][1], &at->sin_addr);
        one->ai_addr = (struct sockaddr *)at;
        one->ai_addrlen = sizeof(*at);
        *ret = one;
        return 0;
    }
    return strcmp(name, "slow.example") == 0 ? EAI_AGAIN : EAI_NONAME;
}

void __wrap_freeaddrinfo(struct addrinfo *all)
{
    free(all->ai_addr);
    free(all);
}

/* --- one jail's programs ---------------------------------------------------------------------- */

static bool entered;
static struct egress_gate *gate;
static int outer; /* whoever is at PORT, whatever the address */
static unsigned entry;

static int enter(void **state)
{
    (void)state;
    entered = own_network_enter();
    return 0;
}

static void begin(const char *egress_text, const char *lan_text, const struct egress_ours *ours)
{
    struct err err;
    struct strlist egress = {0}, lan = {0};
    const struct egress_ours none = {0};
    if (!entered)
        SKIP_BECAUSE("no network namespace can be made here");
    assert_int_equal(strlist_split(&egress, egress_text) | strlist_split(&lan, lan_text), 0);
    gate = egress_gate_new(&egress, &lan, ours ? ours : &none, &err);
    OK(gate, &err);
    egress_gate_be_asked(gate);
    strlist_done(&egress);
    strlist_done(&lan);
    const int sockets[2] = {own_network_open("127.0.0.1", SOCK_STREAM, 0),
                            own_network_open("127.0.0.1", SOCK_DGRAM, 0)};
    entry = own_network_port(sockets[0]);
    egress_gate_serve(gate, sockets);
    outer = own_network_open_all(PORT);
}

static void end(void)
{
    egress_gate_free(gate);
    fd_close(&outer);
}

static int connect_gate(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)entry)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

/* A program that connects and says that. */
static int ask(const char *text)
{
    int fd = connect_gate();
    say(fd, text);
    return fd;
}

static bool is_ready(int fd, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, ms) > 0;
}

/* Reads exactly that text. */
static void hear(int fd, const char *text)
{
    char said[1024];
    size_t len = 0, want = strlen(text);
    assert_true(want < sizeof(said));
    while (len < want && is_ready(fd, PATIENCE_MS)) {
        ssize_t n = read(fd, said + len, want - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    said[len] = '\0';
    assert_string_equal(said, text);
}

/* Reads to the end. */
static void hear_all(int fd, struct buf *out)
{
    char said[4096];
    ssize_t n = -1;
    while (is_ready(fd, PATIENCE_MS) && (n = read(fd, said, sizeof(said))) > 0)
        buf_add(out, said, (size_t)n);
    assert_int_equal(n, 0);
}

/* The connection that has arrived at the service, at that address. */
static int arrival(const char *address)
{
    char text[INET6_ADDRSTRLEN];
    struct sockaddr_in6 at;
    socklen_t size = sizeof(at);
    assert_true(is_ready(outer, PATIENCE_MS));
    int fd = accept4(outer, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    inet_ntop(AF_INET6, &at.sin6_addr, text, sizeof(text));
    assert_string_equal(text, address);
    return fd;
}

/* Nobody is connected to: what the gate had to do is done when it has answered. */
static void expect_no_arrival(void)
{
    assert_false(is_ready(outer, 0));
}

static void expect_answer(const char *text, const char *status, const char *words)
{
    AUTO(fd) int fd = ask(text);
    AUTO(buf) struct buf said = BUF_INIT(8192);
    hear_all(fd, &said);
    if (!strstr(buf_str(&said), status) || !strstr(buf_str(&said), words))
        fail_msg("%s: no '%s' with '%s' in %s", text, status, words, buf_str(&said));
    expect_no_arrival();
}

static void expect_denial(const char *word)
{
    AUTO(buf) struct buf json = BUF_INIT(4096);
    if (!egress_gate_denial(gate, &json) || !strstr(buf_str(&json), word))
        fail_msg("no '%s' in %s", word, buf_str(&json));
}

/* --- tunnels -------------------------------------------------------------------------------- */

static void a_tunnel_leads_to_the_name_and_nowhere_else(void **state)
{
    (void)state;
    begin("a.example", "none", NULL);
    AUTO(fd) int program = ask("CONNECT A.example.:8000 HTTP/1.1\r\nHost: b.example" END "early");
    AUTO(fd) int server = arrival("::ffff:8.8.8.8");
    hear(program, YES);
    hear(server, "early");
    say(program, "CONNECT b.example:8000 HTTP/1.1" END);
    hear(server, "CONNECT b.example:8000 HTTP/1.1" END);
    say(server, "answer");
    hear(program, "answer");
    shutdown(program, SHUT_WR); /* one direction ends, the other goes on */
    hear(server, "");
    assert_true(is_ready(server, PATIENCE_MS));
    say(server, "late");
    fd_close(&server);
    hear(program, "late");
    expect_no_arrival();
    end();
}

static void addresses_of_the_internet_are_reached_where_all_is_open(void **state)
{
    (void)state;
    static const char *const forms[] = {"8.8.8.8", "134744072", "0x08080808", "010.010.010.010",
                                        "[::ffff:8.8.8.8]"};
    begin("open", "none", NULL);
    for (size_t i = 0; i < COUNT(forms); i++) {
        char text[128];
        snprintf(text, sizeof(text), "CONNECT %s:8000 HTTP/1.1" END, forms[i]);
        AUTO(fd) int program = ask(text);
        AUTO(fd) int server = arrival("::ffff:8.8.8.8");
        hear(program, YES);
        fd_close(&server);
    }
    end();
}

static void the_owners_networks_are_reached_where_they_are_open(void **state)
{
    (void)state;
    begin("lan.example,in.example", "192.168.1.0/24,127.0.0.0/8", NULL);
    AUTO(fd) int program = ask("CONNECT lan.example:8000 HTTP/1.1" END);
    AUTO(fd) int server = arrival("::ffff:192.168.1.1");
    hear(program, YES);
    fd_close(&server);
    /* this process is the runner: its own port stays closed; by any name or address of loopback */
    expect_answer("CONNECT in.example:8000 HTTP/1.1" END, "403", "a port of the runner");
    expect_answer("CONNECT 127.0.0.1:8001 HTTP/1.1" END, "403", "the task's own loopback");
    end();
}

/* --- refusals ------------------------------------------------------------------------------- */

static void what_is_refused_says_how_to_allow_it(void **state)
{
    (void)state;
    static const struct {
        const char *egress, *to, *words;
    } cases[] = {
        {"a.example", "b.example:8000",
         "b.example:8000 is refused: it is not in the task's egress; add \"b.example\" to the "
         "request's `egress`, or to EGRESS"},
        {"a.example:443", "a.example:8000", "not in the task's egress"},
        {"*.a.example", "a.example:8000", "not in the task's egress"},
        {"none", "a.example:8000", "add \"a.example\" to the request's `egress`"},
        {"none", "8.8.8.8:8000", "connect to a name"},
        {"a.example", "8.8.8.8:8000", "connect to a name"},
        {"a.example", "[2606:4700::1111]:8000", "connect to a name"},
        {"in.example", "in.example:8001", "it is this machine; the runner's owner can open"},
        {"in.example", "in.example:8000", "a port of the runner"},
        {"open", "lan.example:8000",
         "private or reserved network; the runner's owner can open the "
         "network of lan.example with EGRESS_LAN"},
        {"open", "meta.example:80", "private or reserved"},
        {"open", "169.254.169.254:80", "private or reserved"},
        {"open", "[::ffff:169.254.169.254]:80", "private or reserved"},
        {"open", "[64:ff9b::10.0.0.1]:80", "private or reserved"},
        {"open", "[2002:a00:1::]:80", "private or reserved"},
        {"open", "[fe80::1]:80", "private or reserved"},
        {"open", "[64:ff9b::7f00:1]:80", "this machine"},
        {"open", "100.64.0.1:80", "private or reserved"},
        {"open", "192.0.2.1:80", "private or reserved"},
        {"open", "127.0.0.1:8000", "own loopback; programs of the task reach it without the proxy"},
        {"open", "127.9.9.9:8000", "own loopback"},
        {"open", "2130706433:8000", "own loopback"},
        {"open", "0x7f.1:8000", "own loopback"},
        {"open", "0:8000", "own loopback"},
        {"open", "[::1]:8000", "own loopback"},
        {"open", "[::]:8000", "own loopback"},
        {"open", "[::ffff:127.0.0.1]:8000", "[::ffff:127.0.0.1]:8000 is refused: it is the task's"},
        {"open", "localhost:8000", "own loopback"},
        {"open", "x.LOCALHOST.:8000", "own loopback"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[256];
        begin(cases[i].egress, "none", NULL);
        snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1" END, cases[i].to);
        expect_answer(text, "HTTP/1.1 403 ", cases[i].words);
        expect_denial("\"allow\"");
        snprintf(text, sizeof(text), "POST http://%s/ HTTP/1.1\r\nContent-Length: 9" END "some",
                 cases[i].to);
        expect_answer(text, "HTTP/1.1 403 ", cases[i].words);
        end();
    }
}

static void what_can_not_be_reached_is_told(void **state)
{
    (void)state;
    begin("open", "none", NULL);
    expect_answer("CONNECT none.example:80 HTTP/1.1" END, "HTTP/1.1 502 ", "there is no such name");
    expect_answer("CONNECT slow.example:80 HTTP/1.1" END, "HTTP/1.1 502 ", "cannot be looked up");
    expect_answer("CONNECT a.example:8001 HTTP/1.1" END, "HTTP/1.1 502 ",
                  "a.example:8001: no address of it takes the connection");
    end();
}

/* More connections than may look up names at once: those to one name need one lookup, those to many
 * names wait for their turn. */
static void a_burst_of_connections_waits_for_its_names(void **state)
{
    (void)state;
    enum { MANY = 200, AT_ONCE = 32 };
    int programs[MANY];
    begin("open", "none", NULL);
    for (int different = 0; different < 2; different++) {
        atomic_store(&held, true);
        atomic_store(&lookups, 0);
        atomic_store(&lookups_most, 0);
        for (int i = 0; i < MANY; i++) {
            char text[128];
            snprintf(text, sizeof(text), "CONNECT %s%d.example:8000 HTTP/1.1" END, "many-",
                     different ? i : -1);
            programs[i] = ask(text);
        }
        EVENTUALLY(PATIENCE_MS, atomic_load(&lookups) == (different ? AT_ONCE : 1));
        atomic_store(&held, false);
        for (int i = 0; i < MANY; i++) {
            int server = arrival("::ffff:8.8.8.8");
            hear(programs[i], YES);
            close(programs[i]);
            close(server);
        }
        assert_int_equal(atomic_load(&lookups), different ? MANY : 1);
        assert_true(atomic_load(&lookups_most) <= AT_ONCE);
    }
    end();
}

/* The programs have gone, and so has the gate: nobody looks up what waited. */
static void what_waits_for_its_name_ends_with_the_gate(void **state)
{
    (void)state;
    enum { MANY = 100, AT_ONCE = 32 };
    begin("open", "none", NULL);
    atomic_store(&held, true);
    atomic_store(&lookups, 0);
    for (int i = 0; i < MANY; i++) {
        char text[128];
        snprintf(text, sizeof(text), "CONNECT many-%d.example:8000 HTTP/1.1" END, i);
        close(ask(text));
    }
    EVENTUALLY(PATIENCE_MS, atomic_load(&lookups) == AT_ONCE);
    expect_answer("CONNECT none HTTP/1.1" END, "HTTP/1.1 400 ", ""); /* all were accepted */
    end();
    atomic_store(&held, false);
    EVENTUALLY(PATIENCE_MS, atomic_load(&lookups_now) == 0);
    assert_int_equal(atomic_load(&lookups), AT_ONCE);
}

static void what_is_no_request_is_refused_at_once(void **state)
{
    (void)state;
    begin("open", "none", NULL);
    expect_answer("GET http://a.example:8000/\r\n", "HTTP/1.1 400 ", "no version");
    expect_answer("GET http://u@a.example:8000/ HTTP/1.1" END, "HTTP/1.1 400 ", "a user");
    expect_answer("CONNECT a.example:0 HTTP/1.1" END, "HTTP/1.1 400 ", "the port");
    expect_answer("\x05\x01", "HTTP/1.1 400 ", "control character");
    AUTO(fd) int silent = connect_gate();
    AUTO(fd) int slow = ask("CONNECT a.example:8000 HT");
    AUTO(buf) struct buf said = BUF_INIT(8192);
    say(slow, "TP/1.1\r\n");
    expect_answer("CONNECT none.example:80 HTTP/1.1" END, "502", ""); /* both were accepted */
    atomic_fetch_add(&passed_ms, 31000);
    hear_all(slow, &said);
    assert_non_null(strstr(buf_str(&said), "HTTP/1.1 408 "));
    hear_all(silent, &said);
    AUTO(fd) int gone = ask("CONNECT a.example:8000 HTTP/1.1\r\n");
    shutdown(gone, SHUT_WR); /* half of a head is none */
    buf_clear(&said);
    hear_all(gone, &said);
    assert_int_equal(said.len, 0);
    expect_no_arrival();
    end();
}

/* --- requests ------------------------------------------------------------------------------- */

static void a_connection_carries_one_request(void **state)
{
    (void)state;
    static const char first[] = "GET http://a.example:8000/x HTTP/1.1\r\nHost: b.example\r\n"
                                "Proxy-Connection: keep-alive" END;
    static const char second[] = "GET http://b.example:8000/y HTTP/1.1" END;
    begin("a.example,b.example", "none", NULL);
    for (int at_once = 0; at_once < 2; at_once++) {
        AUTO(buf) struct buf said = BUF_INIT(8192), got = BUF_INIT(8192);
        AUTO(fd) int program = ask(first);
        if (at_once)
            say(program, second);
        AUTO(fd) int server = arrival("::ffff:8.8.8.8");
        hear(server, "GET /x HTTP/1.1\r\nHost: a.example:8000\r\nConnection: close" END);
        say(server, "HTTP/1.1 200 OK\r\nContent-Length: 2" END "ok"); /* and does not close */
        hear(program, "HTTP/1.1 200 OK\r\nContent-Length: 2" END "ok");
        if (!at_once)
            say(program, second);
        hear_all(server, &got);
        assert_int_equal(got.len, 0);
        fd_close(&server);
        hear_all(program, &said);
        assert_int_equal(said.len, 0);
        expect_no_arrival();
    }
    end();
}

static void a_body_is_passed_on_whole(void **state)
{
    (void)state;
    enum { PIECES = 40, PIECE = 9000 };
    static char piece[PIECE + 1];
    memset(piece, 'x', PIECE);
    begin("a.example", "none", NULL);
    for (int chunked = 0; chunked < 2; chunked++) {
        char head[160], want[160];
        AUTO(buf) struct buf got = BUF_INIT(1 << 20);
        const char *field = chunked ? "Transfer-Encoding: chunked" : "Content-Length: 360000";
        snprintf(head, sizeof(head), "PUT http://a.example:8000/ HTTP/1.1\r\n%s" END, field);
        snprintf(want, sizeof(want),
                 "PUT / HTTP/1.1\r\nHost: a.example:8000\r\n%s\r\n"
                 "Connection: close" END,
                 field);
        AUTO(fd) int program = ask(head);
        AUTO(fd) int server = arrival("::ffff:8.8.8.8");
        hear(server, want);
        for (int i = 0; i < PIECES; i++) {
            if (chunked)
                say(program, "2328\r\n");
            say(program, piece);
            if (chunked)
                say(program, "\r\n");
            for (size_t have = got.len; got.len < have + PIECE;) {
                assert_true(is_ready(server, PATIENCE_MS));
                ssize_t n = read(server, buf_room(&got, 65536), 65536);
                assert_true(n > 0);
                buf_grew(&got, (size_t)n);
            }
        }
        say(program, chunked ? "0\r\nT: u" END "GET" : "GET");
        hear_all(server, &got);
        assert_int_equal(got.len, PIECES * PIECE + (chunked ? PIECES * 8 + 11 : 0));
        if (chunked)
            assert_string_equal(got.data + got.len - 13, "\r\n0\r\nT: u" END);
    }
    end();
}

static void broken_chunks_end_the_connection(void **state)
{
    (void)state;
    begin("a.example", "none", NULL);
    AUTO(fd)
    int program = ask("PUT http://a.example:8000/ HTTP/1.1\r\nTransfer-Encoding: chunked" END);
    AUTO(fd) int server = arrival("::ffff:8.8.8.8");
    char byte;
    say(program, "1\r\nxGET http://b.example/ HTTP/1.1" END);
    assert_true(is_ready(program, PATIENCE_MS));
    assert_true(read(program, &byte, 1) <= 0);
    fd_close(&server);
    end();
}

static void the_runners_own_servers_are_reached_by_their_addresses(void **state)
{
    (void)state;
    char *dir = tmp_dir_new();
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/proxy", dir);
    AUTO(fd) int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(own, (struct sockaddr *)&at, sizeof(at)) || listen(own, 4), 0);
    const struct egress_ours ours = {.proxy = at.sun_path};
    begin("none", "none", &ours);
    AUTO(fd) int program = ask("GET http://192.0.2.1:880/v1 HTTP/1.1" END);
    assert_true(is_ready(own, PATIENCE_MS));
    AUTO(fd) int server = accept4(own, NULL, NULL, SOCK_CLOEXEC);
    hear(server, "GET /v1 HTTP/1.1\r\nHost: 192.0.2.1:880\r\nConnection: close" END);
    expect_answer("GET http://192.0.2.3:880/ HTTP/1.1" END, "HTTP/1.1 403 ", "connect to a name");
    expect_answer("GET http://192.0.2.1/ HTTP/1.1" END, "HTTP/1.1 403 ", "connect to a name");
    fd_close(&program);
    end();
    tmp_dir_free(dir);
}

static long resident_kib(void)
{
    long all, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &all, &resident), 2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Raises the limit of files, of which gates use a half. Returns how many connections fit. */
static size_t connections_that_fit(size_t most)
{
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    return files.rlim_cur / 8 < most ? (size_t)files.rlim_cur / 8 : most;
}

static void many_that_say_nothing_cost_little_and_stop_nobody(void **state)
{
    (void)state;
    int idle[500];
    const size_t count = connections_that_fit(COUNT(idle));
    begin("a.example", "none", NULL);
    long before = resident_kib();
    for (size_t i = 0; i < count; i++)
        idle[i] = ask("CONNECT a.exam");
    AUTO(fd) int program = ask("CONNECT a.example:8000 HTTP/1.1" END);
    AUTO(fd) int server = arrival("::ffff:8.8.8.8");
    hear(program, YES);
    fd_close(&server);
    long cost = resident_kib() - before;
    print_message("%zu connections: %ld KiB\n", count, cost);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(cost <= 16 * 1024);
#endif
    for (size_t i = 0; i < count; i++)
        close(idle[i]);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tunnel_leads_to_the_name_and_nowhere_else),
        cmocka_unit_test(addresses_of_the_internet_are_reached_where_all_is_open),
        cmocka_unit_test(the_owners_networks_are_reached_where_they_are_open),
        cmocka_unit_test(what_is_refused_says_how_to_allow_it),
        cmocka_unit_test(what_can_not_be_reached_is_told),
        cmocka_unit_test(a_burst_of_connections_waits_for_its_names),
        cmocka_unit_test(what_waits_for_its_name_ends_with_the_gate),
        cmocka_unit_test(what_is_no_request_is_refused_at_once),
        cmocka_unit_test(a_connection_carries_one_request),
        cmocka_unit_test(a_body_is_passed_on_whole),
        cmocka_unit_test(broken_chunks_end_the_connection),
        cmocka_unit_test(the_runners_own_servers_are_reached_by_their_addresses),
        cmocka_unit_test(many_that_say_nothing_cost_little_and_stop_nobody),
    };
    return cmocka_run_group_tests(tests, enter, NULL);
}
