/*
 * A task on its way into the cloud: the whole request with its secrets, sealed with AES-256-GCM
 * under a key of its own, which Cloud KMS wraps. Task id and format version are bound to both.
 *
 *     "CRP1" | length of wrapped key, 4 bytes big-endian | wrapped key | nonce, cipher text, tag
 *
 * Sealed are task id, kind, request id, attempt (in digits), request and secrets, a NUL after each.
 *
 * Threads: any.
 */
#ifndef OVERFLOW_PAYLOAD_H
#define OVERFLOW_PAYLOAD_H

#include "runner/overflow/folder.h"

#define PAYLOAD_BYTES_MAX (16u << 20) /* sealed */

/* The kind of a payload that is no task: the job reports what it finds (`claude-runner cloud
 * check`). */
#define PAYLOAD_CHECK "check"

struct payload {
    char *task_id;
    char *kind;
    char *request;    /* as in the store */
    char *secrets;    /* JSON, or "" */
    char *request_id; /* or "" */
    int attempt;
};

void payload_done(struct payload *payload); /* Wipes and frees the texts. */
static inline void auto_payload(struct payload *payload)
{
    payload_done(payload);
}

/* Appends the sealed payload. */
int payload_seal(const struct cloud *cloud, const struct payload *payload, struct buf *out,
                 struct err *err);

/* Opens a sealed payload; end it by payload_done(). ERR_MISMATCH when it is not this task's or
 * incomplete; else kms_decrypt()'s error. The caller compares the attempt. */
int payload_open(const struct cloud *cloud, const char *task_id, const void *sealed, size_t len,
                 struct payload *ret_payload, struct err *err);

#endif
