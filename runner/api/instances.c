/*
 * What is different where this is the service at Google (runner/replica): tasks of other instances,
 * and what needs a machine that lasts.
 */
#include "base/str.h"
#include "base/thread.h"
#include "runner/api/handlers.h"
#include "runner/replica/replica.h"

#include <string.h>

/* The bucket is asked on a thread with a stack of its own: a worker's is small. The worker waits.
 */
struct bucket_call {
    struct replica *service;
    const char *id;
    const struct task_new *task;
    char *earlier;
    bool cancel;
    int rc;
    struct err err;
};

static void *call(void *arg)
{
    struct bucket_call *call = arg;
    if (call->task)
        call->rc = replica_promise(call->service, call->task, call->earlier, &call->err);
    else
        call->rc = replica_adopt(call->service, call->id, &call->err);
    if (call->rc == 0 && call->cancel)
        call->rc = replica_cancel(call->service, call->id, &call->err);
    return NULL;
}

static int run(struct bucket_call *wish, struct err *err)
{
    struct thread thread = {.running = false};
    if (thread_start(&thread, "bucket", THREAD_STACK_DEFAULT, call, wish, err))
        return -1;
    thread_join(&thread);
    if (wish->rc)
        *err = wish->err;
    return wish->rc;
}

int instances_find(struct api *api, const char *id, struct task_record *record, struct err *err)
{
    struct bucket_call wish = {.service = api->service, .id = id, .err = ERR_INIT};
    if (store_get(api->store, id, record, err) == 0)
        return 0;
    if (!api->service || err->code != ERR_NOT_FOUND || run(&wish, err))
        return -1;
    return store_get(api->store, id, record, err);
}

int instances_cancel(struct api *api, const char *id, struct err *err)
{
    struct bucket_call wish = {.service = api->service, .id = id, .cancel = true, .err = ERR_INIT};
    return api->service ? run(&wish, err) : 0;
}

int instances_promise(struct api *api, const struct task_new *task, struct task_record *ret_earlier,
                      struct err *err)
{
    char earlier[ID_SIZE] = "";
    struct bucket_call wish = {
        .service = api->service, .task = task, .earlier = earlier, .err = ERR_INIT};
    if (run(&wish, err))
        return -1;
    return !*earlier ? 0 : store_get(api->store, earlier, ret_earlier, err) ? -1 : 1;
}

bool instances_field(const struct task_request *request, size_t i, const char **ret_field,
                     const char **ret_why)
{
    const struct {
        const char *field;
        bool given;
        const char *why;
    } fields[] = {
        {"executor", request->executor == EXECUTOR_LOCAL,
         "must be cloud or auto: this is the service at Google, where every task is an execution"},
        {"n", request->n > 1, "must be 1 at the service: submit the task as often"},
        {"inSession", request->in_session != NULL, "the service has no sessions"},
        {"inputs", request->inputs != NULL, "the service keeps no inputs: use a runner at home"},
        {"resumeSessionId", request->resume_session_id != NULL,
         "the service keeps no conversations: use a runner at home"},
    };
    if (i >= COUNT_OF(fields))
        return false;
    *ret_field = fields[i].given ? fields[i].field : NULL;
    *ret_why = fields[i].why;
    return true;
}

bool instances_refuse_route(const struct api *api, const struct http_route *route, struct err *err)
{
    static const struct {
        const char *path, *why;
    } places[] = {
        {"/sessions", "sessions have processes, and no instance of the service lasts"},
        {"/python", "Python runs at home only"},
        {"/inputs", "inputs are kept at home only"},
        {"/oauth/", "the service has no login: tasks use the API key"},
        {"/login", "the service has no login: tasks use the API key"},
        {"/repos", "repositories are kept warm at home only"},
    };
    for (size_t i = 0; api->service && route && i < COUNT_OF(places); i++)
        if (str_starts(route->path, places[i].path)) {
            err_set(err, ERR_NOT_IMPLEMENTED, "not at the service at Google: %s", places[i].why);
            return true;
        }
    return false;
}
