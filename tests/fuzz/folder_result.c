/* Whatever result.json holds: it is refused, or it has nothing that could not stand in an answer,
 * and says the same when it is printed and read again. */
#include "base/path.h"
#include "runner/overflow/result.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void is_fit_for_an_answer(const struct folder_result *result)
{
    struct err err;
    const struct buf *members = &result->outcome.members;
    AUTO(buf) struct buf object = BUF_INIT(1u << 20);
    must(!task_state_is_active(result->outcome.state));
    must(members->len == 0 || members->data[0] == ',');
    must(!strpbrk(buf_str(members), "\r\n"));
    buf_addf(&object, "{\"taskId\":\"x\",\"reason\":\"\"%s}", buf_str(members));
    must(buf_ok(&object) && json_check(object.data, object.len, &err) == 0);
    for (size_t i = 0; i < result->output_count; i++)
        must(path_is_inside(result->outputs[i].path) && result->outputs[i].size >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    AUTO(folder_result) struct folder_result result = {0}, again = {0};
    AUTO(buf) struct buf once = BUF_INIT(1u << 20), twice = BUF_INIT(1u << 20);
    if (size > 65536)
        return 0;
    if (folder_result_parse((const char *)data, size, &result, &err)) {
        must(err.code == ERR_UPSTREAM);
        return 0;
    }
    is_fit_for_an_answer(&result);
    folder_result_print(&result, &once);
    must(buf_ok(&once) && folder_result_parse(once.data, once.len, &again, &err) == 0);
    folder_result_print(&again, &twice);
    must(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    return 0;
}
