#include "http/head.h"

#include "base/auto.h"
#include "base/str.h"
#include "http/target.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && (!text[i] || !strchr("!#$%&'*+-.^_`|~", text[i])))
            return false;
    return len > 0;
}

size_t head_size(const char *data, size_t len)
{
    if (len == 0)
        return 0; /* data may be NULL */
    const char *end = data + len;
    for (const char *p = data; p < end && (p = memchr(p, '\n', (size_t)(end - p)));) {
        p++;
        if (p < end && p[0] == '\n')
            return (size_t)(p + 1 - data);
        if (end - p >= 2 && p - data >= 2 && p[-2] == '\r' && p[0] == '\r' && p[1] == '\n')
            return (size_t)(p + 2 - data);
    }
    return 0;
}

/* Cuts off the next line. Returns its text, NUL-terminated, without CR LF; NULL when the line does
 * not end in CR LF. The last line of the head is empty. */
static char *next_line(char **at, const char *end)
{
    char *line = *at;
    char *nl = memchr(line, '\n', (size_t)(end - line));
    if (!nl || nl == line || nl[-1] != '\r')
        return NULL;
    nl[-1] = '\0';
    *at = nl + 1;
    size_t len = (size_t)(nl - 1 - line);
    return memchr(line, '\r', len) || memchr(line, '\0', len) ? NULL : line;
}

static int parse_version(const char *version, struct head *head, struct err *err)
{
    if (strncmp(version, "HTTP/", 5) != 0 || !isdigit((unsigned char)version[5]) ||
        version[6] != '.' || !isdigit((unsigned char)version[7]) || version[8])
        return err_set(err, ERR_INVALID, "the request line does not end in an HTTP version");
    if (version[5] != '1' || version[7] > '1')
        return err_set(err, ERR_VERSION, "this server speaks HTTP/1.0 and HTTP/1.1");
    head->minor = version[7] - '0';
    return 0;
}

static bool is_known_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (strcmp(method, known[i]) == 0)
            return true;
    return false;
}

static int parse_request_line(char *line, struct head *head, struct err *err)
{
    size_t method_len = strcspn(line, " ");
    if (!is_token(line, method_len) || line[method_len] != ' ')
        return err_set(err, ERR_INVALID, "the request line does not begin with a method");
    char *target = line + method_len + 1;
    size_t target_len = strcspn(target, " ");
    for (size_t i = 0; i < target_len; i++)
        if (target[i] <= ' ' || target[i] >= 0x7f)
            return err_set(err, ERR_INVALID, "the request target has a byte that is no character");
    if (target_len == 0)
        return err_set(err, ERR_INVALID, "the request line has no target");
    if (target_len > HEAD_TARGET_MAX)
        return err_set(err, ERR_URI_TOO_LONG, "the request target is longer than %d bytes",
                       HEAD_TARGET_MAX);
    if (target[target_len] != ' ')
        return err_set(err, ERR_VERSION, "HTTP/0.9 is not spoken here");
    line[method_len] = target[target_len] = '\0';
    head->method = line;
    if (parse_version(target + target_len + 1, head, err) < 0)
        return -1;
    if (!is_known_method(line))
        return err_set(err, ERR_NOT_IMPLEMENTED, "method '%.32s' is not implemented", line);
    return target_parse(target, head, err);
}

