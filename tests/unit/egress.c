/* Rules, addresses and names of the gate. */
#include "base/auto.h"
#include "base/buf.h"
#include "runner/egress/names.h"
#include "runner/egress/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct strlist list_of(const char *text)
{
    struct strlist list = {0};
    assert_int_equal(strlist_split(&list, text), 0);
    return list;
}

static void names_are_allowed_as_the_list_says(void **state)
{
    (void)state;
    static const struct {
        const char *egress, *host;
        unsigned port;
        bool allowed;
    } cases[] = {
        {"open", "a.example", 443, true},
        {"none", "a.example", 443, false},
        {"none", "a.example", 0, false},
        {"a.example", "a.example", 1, true},
        {"a.example", "A.Example", 1, true},
        {"a.example", "b.a.example", 1, false},
        {"a.example", "a.example.evil", 1, false},
        {"*.example", "a.example", 443, true},
        {"*.example", "b.a.example", 443, true},
        {"*.example", "example", 443, false},
        {"*.example", "anexample", 443, false},
        {"a.example:22", "a.example", 22, true},
        {"a.example:22", "a.example", 443, false},
        {"a.example:22", "a.example", 0, true},
        {"a.example:22,a.example:443", "a.example", 443, true},
        {"*.example:22", "b.example", 22, true},
        {"*.example:22", "b.example", 23, false},
        {"127.0.0.1.example", "127.0.0.1", 80, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct strlist egress = list_of(cases[i].egress);
        if (egress_allows_name(&egress, cases[i].host, cases[i].port) != cases[i].allowed)
            fail_msg("%s, %s:%u", cases[i].egress, cases[i].host, cases[i].port);
        assert_int_equal(egress_allows_literal(&egress), strcmp(cases[i].egress, "open") == 0);
        strlist_done(&egress);
    }
    struct strlist empty = {0};
    assert_int_equal(egress_mode_of(&empty), EGRESS_OPEN);
}

/* The rule that refuses the address; "" when none does. */
static const char *refusal(const char *lan, const char *address, unsigned port)
{
    struct strlist nets = list_of(lan);
    struct sockaddr_storage at = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
        memcpy(&at, &in, sizeof(in));
    else if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1)
        memcpy(&at, &in6, sizeof(in6));
    const char *why = egress_refuses(&nets, (const struct sockaddr *)&at);
    strlist_done(&nets);
    return why ? why : "";
}

static void addresses_are_refused_whatever_their_form(void **state)
{
    (void)state;
    static const struct {
        const char *lan, *address, *why;
    } cases[] = {
        {"none", "1.1.1.1", ""},
        {"none", "2606:4700::1111", ""},
        {"none", "::ffff:1.1.1.1", ""},
        {"none", "127.0.0.1", "this machine"},
        {"none", "127.8.8.8", "this machine"},
        {"none", "0.0.0.0", "this machine"},
        {"none", "::1", "this machine"},
        {"none", "::", "this machine"},
        {"none", "::ffff:127.0.0.1", "this machine"},
        {"none", "64:ff9b::127.0.0.1", "this machine"},
        {"none", "64:ff9b::10.0.0.1", "private"},
        {"none", "2002:a00:1::", "private"},
        {"none", "2002:7f00:1::1", "this machine"},
        {"none", "2002:101:101::1", ""},
        {"10.1.0.0/16", "2002:a01:203::1", ""},
        {"10.1.0.0/16", "2002:a02:203::1", "private"},
        {"10.1.0.0/16", "64:ff9b::10.1.2.3", ""},
        {"none", "169.254.169.254", "private"},
        {"none", "::ffff:169.254.169.254", "private"},
        {"none", "100.100.100.200", "private"},
        {"none", "fd00:ec2::254", "private"},
        {"none", "fe80::1", "private"},
        {"none", "224.0.0.1", "private"},
        {"none", "10.1.2.3", "private"},
        {"10.1.0.0/16", "10.1.2.3", ""},
        {"10.1.0.0/16", "::ffff:10.1.2.3", ""},
        {"10.1.0.0/16", "10.2.2.3", "private"},
        {"10.1.2.2/31", "10.1.2.3", ""},
        {"10.1.2.4/31", "10.1.2.3", "private"},
        {"fd12::/16,10.0.0.0/8", "10.9.9.9", ""},
        {"fd12::/16", "fd12::1", ""},
        {"fd12::/16", "fd13::1", "private"},
        {"127.0.0.0/8", "127.0.0.1", ""},
        {"not-a-net", "10.1.2.3", "private"},
        {"10.0.0.0/33", "10.0.0.1", "private"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *why = refusal(cases[i].lan, cases[i].address, 1);
        if (*cases[i].why ? !strstr(why, cases[i].why) : *why != '\0')
            fail_msg("%s with %s: '%s'", cases[i].address, cases[i].lan, why);
    }
}

static void a_port_that_this_process_listens_at_is_never_reached(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size) || listen(fd, 1) ||
                         getsockname(fd, (struct sockaddr *)&at, &size),
                     0);
    assert_string_equal(refusal("127.0.0.0/8", "127.0.0.1", ntohs(at.sin_port)),
                        "it is a port of the runner");
    close(fd);
    assert_string_equal(refusal("127.0.0.0/8", "127.0.0.1", ntohs(at.sin_port)), "");
}

