/* What an account may do: what a test has listed for it, and the policies where they are enforced.
 */
#include "google_auth.h"
#include "google_policy.h"
#include "google_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool auth_may(const char *account, const char *permission, const char *resource)
{
    const cJSON *denied = store_getf("deny:%s", account);
    const cJSON *only = store_getf("only:%s", account);
    if (cJSON_GetObjectItemCaseSensitive(denied, permission) ||
        (only && !cJSON_GetObjectItemCaseSensitive(only, permission)))
        return false;
    return !world_setting("iam") || strcmp(account, world.account) == 0 ||
           policy_allows(account, permission, resource);
}

/* The key of what the call is about; of an object its bucket's. */
static char *resource_of(const struct call *call)
{
    char *key = NULL;
    if (strncmp(call->method->id, "storage.", 8) != 0)
        return call_key(call);
    if (asprintf(&key, "gcs:b/%s", call->n_args ? call->args[0] : "") < 0)
        abort();
    return key;
}

bool auth_permit(struct call *call, const char *permission)
{
    char *key = resource_of(call);
    bool may = auth_may(call->account, permission, key);
    if (!may && strncmp(key, "gcs:", 4) == 0)
        call_fail(call, "PERMISSION_DENIED",
                  "%s does not have %s access to the Google Cloud Storage %s. Permission '%s' "
                  "denied on resource (or it may not exist).",
                  call->account, permission, strstr(permission, "objects") ? "object" : "bucket",
                  permission);
    else if (!may)
        call_fail(call, "PERMISSION_DENIED",
                  "Permission '%s' denied on resource '%.400s' (or it may not exist).", permission,
                  strchr(key, ':') + 1);
    free(key);
    return may;
}
