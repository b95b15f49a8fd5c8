/*
 * Long-running operations of the services that have nothing to show before the end: done after a
 * while (the setting operationDelayMs), with this response.
 *
 * Threads: the caller holds the store's lock.
 */
#ifndef DOUBLES_GOOGLE_LATER_H
#define DOUBLES_GOOGLE_LATER_H

#include "google_call.h"

/* Takes over the response, whose type is `type` ("google.api.…"). `parent` comes before
 * "operations/": "projects/p/locations/l/" or "". Returns the operation as answered. */
cJSON *later_new(const char *parent, const char *type, cJSON *response);
/* The operation that the path names. */
cJSON *later_get(struct call *call);

#endif
