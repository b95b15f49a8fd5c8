/*
 * Callers: when the holders of each secret were last here, and how often.
 *
 * In memory, and in callers.json of the state directory, which is written at most once a minute and
 * at the end: a crash forgets a minute. A bounded number; the one not seen for longest makes room.
 *
 * Threads: any.
 */
#ifndef ACCESS_CALLERS_H
#define ACCESS_CALLERS_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define CALLERS_MAX 128

struct callers;

/* A file that cannot be read is begun anew, and said in the log. NULL with *err. */
struct callers *callers_new(const char *state_dir, struct err *err);
void callers_free(struct callers *callers);
DEFINE_AUTO(callers, struct callers *, callers_free)

/* A request of that caller's, from there. */
void callers_note(struct callers *callers, const char *name, const char *address);

struct caller_use {
    char name[64];
    char address[64]; /* of the last */
    int64_t first_ms, last_ms;
    int64_t requests;
};

/* Copies up to `max`; returns how many. */
size_t callers_copy(struct callers *callers, struct caller_use *ret_uses, size_t max);

#endif
