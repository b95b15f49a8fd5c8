#include "google_world.h"

#include <stdlib.h>
#include <string.h>

struct world_options world;

static const struct {
    const char *name;
    int64_t value;
} settings[] = {
    {"pageSize", 2},                 /* the most that a page of a list holds */
    {"pageEpoch", 0},                /* tokens of another epoch have expired */
    {"tokenLifetime", 3600},         /* seconds */
    {"tokenEpoch", 0},               /* likewise */
    {"startDelayMs", 0},             /* of an execution: a cold start */
    {"stopGraceMs", 10000},          /* between SIGTERM and SIGKILL */
    {"maxExecutions", 1000},         /* that run at once */
    {"operationDelayMs", 20},        /* before what is made or changed is there */
    {"uploadLifetimeMs", 604800000}, /* of a resumable upload */
    {"buildMs", 50},                 /* that a build takes */
    {"grantDelayMs", 0},             /* before builds and jobs know a new account's grants */
    {"noProject", 0},                /* 1: the project is not there before it is made */
    {"moreProjects", 0},             /* that can be seen */
    {"keyAgeDays", 0},               /* how much older keys are than they are */
    {"failBuild", 0},                /* 1: each build fails */
    {"noBilling", 0},                /* 1: the project has no billing account */
    {"foreignImage", 0},             /* 1: images are for another processor */
    {"noKeys", 0},                   /* 1: a policy of the organisation allows no keys */
    {"accountDelayMs", 0},           /* before policies know a new account */
    {"enforceServices", 0},          /* 1: only services that are switched on answer */
    {"iam", 0},                      /* 1: policies are enforced; listed permissions always are */
};

static cJSON *document(void)
{
    cJSON *json = store_get("settings");
    if (json)
        return json;
    json = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        cJSON_AddNumberToObject(json, settings[i].name, (double)settings[i].value);
    store_put("settings", json);
    return json;
}

int64_t world_setting(const char *name)
{
    return json_int(document(), name, 0);
}

bool world_set(const char *name, int64_t value)
{
    cJSON *json = document();
    if (!cJSON_GetObjectItemCaseSensitive(json, name))
        return false;
    json_set_number(json, name, (double)value);
    store_put("settings", json);
    return true;
}

cJSON *world_settings(void)
{
    return cJSON_Duplicate(document(), 1);
}