/* "\0a\1b" and its like, as a query of one question. */
static size_t query(unsigned char *to, const char *labels, size_t len, unsigned type)
{
    static const unsigned char head[12] = {0x12, 0x34, 1, 0, 0, 1};
    const unsigned char tail[4] = {0, (unsigned char)type, 0, 1};
    memcpy(to, head, 12);
    memcpy(to + 12, labels, len);
    memcpy(to + 12 + len, tail, 4);
    return 16 + len;
}

#define LABELS "\3wWw\7example\3org"

static void a_question_is_read_and_answered(void **state)
{
    (void)state;
    static const unsigned char address[4] = {198, 18, 0, 1};
    unsigned char data[600], answer[NAMES_MESSAGE_MAX];
    struct dns_question question;
    size_t len = query(data, LABELS, sizeof(LABELS), NAMES_A);
    assert_int_equal(dns_read(data, len, &question), 0);
    assert_string_equal(question.host, "www.example.org");
    assert_int_equal(question.type, NAMES_A);
    assert_int_equal(dns_answer(&question, NAMES_OK, address, answer), len + 16);
    assert_memory_equal(answer, "\x12\x34\x81\x80\0\1\0\1\0\0\0\0", 12);
    assert_memory_equal(answer + 12, data + 12, len - 12); /* the name as the query spelled it */
    assert_memory_equal(answer + len + 12, address, 4);
    assert_int_equal(dns_answer(&question, NAMES_UNKNOWN, NULL, answer), len);
    assert_memory_equal(answer, "\x12\x34\x81\x83\0\1\0\0\0\0\0\0", 12);
}

static void what_is_no_question_is_refused_at_every_length(void **state)
{
    (void)state;
    unsigned char data[600];
    struct dns_question question;
    size_t len = query(data, LABELS, sizeof(LABELS), NAMES_A);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(dns_read(data, cut, &question), -1);
    static const struct {
        const char *labels;
        size_t len;
    } wrong[] = {{"\0", 1}, {"\300\14", 2}, {"\100a", 2}, {"\3a.b", 5}, {"\2a\n", 4}, {"\1\0", 3}};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        len = query(data, wrong[i].labels, wrong[i].len, NAMES_A);
        assert_int_equal(dns_read(data, len, &question), -1);
    }
    char many[300];
    for (size_t i = 0; i < sizeof(many); i += 2)
        memcpy(many + i, "\1a", 2);
    many[298] = '\0';
    len = query(data, many, 299, NAMES_A);
    assert_int_equal(dns_read(data, len, &question), -1); /* too long a name */
    len = query(data, LABELS, sizeof(LABELS), NAMES_A);
    data[2] |= 0x80; /* an answer */
    assert_int_equal(dns_read(data, len, &question), -1);
    data[2] = 1;
    data[5] = 2; /* two questions */
    assert_int_equal(dns_read(data, len, &question), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_allowed_as_the_list_says),
        cmocka_unit_test(addresses_are_refused_whatever_their_form),
        cmocka_unit_test(a_port_that_this_process_listens_at_is_never_reached),
        cmocka_unit_test(a_question_is_read_and_answered),
        cmocka_unit_test(what_is_no_question_is_refused_at_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
