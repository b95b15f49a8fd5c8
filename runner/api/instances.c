/*
 * What is different where this is the service at Google (runner/replica): tasks of other instances,
 * and what needs a machine that lasts.
 */
#include "base/str.h"
#include "base/thread.h"
#include "runner/api/handlers.h"
#include "runner/overflow/cloud_inputs.h"
#include "runner/replica/replica.h"

#include <string.h>

/* The bucket is asked on a thread with a stack of its own: a worker's is small. The worker waits.
 */
struct bucket_call {
    int (*fn)(struct bucket_call *call);
    struct replica *service;
    const struct cloud *cloud;
    const char *id; /* of a task, a group or an input; or a request's inputs */
    const struct task_new *tasks;
    size_t count;
    char *earlier;
    void (*lacks)(const char *input, void *arg);
    void *arg;
    int64_t bytes_max;
    bool *made;
    int64_t *size;
    int rc;
    struct err err;
};

static void *call(void *arg)
{
    struct bucket_call *call = arg;
    call->rc = call->fn(call);
    return NULL;
}

static int run(struct api *api, struct bucket_call *wish, struct err *err)
{
    struct thread thread = {.running = false};
    wish->service = api->service;
    wish->cloud = replica_cloud(api->service);
    wish->err = (struct err)ERR_INIT;
    if (thread_start(&thread, "bucket", THREAD_STACK_DEFAULT, call, wish, err))
        return -1;
    thread_join(&thread);
    if (wish->rc)
        *err = wish->err;
    return wish->rc;
}

/* --- tasks ---------------------------------------------------------------------------------- */

static int adopt(struct bucket_call *call)
{
    return replica_adopt(call->service, call->id, &call->err);
}

int instances_find(struct api *api, const char *id, struct task_record *record, struct err *err)
{
    struct bucket_call wish = {.fn = adopt, .id = id};
    if (store_get(api->store, id, record, err) == 0)
        return 0;
    if (!api->service || err->code != ERR_NOT_FOUND || run(api, &wish, err))
        return -1;
    return store_get(api->store, id, record, err);
}

static int adopt_group(struct bucket_call *call)
{
    return replica_adopt_group(call->service, call->id, &call->err);
}

int instances_find_group(struct api *api, const char *group, struct err *err)
{
    struct bucket_call wish = {.fn = adopt_group, .id = group};
    if (!api->service || !id_is_valid(group) || run(api, &wish, err) == 0 ||
        err->code == ERR_NOT_FOUND)
        return 0;
    return -1;
}

static int adopt_and_cancel(struct bucket_call *call)
{
    return replica_adopt(call->service, call->id, &call->err) ||
                   replica_cancel(call->service, call->id, &call->err)
               ? -1
               : 0;
}

int instances_cancel(struct api *api, const char *id, struct err *err)
{
    struct bucket_call wish = {.fn = adopt_and_cancel, .id = id};
    return api->service ? run(api, &wish, err) : 0;
}

static int promise(struct bucket_call *call)
{
    return replica_promise(call->service, call->tasks, call->count, call->earlier, &call->err);
}

struct group_records {
    struct task_record *records;
    size_t count;
    struct err *err;
};

static int take_record(const struct task_record *record, void *arg)
{
    struct group_records *all = arg;
    if (record->run < 0 || (size_t)record->run >= all->count)
        return 0;
    return task_record_copy(record, &all->records[record->run], all->err);
}

static int read_records(struct api *api, const char *group, const char *id, size_t count,
                        struct task_record *ret_records, struct err *err)
{
    struct group_records all = {ret_records, count, err};
    const struct store_filter filter = {
        .group = group, .oldest_first = true, .limit = ENGINE_GROUP_MAX};
    return group ? store_list(api->store, &filter, take_record, &all, err)
                 : store_get(api->store, id, ret_records, err);
}

int instances_promise(struct api *api, const struct task_new *tasks, size_t count,
                      struct task_record *ret_earlier, struct err *err)
{
    char earlier[ID_SIZE] = "";
    struct bucket_call wish = {.fn = promise, .tasks = tasks, .count = count, .earlier = earlier};
    if (run(api, &wish, err))
        return -1;
    if (!*earlier)
        return 0;
    return read_records(api, tasks->group ? earlier : NULL, earlier, count, ret_earlier, err) ? -1
                                                                                              : 1;
}

int instances_taken(struct api *api, const struct task_new *tasks, size_t count,
                    struct task_record *ret_records, struct err *err)
{
    struct bucket_call wish = {.fn = tasks->group ? adopt_group : adopt,
                               .id = tasks->group ? tasks->group : tasks->id};
    return run(api, &wish, err) ||
                   read_records(api, tasks->group, tasks->id, count, ret_records, err)
               ? -1
               : 0;
}

/* --- inputs --------------------------------------------------------------------------------- */

static int hold_inputs(struct bucket_call *call)
{
    return cloud_inputs_hold(call->cloud, call->id, call->lacks, call->arg, &call->err);
}

int instances_hold_inputs(struct api *api, const char *request,
                          void (*lacks)(const char *input, void *arg), void *arg, struct err *err)
{
    struct bucket_call wish = {.fn = hold_inputs, .id = request, .lacks = lacks, .arg = arg};
    return request ? run(api, &wish, err) : 0;
}

static int find_input(struct bucket_call *call)
{
    return cloud_input_find(call->cloud, call->id, call->size, &call->err);
}

int instances_find_input(struct api *api, const char *hash, int64_t *ret_size, struct err *err)
{
    struct bucket_call wish = {.fn = find_input, .id = hash, .size = ret_size};
    return run(api, &wish, err);
}

static ssize_t next_piece(char *to, size_t max, void *arg, struct err *err)
{
    return http_read(arg, to, max, err);
}

static int receive_input(struct bucket_call *call)
{
    return cloud_input_receive(call->cloud, call->id, call->bytes_max, next_piece, call->arg,
                               call->made, call->size, &call->err);
}

int instances_receive_input(struct api *api, struct http_request *req, const char *hash,
                            bool *ret_made, int64_t *ret_size, struct err *err)
{
    struct bucket_call wish = {.fn = receive_input,
                               .id = hash,
                               .arg = req,
                               .bytes_max = (int64_t)CONFIG_GET(api->config, inputs_max_mb) << 20,
                               .made = ret_made,
                               .size = ret_size};
    return run(api, &wish, err);
}

/* --- what is refused ------------------------------------------------------------------------ */

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
        {"inSession", request->in_session != NULL, "the service has no sessions"},
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
