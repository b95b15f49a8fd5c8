/*
 * IAM policies of resources: the document "policy:KEY" of the resource KEY, with an etag that a
 * change must name if it names one.
 *
 * Threads: the caller holds the store's lock.
 */
#ifndef DOUBLES_GOOGLE_POLICY_H
#define DOUBLES_GOOGLE_POLICY_H

#include "google_call.h"

/* A copy; an empty one when none was ever set. */
cJSON *policy_get(const char *key);
/* What the body says, checked, becomes the policy; returned as answered, NULL after a refusal. */
cJSON *policy_set(struct call *call, const char *key, const cJSON *policy);

/* getIamPolicy and setIamPolicy of the resource that the path names. */
cJSON *policy_answer_get(struct call *call);
cJSON *policy_answer_set(struct call *call);

/* Whether a policy of the resource, or of one above it, gives the account that permission. */
bool policy_allows(const char *account, const char *permission, const char *key);

#endif
