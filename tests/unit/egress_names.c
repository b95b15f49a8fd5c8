/*
 * Names that change what they stand for: the gate connects to the very addresses that it has
 * checked. In a network namespace of our own in which every address is here; who answers to a name
 * is scripted.
 */
#include "testbase.h"

#include "base/fd.h"
#include "own_network.h"
#include "runner/egress/gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STANDS_FOR "198.18.0.1" /* the first name of a gate */
#define PORT 8000
#define ANSWERS_MAX 4
#define PATIENCE_MS 20000

/* --- the script ----------------------------------------------------------------------------- */

/* What each asking gets, one after the other: addresses with spaces between. The last stays. */
static const char *const *script;
static atomic_int asked;
static atomic_llong passed_ms; /* by the clock's own account */
static atomic_bool held;       /* whoever asks waits */

int64_t __real_clock_mono_ms(void);
int64_t __wrap_clock_mono_ms(void);
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);
void __wrap_freeaddrinfo(struct addrinfo *all);

int64_t __wrap_clock_mono_ms(void)
{
    return __real_clock_mono_ms() + atomic_load(&passed_ms);
}

static struct addrinfo *one_address(const char *text)
{
    struct addrinfo *one = calloc(1, sizeof(*one));
    struct sockaddr_storage *at = calloc(1, sizeof(*at));
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    assert_true(one && at);
    bool four = inet_pton(AF_INET, text, &in.sin_addr) == 1;
    assert_true(four || inet_pton(AF_INET6, text, &in6.sin6_addr) == 1);
    one->ai_addrlen = four ? sizeof(in) : sizeof(in6);
    memcpy(at, four ? (const void *)&in : (const void *)&in6, one->ai_addrlen);
    one->ai_addr = (struct sockaddr *)at;
    return one;
}

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    (void)name, (void)service, (void)hints;
    int turn = atomic_fetch_add(&asked, 1), last = 0;
    while (atomic_load(&held))
        usleep(1000);
    while (last < turn && script[last + 1])
        last++;
    AUTO(str) char *text = strdup(script[last]);
    char *save = NULL;
    struct addrinfo **at = ret;
    *ret = NULL;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        *at = one_address(word);
        at = &(*at)->ai_next;
    }
    return *ret ? 0 : EAI_NONAME;
}

void __wrap_freeaddrinfo(struct addrinfo *all)
{
    for (struct addrinfo *next; all; all = next) {
        next = all->ai_next;
        free(all->ai_addr);
        free(all);
    }
}

/* --- one jail's programs ---------------------------------------------------------------------- */

static struct scene {
    struct egress_gate *gate;
    int outer; /* whoever is at PORT, whatever the address */
    unsigned names_port;
} scene;

static void begin(const char *const answers[], const char *lan_text)
{
    struct err err;
    struct strlist egress = {0}, lan = {0};
    const struct egress_ours ours = {0};
    script = answers;
    atomic_store(&asked, 0);
    assert_int_equal(strlist_split(&egress, "a.example") | strlist_split(&lan, lan_text), 0);
    scene.gate = egress_gate_new(&egress, &lan, &ours, &err);
    OK(scene.gate, &err);
    strlist_done(&egress);
    strlist_done(&lan);
    const int sockets[2] = {own_network_open(STANDS_FOR, SOCK_STREAM, PORT),
                            own_network_open("127.0.0.1", SOCK_DGRAM, 0)};
    scene.names_port = own_network_port(sockets[1]);
    egress_gate_serve(scene.gate, sockets);
    scene.outer = own_network_open_all(PORT);
}

static void end(void)
{
    egress_gate_free(scene.gate);
    fd_close(&scene.outer);
}

static bool is_ready(int fd, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, ms) > 0;
}

/* Asks for a.example as a program does; false when there is none. */
static bool ask_name(void)
{
    static const unsigned char question[] = "\0\7\1\0\0\1\0\0\0\0\0\0\1a\7example\0\0\1\0\1";
    unsigned char answer[512] = {0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)scene.names_port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    AUTO(fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        sendto(fd, question, sizeof(question) - 1, 0, (struct sockaddr *)&to, sizeof(to)),
        sizeof(question) - 1);
    assert_true(is_ready(fd, PATIENCE_MS));
    assert_true(recv(fd, answer, sizeof(answer), 0) > 12);
    return answer[7] > 0;
}

/* Connects to what stands for the name. The address at which somebody answered; "" for nobody: the
 * connection was reset. */
static const char *connect_name(void)
{
    static char text[INET6_ADDRSTRLEN];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct sockaddr_in6 at;
    socklen_t size = sizeof(at);
    inet_pton(AF_INET, STANDS_FOR, &to.sin_addr);
    AUTO(fd) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    struct pollfd wait[] = {{.fd = fd, .events = POLLIN}, {.fd = scene.outer, .events = POLLIN}};
    assert_true(poll(wait, 2, PATIENCE_MS) > 0);
    if (!wait[1].revents)
        return "";
    AUTO(fd) int there = accept4(scene.outer, NULL, NULL, SOCK_CLOEXEC);
    assert_true(there >= 0);
    assert_int_equal(getsockname(there, (struct sockaddr *)&at, &size), 0);
    inet_ntop(AF_INET6, &at.sin6_addr, text, sizeof(text));
    return text;
}

