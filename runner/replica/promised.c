#include "runner/replica/promised.h"

#include "base/id.h"
#include "runner/task/engine.h"
#include "json/json.h"

#include <string.h>

void promised_print(const struct task_new *task, const char *key, int64_t created_ms,
                    struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "id", task->id);
    json_add_text(&w, "kind", task->kind);
    json_add_int(&w, "createdMs", created_ms);
    json_add_int(&w, "notBeforeMs", task->not_before_ms);
    json_add_int(&w, "priority", task->priority);
    json_add_bool(&w, "retryInterrupted", task->retry_interrupted);
    json_add_bool(&w, "secrets", task->secrets != NULL);
    json_add_text(&w, "conversation", task->conversation);
    json_add_text(&w, "caller", task->caller);
    json_add_text(&w, "requestId", task->request_id);
    json_add_text(&w, "key", *key ? key : NULL);
    json_add_text(&w, "group", task->group);
    if (task->group)
        json_add_int(&w, "run", task->run);
    json_add_text(&w, "request", task->request);
    json_close(&w);
}

struct json *promised_parse(const char *text, size_t len, struct task_new *ret_task,
                            int64_t *ret_created_ms, bool *ret_secrets, struct err *err)
{
    int64_t priority = 0, not_before = 0, run = 0;
    struct json *json = json_parse(text, len, err);
    const char *id = json_text(json_get(json, "id")), *kind = json_text(json_get(json, "kind"));
    const char *request = json_text(json_get(json, "request"));
    if (!id || !id_is_valid(id) || !kind || !request ||
        json_int(json_get(json, "createdMs"), ret_created_ms)) {
        json_free(json);
        err_set(err, ERR_MISMATCH, "that is no task's record");
        return NULL;
    }
    *ret_task = (struct task_new){.id = id, .kind = kind, .request = request};
    *ret_secrets = false;
    json_int(json_get(json, "priority"), &priority);
    json_int(json_get(json, "notBeforeMs"), &not_before);
    json_bool(json_get(json, "retryInterrupted"), &ret_task->retry_interrupted);
    json_bool(json_get(json, "secrets"), ret_secrets);
    ret_task->priority = priority >= 0 && priority <= 9 ? (int)priority : 0;
    ret_task->not_before_ms = not_before;
    ret_task->executor = EXECUTOR_CLOUD;
    ret_task->conversation = json_text(json_get(json, "conversation"));
    ret_task->caller = json_text(json_get(json, "caller"));
    ret_task->request_id = json_text(json_get(json, "requestId"));
    if (ret_task->conversation && !id_is_valid(ret_task->conversation))
        ret_task->conversation = NULL; /* it is the name of a directory */
    ret_task->group = json_text(json_get(json, "group"));
    json_int(json_get(json, "run"), &run);
    ret_task->run = (int)run;
    if (ret_task->group && (!id_is_valid(ret_task->group) || run < 0 || run >= ENGINE_GROUP_MAX)) {
        json_free(json);
        err_set(err, ERR_MISMATCH, "that is no run of a group");
        return NULL;
    }
    if (!ret_task->caller)
        ret_task->caller = "";
    if (!ret_task->request_id)
        ret_task->request_id = "";
    return json;
}

bool promised_has_key(const char *text, size_t len, const char *key)
{
    struct err err;
    AUTO(json) struct json *json = json_parse(text, len, &err);
    const char *made_for = json_text(json_get(json, "key"));
    return made_for && strcmp(made_for, key) == 0;
}
