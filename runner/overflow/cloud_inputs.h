/*
 * Inputs of cloud tasks: cached in the bucket by their hash, as inputs/HASH, beside all sessions.
 * Home uploads an input when the bucket has none of that name; the job fetches it into its own
 * store, which checks the hash. The bucket's lifecycle removes old inputs; then they are uploaded
 * again. At the service (runner/replica) the bucket is the only store: a caller's upload goes
 * straight there, and what a task names is made new when it is about to get old.
 *
 * Threads: any. Ownership: everything is borrowed.
 */
#ifndef OVERFLOW_BUCKET_INPUTS_H
#define OVERFLOW_BUCKET_INPUTS_H

#include "google/storage.h"
#include "runner/inputs/inputs.h"
#include "runner/overflow/folder.h"

/* Uploads the inputs of a request; `request` is its field `inputs`, or NULL: then nothing is
 * done. */
int cloud_inputs_put(const struct cloud *cloud, struct inputs *inputs, const char *request,
                     const struct storage_stop *stop, struct err *err);
/* At the service: calls lacks() for each input of a request that the bucket does not have, and
 * makes the others last for as long as a new one. */
int cloud_inputs_hold(const struct cloud *cloud, const char *request,
                      void (*lacks)(const char *input, void *arg), void *arg, struct err *err);

/* At the service: the size of an input. ERR_NOT_FOUND. */
int cloud_input_find(const struct cloud *cloud, const char *hash, int64_t *ret_size,
                     struct err *err);

/* At the service: an upload, as input_put(). Nothing of it is kept before its hash is known. */
int cloud_input_receive(const struct cloud *cloud, const char *hash, int64_t bytes_max,
                        ssize_t (*next)(char *to, size_t max, void *arg, struct err *err),
                        void *arg, bool *ret_made, int64_t *ret_size, struct err *err);

/* Fetches them into `inputs`; `dir` receives temporary files, which are removed at the end. */
int cloud_inputs_get(const struct cloud *cloud, struct inputs *inputs, const char *request,
                     const char *dir, const struct storage_stop *stop, struct err *err);

#endif
