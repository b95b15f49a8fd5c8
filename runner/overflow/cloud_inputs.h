/*
 * Inputs of cloud tasks: cached in the bucket by their hash, as inputs/HASH, beside all sessions.
 * Home uploads an input when the bucket has none of that name; the job fetches it into its own
 * store, which checks the hash. The bucket's lifecycle removes old inputs; then they are uploaded
 * again.
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
/* Fetches them into `inputs`; `dir` receives temporary files, which are removed at the end. */
int cloud_inputs_get(const struct cloud *cloud, struct inputs *inputs, const char *request,
                     const char *dir, const struct storage_stop *stop, struct err *err);

#endif
