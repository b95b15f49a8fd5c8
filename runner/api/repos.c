/* Cached repositories. */
#include "runner/repo/repos.h"
#include "runner/api/handlers.h"

#include <stdlib.h>

#define LIST_BYTES_MAX (8u << 20)

void repos_list(struct http_request *req, void *arg)
{
    struct api *api = arg;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    repos_print(api->repos, &out);
    send_json(req, 200, &out);
}

/* Removes one repository, or all. */
void repos_remove(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    int gone = repos_delete(api->repos, http_param(req, "id"), &err);
    if (gone < 0) {
        send_err(req, &err);
        return;
    }
    buf_addf(&out, "{\"success\":true,\"cleared\":true,\"removed\":%d}", gone);
    send_json(req, 200, &out);
}
