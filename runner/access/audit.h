/*
 * The audit log: who signed in, ran something or changed something, and when.
 *
 * Theory of operation. A line of JSON each, appended to audit.log in the state directory by one
 * write(), in the order of their numbers. It is never rewritten: when it has grown to
 * AUDIT_FILE_BYTES it becomes audit.log.1, whose place it takes, so that at most twice as much is
 * kept. A line that a crash has cut is passed over. Nothing secret is in it.
 *
 * Threads: any.
 */
#ifndef ACCESS_AUDIT_H
#define ACCESS_AUDIT_H

#include "base/auto.h"
#include "base/err.h"
#include "json/json.h"

#include <stdint.h>

#define AUDIT_FILE_BYTES (2u << 20)

struct audit;

/* Opens (or makes) the log in that directory. */
struct audit *audit_open(const char *state_dir, struct err *err);
void audit_close(struct audit *audit);
DEFINE_AUTO(audit, struct audit *, audit_close)

/* What is NULL or "" is left out; long texts are cut. */
struct audit_entry {
    const char *action;  /* "task.run" */
    const char *caller;  /* the name of the secret */
    const char *address; /* where the request came from */
    const char *target;  /* the task, session, file that was meant */
    const char *detail;
};

/* Adds an entry with the time. One that cannot be written is logged and lost. */
void audit_add(struct audit *audit, const struct audit_entry *entry);

/* Adds up to `limit` entries with numbers below `before` (0: from the newest) to the open array,
 * the newest first; only `action`'s (also "task" for all that begin with "task.") and `caller`'s
 * when those are not NULL. *ret_next is the `before` for what follows, 0 when nothing does. */
int audit_print(struct audit *audit, int64_t before, int limit, const char *action,
                const char *caller, struct json_writer *w, int64_t *ret_next, struct err *err);

#endif
