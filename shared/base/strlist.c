#include "base/strlist.h"

#include "base/str.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void strlist_done(struct strlist *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct strlist)STRLIST_INIT;
}

void strlist_wipe(struct strlist *list)
{
    for (size_t i = 0; i < list->count; i++)
        explicit_bzero(list->items[i], strlen(list->items[i]));
    strlist_done(list);
}

/* Makes room for one more string and the NULL. */
static int make_room(struct strlist *list)
{
    if (list->failed || list->count == STRLIST_MAX)
        return -1;
    if (list->count & (list->count + 1)) /* full at 0, 1, 3, 7, … */
        return 0;
    char **items = realloc(list->items, 2 * (list->count + 1) * sizeof(*items));
    if (!items)
        return -1;
    list->items = items;
    return 0;
}

/* Takes ownership of text, which is NULL when memory ran out. */
static int take(struct strlist *list, char *text)
{
    if (!text || make_room(list)) {
        free(text);
        list->failed = true;
        return -1;
    }
    list->items[list->count++] = text;
    list->items[list->count] = NULL;
    return 0;
}

int strlist_add(struct strlist *list, const char *text)
{
    return take(list, str_copy(text, strlen(text)));
}

int strlist_addn(struct strlist *list, const char *text, size_t len)
{
    return take(list, str_copy(text, len));
}

int strlist_addf(struct strlist *list, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    return take(list, text);
}

int strlist_set(struct strlist *list, const char *name, const char *value)
{
    size_t len = strlen(name);
    if (strlist_addf(list, "%s=%s", name, value))
        return -1;
    for (size_t i = 0; i + 1 < list->count; i++) {
        if (strncmp(list->items[i], name, len) != 0 || list->items[i][len] != '=')
            continue;
        free(list->items[i]);
        list->items[i] = list->items[--list->count];
        list->items[list->count] = NULL;
        break;
    }
    return 0;
}

/* Length of the part up to the next comma outside parentheses. */
static size_t part_length(const char *text)
{
    size_t n = 0, open = 0;
    for (; text[n] && (text[n] != ',' || open > 0); n++) {
        if (text[n] == '(')
            open++;
        else if (text[n] == ')' && open > 0)
            open--;
    }
    return n;
}

int strlist_split(struct strlist *list, const char *text)
{
    int rc = 0;
    while (*text) {
        size_t n = part_length(text), end = n;
        const char *part = text;
        text += n + (text[n] == ',');
        while (end > 0 && isspace((unsigned char)*part)) {
            part++;
            end--;
        }
        while (end > 0 && isspace((unsigned char)part[end - 1]))
            end--;
        if (end > 0 && strlist_addn(list, part, end))
            rc = -1;
    }
    return rc;
}

bool strlist_has(const struct strlist *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

void strlist_join(const struct strlist *list, const char *between, struct buf *out)
{
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            buf_adds(out, between);
        buf_adds(out, list->items[i]);
    }
}
