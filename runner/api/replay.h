/*
 * Answers of light requests (those that leave no task) by their Idempotency-Key, in memory: the
 * same key with the same request is answered as before, without doing it again.
 *
 * Bounded: REPLAY_ENTRIES of them, REPLAY_BYTES_MAX together, a day each; the oldest go first. They
 * are lost with the process.
 *
 * Threads: any.
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
    REPLAY_NEW,  /* go on; replay_end() is owed */
    REPLAY_DONE, /* *ret_status and out have the answer */
};

/* What is known of caller's key. -1 with ERR_CONFLICT when another request had it, or when the
 * first is not done yet. */
int replay_begin(struct replay *replay, const char *caller, const char *key,
                 const unsigned char hash[REPLAY_HASH_SIZE], enum replay_state *ret_state,
                 int *ret_status, struct buf *out, struct err *err);

/* The answer; status 0: there is none worth keeping, the key is free again. */
void replay_end(struct replay *replay, const char *caller, const char *key, int status,
                const char *body, size_t len);

#endif
