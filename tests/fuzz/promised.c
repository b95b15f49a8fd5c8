/* A task's record out of the bucket, which whoever may write there may have written. */
#include "runner/replica/promised.h"

#include "base/id.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is read prints to what reads the same again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct task_new task, again;
    int64_t created_ms = 0, created_again_ms = 0;
    bool secrets, secrets_again;
    AUTO(json)
    struct json *json =
        promised_parse((const char *)data, size, &task, &created_ms, &secrets, &err);
    if (!json)
        return 0;
    AUTO(buf) struct buf text = BUF_INIT(PROMISED_BYTES_MAX);
    task.secrets = secrets ? "" : NULL;
    promised_print(&task, "", created_ms, &text);
    if (!buf_ok(&text))
        return 0;
    AUTO(json)
    struct json *other =
        promised_parse(buf_str(&text), text.len, &again, &created_again_ms, &secrets_again, &err);
    if (!other || !id_is_valid(again.id) || created_again_ms != created_ms ||
        secrets_again != secrets || strcmp(again.request, task.request) != 0 ||
        (again.group != NULL) != (task.group != NULL) || again.run != (task.group ? task.run : 0) ||
        (again.group && strcmp(again.group, task.group) != 0) || again.priority < 0 ||
        again.priority > 9)
        abort();
    return 0;
}
