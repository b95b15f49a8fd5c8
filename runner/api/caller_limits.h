/*
 * What the holders of one secret may do (CALLER_LIMITS), where requests are judged. Private to
 * runner/api.
 *
 * Threads: any.
 */
#ifndef API_CALLER_LIMITS_H
#define API_CALLER_LIMITS_H

#include "runner/api/handlers.h"
#include "runner/config/caller_limits.h"
#include "runner/request/request.h"
#include "runner/store/store.h"

/* False after a 403: the caller may begin nothing of that kind. */
bool caller_may(struct http_request *req, struct api *api, const char *kind);

/* Judges a task's request, and takes its network away where the caller has none. ERR_FORBIDDEN with
 * the reason. */
int caller_limits_apply(const struct caller_limits *limits, const char *name, const char *kind,
                        struct task_request *request, struct err *err);

/* What the store has to check while it adds tasks. */
void caller_limits_room(const struct caller_limits *limits, int64_t now_ms,
                        struct store_room *room);

/* A member `limits`: an object, empty for a caller without. */
void caller_limits_print(struct json_writer *w, const struct config *config, const char *name);

#endif
