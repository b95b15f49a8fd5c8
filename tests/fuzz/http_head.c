/* The bytes of a request up to its handler: head, target, route, Accept, chunked body. */
#include "base/auto.h"
#include "base/str.h"
#include "http/accept.h"
#include "http/chunk.h"
#include "http/head.h"
#include "http/route.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_route routes[] = {
    {"GET", "/health", NULL, 0},
    {"GET", "/tasks/{id}", NULL, 0},
    {"POST", "/tasks/{id}/cancel", NULL, 0},
    {"GET", "/sessions/{id}/files/{path...}", NULL, 0},
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_text(const char *text)
{
    size_t len = strlen(text);
    check(str_is_utf8(text, len));
    for (size_t i = 0; i < len; i++)
        check((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
}

/* What a head that was taken promises to the code behind it. */
static void check_head(const struct head *head)
{
    struct route_match match;
    check(head->path[0] == '/' || strcmp(head->path, "*") == 0);
    check(!strstr(head->path, "/../"));
    check(!head->odd || *head->odd);
    if (!head->odd) { /* else only routes that take any bytes see it */
        check(!strchr(head->path, '\\'));
        check_text(head->path);
    }
    for (size_t i = 0; i < head->query_count; i++) {
        check_text(head->query[i].name);
        check_text(head->query[i].value);
    }
    check(head->minor == 0 || head_field(head, "host"));
    check(head->length >= 0 && !(head->chunked && head->length));
    route_find(routes, COUNT_OF(routes), head->method, head->path, &match);
    for (size_t i = 0; i < match.param_count; i++)
        check(match.params[i].value_len > 0 && match.params[i].value > head->path &&
              match.params[i].value + match.params[i].value_len <= head->path + strlen(head->path));
    if (accept_names(head, "application/x-ndjson"))
        check(accept_takes(head, "application/x-ndjson"));
}

/* However a chunked body is cut into pieces, the same comes out. */
static void check_chunks(const char *data, size_t len)
{
    AUTO(buf) struct buf whole = BUF_INIT(1 << 20), pieces = BUF_INIT(1 << 20);
    struct chunk a = {0}, b = {0};
    ssize_t taken = chunk_feed(&a, data, len, &whole), fed = 0;
    for (size_t i = 0; i < len && fed >= 0 && !chunk_ended(&b); i++)
        fed = chunk_feed(&b, data + i, 1, &pieces);
    check((taken < 0) == (fed < 0) && chunk_ended(&a) == chunk_ended(&b));
    check(whole.len == pieces.len && memcmp(buf_str(&whole), buf_str(&pieces), whole.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head head;
    struct err err;
    memset(&head, 0xa5, sizeof(head));    /* as an earlier request may have left it */
    char *copy = malloc(size ? size : 1); /* exactly as long: a step too far is seen */
    if (!copy)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    size_t head_len = head_size(copy, size);
    check(head_len <= size);
    if (head_len == 0)
        check(head_unfinished(copy, size, &err) < 0);
    else if (head_parse(copy, head_len, &head, &err) == 0)
        check_head(&head);
    check_chunks(copy + head_len, size - head_len);
    free(copy);
    return 0;
}
