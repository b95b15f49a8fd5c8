/*
 * What a push asks for, as a git client sends it to a server, and which of it is allowed.
 *
 * Threads: no shared state. Ownership: struct wishes owns its items; end it by wishes_done().
 */
#ifndef GIT_WISHES_H
#define GIT_WISHES_H

#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stddef.h>

#define WISHES_MAX 2000             /* refs of one push */
#define WISHES_BYTES_MAX (2u << 20) /* of the list, before the pack */
#define WISHES_REF_MAX 1024         /* bytes of a ref's name */

/* One ref to change. Ids are 40 hex digits; all zeros mean that the ref does not exist. */
struct wish {
    char old_id[41], new_id[41];
    char *ref;
};

struct wishes {
    struct wish *items;
    size_t count;
    bool wants_report; /* the client wants a report on each ref */
    bool takes_bands;  /* the client accepts messages for people as well */
    bool atomic;       /* all or nothing */
};

void wishes_done(struct wishes *wishes);
static inline void auto_wishes(struct wishes *wishes)
{
    wishes_done(wishes);
}

/* Reads the list at the start of a request; *ret_used is the offset of the pack. ERR_INVALID for
 * what no git client sends: an incomplete list, malformed ids or names, a name that occurs
 * twice. */
int wishes_read(const char *data, size_t len, struct wishes *ret_wishes, size_t *ret_used,
                struct err *err);

bool wish_creates(const struct wish *wish);
bool wish_deletes(const struct wish *wish);

/* What a push may do. */
struct push_rules {
    bool any;                       /* every branch, and tags */
    const struct strlist *branches; /* patterns (glob.h) of branches; "refs/…": of whole names */
    bool force;                     /* also changes that drop commits */
};

/* True when the text is a valid pattern for `branches`. */
bool push_rules_is_pattern(const char *text);

/* True when the ref may be changed at all. */
bool push_rules_allow(const struct push_rules *rules, const char *ref);

/* True when the wish drops something, whatever the pack holds: it deletes a ref or moves a tag. */
bool wish_is_forced(const struct wish *wish);

#endif
