/* What a program asks of its proxy: the head, what its server gets of it, and what belongs to it.
 */
#include "runner/egress/ask.h"
#include "base/auto.h"
#include "base/buf.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_host(const struct ask *ask)
{
    struct in_addr four;
    size_t len = strlen(ask->host);
    check(len > 0 && len < sizeof(ask->host));
    check(ask->port > 0 && ask->port <= 65535);
    check(!strpbrk(ask->host, " \t\r\n@/?#%[]\\"));
    check((inet_pton(AF_INET, ask->host, &four) == 1) == (ask->kind == ASK_IPV4));
    check((strchr(ask->host, ':') != NULL) == (ask->kind == ASK_IPV6));
    check(ask->kind != ASK_NAME || !inet_aton(ask->host, &four));
    for (size_t i = 0; i < len; i++)
        check(ask->host[i] > 0x20 && (ask->host[i] < 'A' || ask->host[i] > 'Z'));
}

static size_t count_of(const char *text, const char *line)
{
    size_t count = 0;
    for (const char *at = text; (at = strcasestr(at, line)); at++)
        count++;
    return count;
}

/* The server's head is one head, with one host, and ends the connection. */
static void check_print(const struct ask *ask, const char *data, size_t size)
{
    size_t seen = 0;
    struct ask_fault fault;
    AUTO(buf) struct buf out = BUF_INIT(4 * ASK_HEAD_MAX);
    ask_print(ask, data, size, &out);
    check(buf_ok(&out) && strlen(out.data) == out.len);
    check(strstr(out.data, "\r\n\r\n") == out.data + out.len - 4);
    check(count_of(out.data, "\r\nhost:") == 1 && count_of(out.data, "\r\nconnection:") == 1);
    check(count_of(out.data, "\r\nproxy-") == 0);
    check(!strstr(out.data, " http://") || strstr(out.data, " http://") > strstr(out.data, "\r\n"));
    check(ask_size(out.data, out.len, &seen, &fault) < 0); /* it is for no proxy any more */
}

/* However what follows is cut, the same belongs to the request. */
static void check_body(const struct ask *ask, const char *data, size_t len)
{
    struct ask_body a = ask->body, b = ask->body;
    ssize_t whole = ask_take(&a, data, len), sum = 0, one = 1;
    check(whole <= (ssize_t)len);
    for (size_t i = 0; i < len && one == 1; i++) {
        one = ask_take(&b, data + i, 1);
        sum += one > 0;
    }
    check(whole < 0 ? one < 0 : one >= 0 && sum == whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ask ask;
    struct ask_fault fault = {0}, in_pieces = {0};
    size_t seen = 0, slowly = 0;
    char *copy = calloc(size ? size : 1, 1); /* exactly as long: a step too far is seen */
    if (!copy)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    ssize_t head = ask_size(copy, size, &seen, &fault), later = 0;
    for (size_t i = 1; i <= size && later == 0; i++)
        later = ask_size(copy, i, &slowly, &in_pieces);
    check(head == later && (head >= 0 || fault.status == in_pieces.status));
    check(head <= ASK_HEAD_MAX && (head >= 0 || (fault.status >= 400 && fault.why)));
    if (head > 0) {
        if (ask_read(copy, (size_t)head, &ask, &fault) == 0) {
            check_host(&ask);
            if (!ask.tunnel) {
                check_print(&ask, copy, (size_t)head);
                check_body(&ask, copy + head, size - (size_t)head);
            }
        } else {
            check(fault.status >= 400 && fault.why && *fault.why);
        }
    }
    free(copy);
    return 0;
}
