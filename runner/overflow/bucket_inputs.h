/*
 * Inputs of cloud tasks: cached in the bucket by their hash, as inputs/HASH, beside all sessions.
 * The home puts one there when the bucket has none of that name; the job fetches it into its own
 * store, which checks the hash. The bucket's lifecycle removes what is old; then it is put again.
 *
 * Threads: any.
 */
#ifndef OVERFLOW_BUCKET_INPUTS_H
#define OVERFLOW_BUCKET_INPUTS_H

#include "google/storage.h"
#include "runner/inputs/inputs.h"
#include "runner/overflow/folder.h"

/* `request` is the field `inputs` of a request, or NULL: then there is nothing to do. */
int bucket_inputs_put(const struct cloud *cloud, struct inputs *inputs, const char *request,
                      const struct storage_stop *stop, struct err *err);
/* Fetches them into `inputs`; `dir` is for files that are gone at the end. */
int bucket_inputs_get(const struct cloud *cloud, struct inputs *inputs, const char *request,
                      const char *dir, const struct storage_stop *stop, struct err *err);

#endif
