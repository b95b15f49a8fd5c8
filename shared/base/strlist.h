/*
 * A growing list of strings, kept NULL-terminated so that it can be handed to exec as it is.
 *
 * Like a buffer, it becomes `failed` once it would pass its maximum or memory runs out; callers
 * add and check once.
 *
 * Threads: one at a time. Ownership: the list owns its strings.
 */
#ifndef BASE_STRLIST_H
#define BASE_STRLIST_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

#define STRLIST_MAX 4096 /* strings */

struct strlist {
    char **items; /* NULL while empty, else ends with NULL */
    size_t count;
    bool failed;
};

#define STRLIST_INIT \
    {                \
        0            \
    }

void strlist_done(struct strlist *list);
/* strlist_done() that also overwrites the strings in memory. */
void strlist_wipe(struct strlist *list);
static inline void auto_strlist(struct strlist *list)
{
    strlist_done(list);
}

/* Each appends one string; 0, or -1 when the list is or becomes failed. */
int strlist_add(struct strlist *list, const char *text);
int strlist_addn(struct strlist *list, const char *text, size_t len);
int strlist_addf(struct strlist *list, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sets "NAME=value": replaces the string that begins with "NAME=", or appends. */
int strlist_set(struct strlist *list, const char *name, const char *value);

/* Appends the parts of a comma separated text, without white space around them; empty ones are
 * passed over. A comma inside parentheses does not separate: "Bash(git log, -p),Read" is two. */
int strlist_split(struct strlist *list, const char *text);

bool strlist_has(const struct strlist *list, const char *text);

/* Appends all strings with `between` between them. */
void strlist_join(const struct strlist *list, const char *between, struct buf *out);

#endif
