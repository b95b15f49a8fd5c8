#include "net/net.h"

#include "net/address.h"

#include <netdb.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* --- addresses ----------------------------------------------------------------------------- */

static bool is_public(const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *info;
    if (getaddrinfo(text, NULL, &hints, &info))
        fail_msg("'%s' is no address", text);
    bool answer = address_is_public(info->ai_addr);
    freeaddrinfo(info);
    return answer;
}

/* The first and the last address of every range that is not public. */
static const char *const special[] = {
    "0.0.0.0",
    "0.255.255.255", /* this network */
    "10.0.0.0",
    "10.255.255.255", /* private */
    "100.64.0.0",
    "100.127.255.255", /* shared */
    "127.0.0.0",
    "127.255.255.255", /* loopback */
    "169.254.0.0",
    "169.254.169.254", /* link-local: metadata servers */
    "169.254.255.255",
    "172.16.0.0", /* private */
    "172.31.255.255",
    "192.0.0.0", /* protocol assignments */
    "192.0.0.255",
    "192.0.2.0", /* documentation */
    "192.0.2.255",
    "192.88.99.0", /* 6to4 relays */
    "192.88.99.255",
    "192.168.0.0", /* private */
    "192.168.255.255",
    "198.18.0.0", /* benchmarks */
    "198.19.255.255",
    "198.51.100.0", /* documentation */
    "198.51.100.255",
    "203.0.113.0", /* documentation */
    "203.0.113.255",
    "224.0.0.0", /* multicast */
    "239.255.255.255",
    "240.0.0.0", /* reserved */
    "255.255.255.255",
    "::", /* unspecified */
    "::1",
    "::7f00:1",
    "::8.8.8.8", /* loopback, IPv4-compatible */
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",        /* IPv4-mapped */
    "::ffff:169.254.169.254", /* … */
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",    /* NAT64 */
    "64:ff9b:1::8.8.8.8", /* local-use NAT64 */
    "100::1",
    "100:0:0:1::1", /* discard-only, dummy */
    "2001::1",
    "2001::ffff:ffff", /* Teredo */
    "2001:10::1",
    "2001:20::1", /* ORCHID */
    "2001:2::1",
    "2001:1ff:ffff::1", /* benchmarks, protocol assignments */
    "2001:db8::1",
    "2001:db8:ffff::1", /* documentation */
    "2002:7f00:1::",
    "2002:a00:1::1", /* 6to4 */
    "2002:a9fe:a9fe::",
    "2002:c0a8:101::1", /* … */
    "3fff::1",
    "3fff:fff:ffff::1", /* documentation */
    "5f00::1",
    "fc00::1",
    "fd12:3456::1", /* SRv6, unique local */
    "fdff:ffff::1",
    "fe80::1", /* link-local */
    "febf::1",
    "fec0::1", /* site-local */
    "ff00::1",
    "ff02::1",
    "ffff:ffff::ffff", /* multicast */
};

static void no_special_range_is_public(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(special); i++)
        if (is_public(special[i]))
            fail_msg("%s passes", special[i]);
}

/* The addresses just outside a special range are public. */
static void what_is_beside_a_special_range_is_public(void **state)
{
    (void)state;
    static const char *const plain[] = {
        "1.0.0.0",         "9.255.255.255",   "11.0.0.0",         "100.63.255.255",
        "100.128.0.0",     "126.255.255.255", "128.0.0.0",        "169.253.255.255",
        "169.255.0.0",     "172.15.255.255",  "172.32.0.0",       "191.255.255.255",
        "192.0.1.0",       "192.0.3.0",       "192.88.98.255",    "192.88.100.0",
        "192.167.255.255", "192.169.0.0",     "198.17.255.255",   "198.20.0.0",
        "198.51.99.255",   "198.51.101.0",    "203.0.112.255",    "203.0.114.0",
        "223.255.255.255", "8.8.8.8",         "::ffff:8.8.8.8",   "64:ff9b::8.8.8.8",
        "2000::1",         "2001:200::1",     "2001:db7:ffff::1", "2001:db9::1",
        "2002:808:808::1", "2606:4700::1111", "3ffe::1",          "3fff:1000::1",
    };
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (!is_public(plain[i]))
            fail_msg("%s does not pass", plain[i]);
}

static void other_families_are_not_public(void **state)
{
    (void)state;
    const struct sockaddr_storage local = {.ss_family = AF_UNIX};
    assert_false(address_is_public((const struct sockaddr *)&local));
    assert_false(address_is_loopback((const struct sockaddr *)&local));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_special_range_is_public),
        cmocka_unit_test(what_is_beside_a_special_range_is_public),
        cmocka_unit_test(other_families_are_not_public),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