static int parse_field(char *line, struct head *head, struct err *err)
{
    size_t len = strcspn(line, ":");
    if (line[0] == ' ' || line[0] == '\t')
        return err_set(err, ERR_INVALID, "a header line is folded");
    if (line[len] != ':' || !is_token(line, len))
        return err_set(err, ERR_INVALID, "a header line does not begin with a name and a colon");
    if (head->field_count == HEAD_FIELDS_MAX)
        return err_set(err, ERR_HEADERS, "more than %d headers", HEAD_FIELDS_MAX);
    line[len] = '\0';
    char *value = line + len + 1;
    value += strspn(value, " \t");
    char *end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    for (const char *p = value; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
            return err_set(err, ERR_INVALID, "header '%.64s' has a control character", line);
    head->fields[head->field_count++] = (struct head_pair){line, value};
    return 0;
}

static int check_host(const struct head *head, const char *value, struct err *err)
{
    if (!value)
        return head->minor == 0 ? 0 : err_set(err, ERR_INVALID, "there is no Host header");
    if (!*value || value[strcspn(value, " \t,/?#@\\\"<>")])
        return err_set(err, ERR_INVALID, "the Host header is not a host");
    return 0;
}

static int check_length(struct head *head, const char *value, struct err *err)
{
    if (!value)
        return 0;
    if (!*value || value[strspn(value, "0123456789")] ||
        str_to_int(value, 0, INT64_MAX, &head->length) < 0)
        return err_set(err, ERR_INVALID, "Content-Length is not a number of bytes");
    return 0;
}

static int check_encoding(struct head *head, const char *value, struct err *err)
{
    if (!value)
        return 0;
    if (head_field(head, "Content-Length"))
        return err_set(err, ERR_INVALID, "Content-Length and Transfer-Encoding are both there");
    if (head->minor == 0)
        return err_set(err, ERR_INVALID, "Transfer-Encoding does not go with HTTP/1.0");
    if (strcasecmp(value, "chunked") != 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "the only Transfer-Encoding taken is chunked");
    head->chunked = true;
    return 0;
}

static int check_expect(struct head *head, const char *value, struct err *err)
{
    if (!value || head->minor == 0)
        return 0;
    if (strcasecmp(value, "100-continue") != 0)
        return err_set(err, ERR_EXPECTATION, "the only Expect taken is 100-continue");
    head->expects_continue = true;
    return 0;
}

/* Refuses repeated headers that decide how bytes are read or who asks: two of them are an
 * attack. */
static int check_single(const struct head *head, struct err *err)
{
    static const char *const single[] = {"Host",         "Content-Length", "Transfer-Encoding",
                                         "Expect",       "Authorization",  "X-Runner-Secret",
                                         "Content-Type", "Idempotency-Key"};
    for (size_t i = 0; i < COUNT_OF(single); i++) {
        size_t count = 0;
        for (size_t k = 0; k < head->field_count; k++)
            count += strcasecmp(head->fields[k].name, single[i]) == 0;
        if (count > 1)
            return err_set(err, ERR_INVALID, "header '%s' is there more than once", single[i]);
    }
    return 0;
}

/* CivetWeb keeps a connection when the first Connection header says keep-alive or there is none.
 * For anything else (upgrades) closing is right. */
static bool wants_keep_alive(const struct head *head)
{
    const char *first = head_field(head, "Connection");
    if (!first)
        return head->minor == 1;
    for (size_t i = 0; i < head->field_count; i++)
        if (strcasecmp(head->fields[i].name, "Connection") == 0 &&
            (head_has_token(head->fields[i].value, "close") ||
             head_has_token(head->fields[i].value, "upgrade")))
            return false;
    return head_has_token(first, "keep-alive");
}

int head_parse(char *data, size_t size, struct head *head, struct err *err)
{
    char *at = data;
    const char *end = data + size;
    head->method = head->path = "";
    head->odd = NULL;
    head->odd_slash = false;
    head->minor = 1;
    head->field_count = head->query_count = 0;
    head->length = 0;
    head->chunked = head->expects_continue = head->keep_alive = false;

    if (size > 2 && data[0] == '\r' && data[1] == '\n')
        at += 2; /* RFC 9112, 2.2 allows one empty line before the request line. */
    char *line = next_line(&at, end);
    if (!line)
        return err_set(err, ERR_INVALID, "the request line is not one line that ends in CR LF");
    if (parse_request_line(line, head, err) < 0)
        return -1;
    while ((line = next_line(&at, end)) && *line)
        if (parse_field(line, head, err) < 0)
            return -1;
    if (!line || at != end)
        return err_set(err, ERR_INVALID, "a header is not one line that ends in CR LF");
    head->keep_alive = wants_keep_alive(head);
    if (check_single(head, err) < 0 || check_host(head, head_field(head, "Host"), err) < 0 ||
        check_length(head, head_field(head, "Content-Length"), err) < 0 ||
        check_encoding(head, head_field(head, "Transfer-Encoding"), err) < 0)
        return -1;
    return check_expect(head, head_field(head, "Expect"), err);
}

int head_unfinished(const char *data, size_t len, struct err *err)
{
    const char *nl = memchr(data, '\n', len);
    if (!nl && len > HEAD_TARGET_MAX)
        return err_set(err, ERR_URI_TOO_LONG, "the request target is longer than %d bytes",
                       HEAD_TARGET_MAX);
    if (len >= HEAD_MAX)
        return err_set(err, ERR_HEADERS, "the request head is longer than %d bytes", HEAD_MAX);
    return err_set(err, ERR_INVALID, "the request head is cut off or holds a control character");
}

const char *head_field(const struct head *head, const char *name)
{
    for (size_t i = 0; i < head->field_count; i++)
        if (strcasecmp(head->fields[i].name, name) == 0)
            return head->fields[i].value;
    return NULL;
}

bool head_has_token(const char *list, const char *token)
{
    size_t want = strlen(token);
    while (*list) {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, ",");
        size_t bare = len;
        while (bare > 0 && (list[bare - 1] == ' ' || list[bare - 1] == '\t'))
            bare--;
        if (bare == want && strncasecmp(list, token, want) == 0)
            return true;
        list += len;
    }
    return false;
}
