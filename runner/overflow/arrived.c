/* What an execution that died over its outputs has left in the bucket. */
#include "base/log.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/result.h"

#include <stdlib.h>
#include <string.h>

struct arrival {
    const struct folder_result *result;
    size_t prefix_len; /* of the outputs' names */
    bool *there;       /* of each output */
};

/* An object is there as a whole or not at all; one of another size is not what was announced. */
static int take_object(const struct storage_object *object, void *arg)
{
    const struct arrival *arrival = arg;
    const struct folder_result *result = arrival->result;
    const char *path = object->name + arrival->prefix_len;
    for (size_t i = 0; i < result->output_count; i++)
        if (strcmp(result->outputs[i].path, path) == 0)
            arrival->there[i] = object->size == result->outputs[i].size;
    return 0;
}

/* Returns how many outputs did not arrive. */
static int keep_arrived(const struct cloud *cloud, const char *id, struct folder_result *result)
{
    struct err err;
    AUTO(buf) struct buf prefix = BUF_INIT(FOLDER_NAME_SIZE);
    folder_output_name(id, "", &prefix);
    struct arrival arrival = {.result = result,
                              .prefix_len = prefix.len,
                              .there = calloc(result->output_count + 1, sizeof(bool))};
    const struct storage_list wish = {.prefix = buf_str(&prefix)};
    int rc = arrival.there
                 ? storage_list(cloud->google, cloud->bucket, &wish, take_object, &arrival, &err)
                 : err_sys(&err, "outputs");
    size_t missing = folder_result_keep_outputs(result, rc ? NULL : arrival.there);
    if (rc)
        log_warn("overflow", "which outputs arrived is unknown: %s", err.msg);
    free(arrival.there);
    return (int)missing;
}

int cloud_find_outcome(struct cloud_task *task, struct folder_result *result)
{
    struct err err;
    if (cloud_find_result(task->cloud, task->id, FOLDER_OUTCOME, task->placement.attempt, NULL,
                          NULL, result, &err) != RESULT_FOUND)
        return -1;
    return keep_arrived(task->cloud, task->id, result);
}
