/*
 * Answers of requests that leave no task, by their Idempotency-Key, in memory: the same key with
 * the same request gets the same answer, without doing it again. Bounded: REPLAY_ENTRIES of them,
 * REPLAY_BYTES_MAX together, for a day each; the oldest are dropped first. They are lost with the
 * process.
 *
 * Threads: any. Ownership: the caller of replay_new() frees it by replay_free().
 */
#ifndef API_REPLAY_H
#define API_REPLAY_H

#include "base/buf.h"
#include "base/err.h"

#define REPLAY_ENTRIES 512
#define REPLAY_BYTES_MAX (32u << 20)
#define REPLAY_HASH_SIZE 32

struct replay;

struct replay *replay_new(void);
void replay_free(struct replay *replay);

enum replay_state {
    REPLAY_NEW,  /* go on; the caller must call replay_end() */
    REPLAY_DONE, /* *ret_status and out have the answer */
};

/* Looks up the caller's key. -1 with ERR_CONFLICT when another request had it, or when the first
 * one has no answer yet. */
int replay_begin(struct replay *replay, const char *caller, const char *key,
                 const unsigned char hash[REPLAY_HASH_SIZE], enum replay_state *ret_state,
                 int *ret_status, struct buf *out, struct err *err);

/* Stores the answer. With status 0 there is no answer to keep, and the key is free again. */
void replay_end(struct replay *replay, const char *caller, const char *key, int status,
                const char *body, size_t len);

#endif
