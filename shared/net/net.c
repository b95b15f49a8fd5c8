#define CURL_DISABLE_TYPECHECK
#include "net/exchange.h"

#include "base/check.h"
#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOTAL_MS 30000

/* curl_easy_setopt() through the table of functions, with a pointer or with a number. */
#define set(curl, handle, option, value) (curl)->curl_easy_setopt((handle), (option), (value))

void net_answer_done(struct net_answer *answer)
{
    buf_done(&answer->head);
    buf_done(&answer->body);
}

int net_call(const struct net_request *request, struct net_answer *ret_answer, struct err *err)
{
    REQUIRE(request->url && request->method);
    const struct curl_functions *curl = curl_load(err);
    if (!curl || exchange_check_url(request->url, err))
        return -1;
    struct net_answer answer = {0};
    buf_init(&answer.head, EXCHANGE_HEAD_MAX);
    buf_init(&answer.body, request->answer_max);
    struct exchange x = {.curl = curl,
                         .handle = curl->curl_easy_init(),
                         .answer = &answer,
                         .head = &answer.head,
                         .body = request->body,
                         .body_left = request->body_len,
                         .call = request,
                         .reach = request->reach};
    if (!x.handle)
        return err_sys(err, "libcurl");
    exchange_set(&x, request->method, request->url);
    exchange_set_body(&x, request->method, (int64_t)request->body_len);
    set(curl, x.handle, CURLOPT_CONNECTTIMEOUT_MS,
        (long)(request->connect_ms ? request->connect_ms : EXCHANGE_CONNECT_MS));
    set(curl, x.handle, CURLOPT_TIMEOUT_MS,
        (long)(request->total_ms ? request->total_ms : TOTAL_MS));
    if (request->stop)
        exchange_set_progress(&x);
    int rc = exchange_perform(&x, request->headers, request->url, err);
    long status = 0;
    curl->curl_easy_getinfo(x.handle, CURLINFO_RESPONSE_CODE, &status);
    curl->curl_easy_cleanup(x.handle);
    answer.status = (int)status;
    if (rc)
        net_answer_done(&answer);
    else
        *ret_answer = answer;
    return rc;
}

const char *net_header(const struct buf *head, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);
    for (const char *line = buf_str(head), *end; *line; line = end) {
        end = strchr(line, '\n');
        end = end ? end + 1 : line + strlen(line);
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *from = line + n + 1, *to = end;
        while (from < to && (*from == ' ' || *from == '\t'))
            from++;
        while (to > from && (unsigned char)to[-1] <= ' ')
            to--;
        snprintf(value, size, "%.*s", (int)(to - from), from);
        return value;
    }
    return NULL;
}

/* --- relays -------------------------------------------------------------------------------- */

struct net_link {
    CURL *handle;
};

struct net_link *net_link_new(void)
{
    struct err ignored;
    const struct curl_functions *curl = curl_load(&ignored);
    struct net_link *link = curl ? calloc(1, sizeof(*link)) : NULL;
    if (link && !(link->handle = curl->curl_easy_init())) {
        free(link);
        link = NULL;
    }
    return link;
}

void net_link_free(struct net_link *link)
{
    struct err ignored;
    if (!link)
        return;
    curl_load(&ignored)->curl_easy_cleanup(link->handle);
    free(link);
}

int net_relay(struct net_link *link, const struct net_relay *relay, struct err *err)
{
    REQUIRE(link && relay->url && relay->method);
    const struct curl_functions *curl = curl_load(err);
    AUTO(buf) struct buf head = BUF_INIT(EXCHANGE_HEAD_MAX);
    if (!curl || exchange_check_url(relay->url, err))
        return -1;
    struct exchange x = {.curl = curl,
                         .handle = link->handle,
                         .relay = relay,
                         .head = &head,
                         .reach = relay->plain ? NET_PLAIN : NET_TRUSTED,
                         .moved_ms = clock_mono_ms()};
    struct curl_slist *pins = NULL;
    if (relay->pin && !(pins = curl->curl_slist_append(NULL, relay->pin)))
        return err_sys(err, "an address");
    exchange_set_relay(&x);
    if (pins)
        curl->curl_easy_setopt(x.handle, CURLOPT_RESOLVE, pins);
    buf_init(&x.gathered, EXCHANGE_GATHER_MAX);
    int rc = exchange_perform(&x, relay->headers, relay->url, err);
    int passed = exchange_pass_gathered(&x); /* Also those of an answer that was cut off. */
    buf_done(&x.gathered);
    curl->curl_slist_free_all(pins);
    long sent = 0;
    curl->curl_easy_getinfo(x.handle, CURLINFO_REQUEST_SIZE, &sent);
    if (relay->ret_sent)
        *relay->ret_sent = sent > 0;
    if (rc == 0 &&
        (passed || exchange_tell_head(&x))) /* an answer without a body has only a head */
        rc = err_set(err, ERR_INTERNAL, "given up");
    return rc;
}
