/*
 * The audit log: who signed in, ran something or changed something, and when.
 *
 * Theory of operation. Each entry is a line of JSON, appended to audit.log in the state directory
 * by one write(), in the order of their numbers. Entries are never rewritten: a file that has grown
 * to AUDIT_FILE_BYTES is renamed to audit.log.1 and replaces the one before it, so that at most
 * twice as much is kept. A line that a crash has left incomplete is skipped. The log holds no
 * secret.
 *
 * Threads: any. Ownership: the caller of audit_open() frees the log by audit_close().
 */
#ifndef ACCESS_AUDIT_H
#define ACCESS_AUDIT_H

#include "base/auto.h"
#include "base/err.h"
#include "json/json.h"

#include <stdint.h>

#define AUDIT_FILE_BYTES (2u << 20)

struct audit;

/* Opens the log in that directory, or creates it. */
struct audit *audit_open(const char *state_dir, struct err *err);
void audit_close(struct audit *audit);
DEFINE_AUTO(audit, struct audit *, audit_close)

/* Members that are NULL or "" are left out; long texts are cut. */
struct audit_entry {
    const char *action;  /* "task.run" */
    const char *caller;  /* the name of the secret */
    const char *address; /* where the request came from */
    const char *target;  /* the task, session or file that the action is about */
    const char *detail;
};

/* Adds an entry with the current time. An entry that cannot be written is reported in the program's
 * log and lost. */
void audit_add(struct audit *audit, const struct audit_entry *entry);

/* Adds up to `limit` entries with numbers below `before` (0: from the newest) to the open array,
 * newest first; only entries of `action` (also "task" for all that begin with "task.") and of
 * `caller`, when these are not NULL. *ret_next is the `before` of the next page, 0 when there is
 * none. */
int audit_print(struct audit *audit, int64_t before, int limit, const char *action,
                const char *caller, struct json_writer *w, int64_t *ret_next, struct err *err);

#endif
