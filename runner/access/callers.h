/*
 * Callers: when each secret was last used, and how often. The numbers are kept in memory and in
 * callers.json of the state directory, which is written at most once a minute and at the end: a
 * crash loses up to a minute. Their number is bounded; a new caller replaces the one that was
 * unused for longest.
 *
 * Threads: any. Ownership: the caller of callers_new() frees it by callers_free().
 */
#ifndef ACCESS_CALLERS_H
#define ACCESS_CALLERS_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define CALLERS_MAX 128

struct callers;

/* Reads the file; one that cannot be read is replaced, and the log says so. NULL with *err. */
struct callers *callers_new(const char *state_dir, struct err *err);
void callers_free(struct callers *callers);
DEFINE_AUTO(callers, struct callers *, callers_free)

/* Notes a request of that caller from that address. */
void callers_note(struct callers *callers, const char *name, const char *address);

struct caller_use {
    char name[64];
    char address[64]; /* address of the last request */
    int64_t first_ms, last_ms;
    int64_t requests;
};

/* Copies up to `max` callers; returns their number. */
size_t callers_copy(struct callers *callers, struct caller_use *ret_uses, size_t max);

#endif