static void expect_denial(const char *word)
{
    AUTO(buf) struct buf json = BUF_INIT(4096);
    assert_true(egress_gate_denial(scene.gate, &json));
    if (!strstr(buf_str(&json), word))
        fail_msg("no '%s' in %s", word, buf_str(&json));
}

/* --- the tests -------------------------------------------------------------------------------- */

static bool entered;

static int enter(void **state)
{
    (void)state;
    entered = own_network_enter();
    return 0;
}

#define NEED_NETWORK()                                             \
    do {                                                           \
        if (!entered)                                              \
            SKIP_BECAUSE("no network namespace can be made here"); \
    } while (0)

static void what_was_checked_is_connected_to(void **state)
{
    (void)state;
    static const char *const answers[] = {"8.8.8.8", "127.0.0.1", NULL};
    NEED_NETWORK();
    begin(answers, "none");
    assert_true(ask_name());
    /* nobody asks again between the check and the connection, or between two connections */
    assert_string_equal(connect_name(), "::ffff:8.8.8.8");
    assert_string_equal(connect_name(), "::ffff:8.8.8.8");
    assert_int_equal(atomic_load(&asked), 1);
    end();
}

static void a_name_that_turns_inward_is_refused_from_then_on(void **state)
{
    (void)state;
    static const char *const inward[] = {
        "127.0.0.1",       "192.168.1.1",  "10.0.0.1",
        "169.254.169.254", "::1",          "::ffff:127.0.0.1",
        "fd00::1",         "fe80::1",      "64:ff9b::7f00:1",
        "64:ff9b::a00:1",  "2002:a00:1::", "0.0.0.0",
        "::ffff:10.0.0.1", "::",           "100.64.0.1",
        "2002:7f00:1::",
    };
    NEED_NETWORK();
    for (size_t i = 0; i < COUNT(inward); i++) {
        const char *const answers[] = {"8.8.8.8", inward[i], NULL};
        begin(answers, "none");
        assert_true(ask_name());
        assert_string_equal(connect_name(), "::ffff:8.8.8.8");
        atomic_fetch_add(&passed_ms, 3600 * 1000); /* what was found is old */
        const char *reached = connect_name();
        if (*reached)
            fail_msg("%s was reached at %s", inward[i], reached);
        assert_int_equal(atomic_load(&asked), 2);
        expect_denial("a.example");
        end();
    }
}

static void of_several_addresses_only_public_ones_are_tried(void **state)
{
    (void)state;
    static const char *const answers[] = {"127.0.0.1 10.0.0.1 ::1 8.8.4.4 fd00::1 8.8.8.8", NULL};
    NEED_NETWORK();
    begin(answers, "none");
    assert_true(ask_name());
    assert_string_equal(connect_name(), "::ffff:8.8.4.4");
    end();
}

static void a_name_of_an_opened_network_is_reached(void **state)
{
    (void)state;
    static const char *const answers[] = {"192.168.1.1", "192.168.2.1", NULL};
    NEED_NETWORK();
    begin(answers, "192.168.1.0/24");
    assert_true(ask_name());
    assert_string_equal(connect_name(), "::ffff:192.168.1.1");
    atomic_fetch_add(&passed_ms, 3600 * 1000);
    assert_string_equal(connect_name(), "");
    expect_denial("private");
    end();
}

static void a_name_that_is_gone_is_not_reached(void **state)
{
    (void)state;
    static const char *const answers[] = {"8.8.8.8", "", "8.8.4.4", NULL};
    NEED_NETWORK();
    begin(answers, "none");
    assert_true(ask_name());
    atomic_fetch_add(&passed_ms, 3600 * 1000);
    assert_string_equal(connect_name(), "");
    assert_string_equal(connect_name(), "::ffff:8.8.4.4");
    end();
}

/* A lookup may take long after its task has ended. */
static void nobody_listens_after_the_end(void **state)
{
    (void)state;
    static const char *const answers[] = {"8.8.8.8", NULL};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    inet_pton(AF_INET, STANDS_FOR, &to.sin_addr);
    NEED_NETWORK();
    begin(answers, "none");
    assert_true(ask_name());
    atomic_fetch_add(&passed_ms, 3600 * 1000);
    atomic_store(&held, true);
    AUTO(fd) int before = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(before, (struct sockaddr *)&to, sizeof(to)), 0);
    EVENTUALLY(PATIENCE_MS, atomic_load(&asked) == 2);
    end();
    AUTO(fd) int after = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = connect(after, (struct sockaddr *)&to, sizeof(to));
    int error = errno;
    atomic_store(&held, false);
    assert_int_equal(rc, -1);
    assert_int_equal(error, ECONNREFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_checked_is_connected_to),
        cmocka_unit_test(a_name_that_turns_inward_is_refused_from_then_on),
        cmocka_unit_test(of_several_addresses_only_public_ones_are_tried),
        cmocka_unit_test(a_name_of_an_opened_network_is_reached),
        cmocka_unit_test(a_name_that_is_gone_is_not_reached),
        cmocka_unit_test(nobody_listens_after_the_end),
    };
    return cmocka_run_group_tests(tests, enter, NULL);
}
