/* Bodies of known size, whole or in part (RFC 9110, 14). */
#include "base/str.h"
#include "runner/api/handlers.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Reads digits; a number that is too large is the largest. */
static int read_place(const char *text, int64_t *ret_value)
{
    if (str_to_int(text, 0, INT64_MAX, ret_value) == 0)
        return 0;
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return -1;
    *ret_value = INT64_MAX;
    return 0;
}

/* Reads "bytes=a-b", "bytes=a-" or "bytes=-n" (one range). Returns 1 with the range, 0 when the
 * header must be ignored, -1 when the range lies outside. */
static int read_range(const char *text, int64_t size, int64_t *ret_from, int64_t *ret_len)
{
    int64_t from, to = size - 1;
    char number[64];
    if (!text || strncasecmp(text, "bytes=", strlen("bytes=")) != 0 || strchr(text, ','))
        return 0;
    text += strlen("bytes=");
    const char *dash = strchr(text, '-');
    if (!dash || dash - text >= (int)sizeof(number))
        return 0;
    snprintf(number, sizeof(number), "%.*s", (int)(dash - text), text);
    if (dash == text) { /* the last n bytes */
        if (read_place(dash + 1, &to))
            return 0;
        from = to < size ? size - to : 0;
        *ret_from = from;
        *ret_len = size - from;
        return to == 0 || size == 0 ? -1 : 1;
    }
    if (read_place(number, &from) || (dash[1] && (read_place(dash + 1, &to) || to < from)))
        return 0;
    if (from >= size)
        return -1;
    *ret_from = from;
    *ret_len = (to < size ? to : size - 1) - from + 1;
    return 1;
}

bool range_plan(struct http_request *req, int64_t size, const char *etag, struct range *ret_range)
{
    char text[64];
    struct err err;
    const char *condition = http_header(req, "If-Range");
    struct range range = {.status = 200, .len = size, .size = size};
    if (!meets_condition(req, etag))
        return false;
    bool ranged = !condition || strcmp(condition, etag) == 0;
    int got = ranged ? read_range(http_header(req, "Range"), size, &range.from, &range.len) : 0;
    if (got < 0) {
        snprintf(text, sizeof(text), "bytes */%lld", (long long)size);
        http_add_header(req, "Accept-Ranges", "bytes");
        http_add_header(req, "Content-Range", text);
        err_set(&err, ERR_RANGE, "the file has %lld bytes", (long long)size);
        send_err(req, &err);
        return false;
    }
    if (got > 0)
        range.status = 206;
    *ret_range = range;
    return true;
}

static void add_headers(struct http_request *req, const struct range *range)
{
    char text[128];
    http_add_header(req, "Accept-Ranges", "bytes");
    if (range->status == 206) {
        snprintf(text, sizeof(text), "bytes %lld-%lld/%lld", (long long)range->from,
                 (long long)(range->from + range->len - 1), (long long)range->size);
        http_add_header(req, "Content-Range", text);
    }
}

int range_begin(struct http_request *req, const struct range *range, const char *type)
{
    add_headers(req, range);
    return http_begin_sized(req, range->status, type, range->len);
}

void send_range(struct http_request *req, int fd, const struct stat *st, const char *etag,
                const char *type)
{
    struct range range;
    if (!range_plan(req, st->st_size, etag, &range))
        return;
    add_headers(req, &range);
    http_send_file(req, range.status, type, fd, range.from, range.len);
}
