#include "http/target.h"

#include "base/str.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What is unusual about a decoded text; NULL: nothing. */
struct oddity {
    const char *slash; /* a slash or a backslash was written as %XX */
    const char *bytes; /* it is no plain text */
};

/* Decodes text in place. The result may not hold NUL. */
static int decode(char *text, bool plus_is_space, const char *what, struct oddity *ret_odd,
                  struct err *err)
{
    char *to = text;
    *ret_odd = (struct oddity){0};
    for (const char *from = text; *from; from++) {
        char c = *from;
        bool encoded = c == '%';
        if (encoded) {
            int high = hex_digit(from[1]);
            int low = high < 0 ? -1 : hex_digit(from[2]);
            if (low < 0)
                return err_set(err, ERR_INVALID, "the %s has a '%%' without two hex digits", what);
            c = (char)(high * 16 + low);
            from += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\\' && encoded)
            ret_odd->slash = "has an encoded backslash";
        if (c == '/' && encoded)
            ret_odd->slash = "has an encoded slash";
        if (c == '\0')
            return err_set(err, ERR_INVALID, "the %s has a control character", what);
        if ((unsigned char)c < 0x20 || c == 0x7f)
            ret_odd->bytes = "has a control character";
        *to++ = c;
    }
    *to = '\0';
    if (!str_is_utf8(text, (size_t)(to - text)))
        ret_odd->bytes = "is not valid UTF-8";
    return 0;
}

int target_decode(char *text, const char *what, struct err *err)
{
    struct oddity odd;
    if (decode(text, true, what, &odd, err))
        return -1;
    return odd.bytes ? err_set(err, ERR_INVALID, "the %s %s", what, odd.bytes) : 0;
}

static int check_segments(const char *path, struct err *err)
{
    for (const char *part = path; *part == '/';) {
        part++;
        size_t len = strcspn(part, "/");
        if ((len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
            return err_set(err, ERR_INVALID, "the path has a '.' or '..' part");
        part += len;
    }
    return 0;
}

static int parse_query(char *text, struct head *head, struct err *err)
{
    char *rest = text;
    for (char *pair; (pair = strsep(&rest, "&"));) {
        if (*pair == '\0')
            continue;
        if (head->query_count == HEAD_QUERY_MAX)
            return err_set(err, ERR_INVALID, "more than %d query parameters", HEAD_QUERY_MAX);
        char *value = strchr(pair, '=');
        if (value)
            *value++ = '\0';
        else
            value = pair + strlen(pair);
        if (target_decode(pair, "query", err) || target_decode(value, "query", err))
            return -1;
        head->query[head->query_count++] = (struct head_pair){pair, value};
    }
    return 0;
}

/* The path of "http://authority/path"; NULL when the target does not have that form. */
static char *skip_authority(char *target)
{
    char *at = strncasecmp(target, "http://", 7) == 0    ? target + 7
               : strncasecmp(target, "https://", 8) == 0 ? target + 8
                                                         : NULL;
    size_t len = at ? strcspn(at, "/?@") : 0;
    if (len == 0 || at[len] == '@')
        return NULL;
    return at + len;
}

int target_parse(char *target, struct head *head, struct err *err)
{
    if (strcmp(target, "*") == 0 && strcmp(head->method, "OPTIONS") == 0) {
        head->path = "*";
        return 0;
    }
    char *path = target[0] == '/' ? target : skip_authority(target);
    if (!path)
        return err_set(err, ERR_INVALID, "the request target is neither a path nor an http URL");
    if (strpbrk(path, "#\\"))
        return err_set(err, ERR_INVALID, "the request target has a '#' or a backslash");
    char *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    struct oddity odd;
    if (decode(path, false, "path", &odd, err) < 0 || check_segments(path, err) < 0)
        return -1;
    head->odd = odd.bytes ? odd.bytes : odd.slash;
    head->odd_slash = !odd.bytes && odd.slash;
    head->path = *path ? path : "/";
    return query ? parse_query(query, head, err) : 0;
}
