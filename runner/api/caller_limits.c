/* What the holders of one secret may do (CALLER_LIMITS). */
#include "runner/api/caller_limits.h"

#include "base/str.h"

#include <string.h>

#define MINUTE_MS 60000
#define DAY_MS 86400000

bool caller_may(struct http_request *req, struct api *api, const char *kind)
{
    struct err err;
    struct caller_limits limits;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    AUTO(str) char *name = caller_name(api, req);
    if (!name || !caller_limits_find(config, name, &limits) || caller_limits_allow(&limits, kind))
        return true;
    err_set(&err, ERR_FORBIDDEN, "'%.60s' may not begin what is of kind %s (CALLER_LIMITS: %.100s)",
            name, kind, limits.kinds);
    send_err(req, &err);
    return false;
}

int caller_limits_apply(const struct caller_limits *limits, const char *name, const char *kind,
                        struct task_request *request, struct err *err)
{
    const struct strlist *egress = &request->egress;
    if (!caller_limits_allow(limits, kind))
        return err_set(err, ERR_FORBIDDEN, "'%.60s' may run %.100s only, not %s (CALLER_LIMITS)",
                       name, limits->kinds, kind);
    if (limits->no_push && (request->git_push || request->post_git_push))
        return err_set(err, ERR_FORBIDDEN, "'%.60s' may not push (CALLER_LIMITS)", name);
    if (!limits->egress_none)
        return 0;
    if (egress->count == 0)
        return strlist_add(&request->egress, "none") ? err_sys(err, "egress") : 0;
    return strcmp(egress->items[0], "none") == 0
               ? 0
               : err_set(err, ERR_FORBIDDEN,
                         "'%.60s' has no network: egress must be none "
                         "(CALLER_LIMITS)",
                         name);
}

void caller_limits_room(const struct caller_limits *limits, int64_t now_ms, struct store_room *room)
{
    *room = (struct store_room){.active_max = limits->tasks,
                                .minute_max = limits->per_minute,
                                .day_usd = limits->usd_per_day,
                                .minute_from_ms = now_ms - MINUTE_MS,
                                .day_from_ms = now_ms - DAY_MS};
}

void caller_limits_print(struct json_writer *w, const struct config *config, const char *name)
{
    struct caller_limits limits;
    json_open_object(w, "limits");
    if (caller_limits_find(config, name, &limits)) {
        if (limits.tasks > 0)
            json_add_int(w, "tasks", limits.tasks);
        if (limits.per_minute > 0)
            json_add_int(w, "perMinute", limits.per_minute);
        if (limits.usd_per_day > 0)
            json_add_number(w, "usdPerDay", limits.usd_per_day);
        if (limits.kinds)
            json_add_text(w, "kinds", limits.kinds);
        if (limits.egress_none)
            json_add_text(w, "egress", "none");
        if (limits.no_push)
            json_add_bool(w, "push", false);
    }
    json_close(w);
}
