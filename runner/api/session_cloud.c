#include "runner/api/session_cloud.h"

#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/cloudbox/visit.h"
#include "runner/overflow/overflow.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static bool wrong(struct http_request *req, const char *field, const char *message)
{
    send_field_error(req, field, message);
    return false;
}

bool away_may(struct http_request *req, struct api *api, const struct session_wish *wish,
              bool layered)
{
    char message[160];
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    if (!api->cloudbox)
        return wrong(req, "executor",
                     "Google Cloud is not configured (CLOUDRUN_JOB_NAME, GCS_LOGS_BUCKET, "
                     "KMS_KEY_NAME): sessions run on this machine");
    const struct task_request asked = {.egress = *wish->egress,
                                       .limits_cpu = wish->cpu,
                                       .limits_memory_mb = wish->memory_mb,
                                       .executor = EXECUTOR_CLOUD};
    const char *stays = overflow_stays(config, engine_kind(api->engine, VISIT_KIND), &asked);
    if (stays)
        return wrong(req, strstr(stays, "egress") ? "egress" : "executor", stays);
    if (layered)
        return wrong(req, "layered", "needs this machine's overlays: not with executor cloud");
    int ttl = wish->ttl_minutes > 0 ? wish->ttl_minutes : config->session_ttl_minutes;
    if (ttl <= CLOUDBOX_TTL_MINUTES_MAX)
        return true;
    snprintf(message, sizeof(message),
             "must be 1..%d for a session in the cloud, got %d: the bucket keeps its files for 30 "
             "days",
             CLOUDBOX_TTL_MINUTES_MAX, ttl);
    return wrong(req, "ttlMinutes", message);
}

/* As runner/session has it: a lone '&' at the end. */
static bool ends_in_background(const char *text)
{
    size_t len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    return len >= 2 && text[len - 1] == '&' && !strchr("&<>|\\", text[len - 2]);
}

bool away_takes(struct http_request *req, const struct exec_wish *wish)
{
    static const char nothing_stays[] =
        "a command in the cloud is one Cloud Run execution: nothing goes on in the background once "
        "it has ended; wait for it, or make the session with executor local";
    if (wish->background)
        return wrong(req, "background", nothing_stays);
    if (ends_in_background(wish->text))
        return wrong(req, "command", nothing_stays);
    if (wish->input)
        return wrong(req, "stdin",
                     "commands in the cloud get no standard input: write a file of the session and "
                     "read it with '<'");
    return true;
}

bool away_refuses(struct http_request *req, struct api *api, const char *what)
{
    struct err err;
    if (!cloudbox_has(api->cloudbox, http_param(req, "id")))
        return false;
    err_set(&err, ERR_CONFLICT,
            "session '%.64s' runs in the cloud, each command as one Cloud Run execution: %s needs "
            "a process that lives between them; make the session with executor local",
            http_param(req, "id"), what);
    send_err(req, &err);
    return true;
}

bool away_enter(struct http_request *req, struct api *api, bool changes,
                struct cloud_files *ret_files)
{
    struct err err;
    ret_files->guest = NULL;
    if (cloudbox_enter(api->cloudbox, http_param(req, "id"), changes, &ret_files->guest, &err) == 0)
        return true;
    if (err.code == ERR_BUSY)
        http_add_header(req, "Retry-After", "5");
    send_err(req, &err);
    return false;
}

bool away_leave(struct http_request *req, struct cloud_files *files, bool keep)
{
    struct err err;
    if (cloudbox_leave(files->guest, keep, &err) == 0)
        return true;
    send_err(req, &err);
    return false;
}
