/* The conditions (If-Match, If-None-Match) and preferences (Prefer) of a request. */
#include "http/request.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- entity tags --------------------------------------------------------------------------- */

/* True when one element of the list is the tag. A weak tag, W/"x", equals "x" in a weak comparison
 * and nothing in a strong one. The quoted part may hold commas. */
static bool lists_tag(const char *list, const char *etag, bool strongly)
{
    bool is_weak = strncmp(etag, "W/", 2) == 0;
    const char *opaque = is_weak ? etag + 2 : etag;
    size_t len = strlen(opaque);
    for (const char *p = list; *p;) {
        p += strspn(p, " \t,");
        bool weak = strncmp(p, "W/", 2) == 0;
        p += weak ? 2 : 0;
        const char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
        if (!end) { /* Not a tag: skip it. */
            p += strcspn(p, ",");
            continue;
        }
        end++;
        if ((size_t)(end - p) == len && memcmp(p, opaque, len) == 0 &&
            !(strongly && (weak || is_weak)))
            return true;
        p = end;
    }
    return false;
}

/* True when one of the headers of that name lists the tag, or is a star and the resource exists. */
static bool names_tag(const struct head *head, const char *name, const char *etag, bool strongly)
{
    for (size_t i = 0; i < head->field_count; i++) {
        const char *value = head->fields[i].value;
        if (strcasecmp(head->fields[i].name, name) == 0 && etag &&
            (strcmp(value, "*") == 0 || lists_tag(value, etag, strongly)))
            return true;
    }
    return false;
}

int http_condition(const struct http_request *req, const char *etag)
{
    const struct head *head = &req->head;
    bool reads = strcmp(head->method, "GET") == 0 || strcmp(head->method, "HEAD") == 0;
    if (head_field(head, "If-Match") && !names_tag(head, "If-Match", etag, true))
        return 412;
    if (names_tag(head, "If-None-Match", etag, false))
        return reads ? 304 : 412;
    return 0;
}

/* --- preferences --------------------------------------------------------------------------- */

/* The length of a value at p: a token, or a string in quotes. */
static size_t value_length(const char *p)
{
    if (*p != '"')
        return strcspn(p, " \t,;");
    const char *end = strchr(p + 1, '"');
    return end ? (size_t)(end + 1 - p) : strlen(p);
}

/* Looks for a preference in one header. */
static bool find_preference(const char *p, const char *name, char *value, size_t size)
{
    while (*p) {
        p += strspn(p, " \t,");
        size_t name_len = strcspn(p, " \t,;=");
        bool found = name_len == strlen(name) && strncasecmp(p, name, name_len) == 0;
        p += name_len;
        p += strspn(p, " \t");
        size_t len = 0;
        const char *text = p;
        if (*p == '=') {
            p++;
            p += strspn(p, " \t");
            text = p;
            len = value_length(p);
            p += len;
        }
        if (found) {
            bool quoted = len >= 2 && text[0] == '"' && text[len - 1] == '"';
            snprintf(value, size, "%.*s", (int)(quoted ? len - 2 : len), text + quoted);
            return true;
        }
        p += strcspn(p, ","); /* Skip the parameters of another preference. */
    }
    return false;
}

bool http_preference(const struct http_request *req, const char *name, char *value, size_t size)
{
    for (size_t i = 0; i < req->head.field_count; i++)
        if (strcasecmp(req->head.fields[i].name, "Prefer") == 0 &&
            find_preference(req->head.fields[i].value, name, value, size))
            return true;
    return false;
}
