/*
 * What is different about sessions in the cloud. Private to runner/api.
 *
 * Threads: any.
 */
#ifndef API_SESSION_CLOUD_H
#define API_SESSION_CLOUD_H

#include "runner/api/handlers.h"
#include "runner/cloudbox/cloudbox.h"
#include "runner/session/session.h"

/* Whether a new session may be in the cloud: false after the answer has said, by the field, why
 * not. */
bool away_may(struct http_request *req, struct api *api, const struct session_wish *wish,
              bool layered);

/* The same for a command there. */
bool away_takes(struct http_request *req, const struct exec_wish *wish);

/* Refuses what needs a process that lives between commands (`what`): true after the answer, when
 * the session is in the cloud. */
bool away_refuses(struct http_request *req, struct api *api, const char *what);

/* Work with the files of a session that may be in the cloud: false after the answer has been sent.
 * away_leave() is owed; false, too, when it has answered: the change is not kept. */
struct cloud_files {
    struct cloudbox_guest *guest;
};
bool away_enter(struct http_request *req, struct api *api, bool changes,
                struct cloud_files *ret_files);
bool away_leave(struct http_request *req, struct cloud_files *files, bool keep);

#endif
