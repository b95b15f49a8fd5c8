/*
 * A task as it lies in the bucket. Private to runner/replica.
 *
 * Threads: no shared state. Ownership: the caller frees the tree that is returned.
 */
#ifndef REPLICA_PROMISED_H
#define REPLICA_PROMISED_H

#include "base/buf.h"
#include "base/err.h"
#include "runner/store/store.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>

#define PROMISED_BYTES_MAX (16u << 20)

/* Appends it. `key` names the Idempotency-Key that it was made for; or "". */
void promised_print(const struct task_new *task, const char *key, int64_t created_ms,
                    struct buf *out);

/* What was printed. The texts of *ret_task belong to the tree that is returned (json_free()); NULL
 * with ERR_MISMATCH when it is no such record. */
struct json *promised_parse(const char *text, size_t len, struct task_new *ret_task,
                            int64_t *ret_created_ms, bool *ret_secrets, struct err *err);

/* True when a record was made for that key. */
bool promised_has_key(const char *text, size_t len, const char *key);

#endif
