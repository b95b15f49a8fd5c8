/* Whatever passes the check is parsed, printed, and passes again; printing is stable; the raw bytes
 * of a member are valid by themselves. */
#include "json/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_members(const struct json *tree, const char *text, size_t len)
{
    struct err err = ERR_INIT;
    for (const struct json *child = json_first(tree); child; child = json_next(child)) {
        size_t raw_len;
        if (json_type(tree) != JSON_OBJECT)
            return;
        const char *raw = json_raw_member(text, len, json_name(child), &raw_len);
        must(raw && json_check(raw, raw_len, &err) == 0);
        AUTO(json) struct json *alone = json_parse(raw, raw_len, &err);
        must(alone && json_type(alone) == json_type(child));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf once = BUF_INIT(16 << 20);
    AUTO(buf) struct buf twice = BUF_INIT(16 << 20);
    bool passes = json_check(text, size, &err) == 0;
    AUTO(json) struct json *tree = json_parse(text, size, &err);
    must((tree != NULL) == passes);
    if (!tree)
        return 0;
    json_print(tree, &once);
    AUTO(json) struct json *again = json_parse(buf_str(&once), once.len, &err);
    must(buf_ok(&once) && again);
    json_print(again, &twice);
    must(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    check_members(tree, text, size);
    return 0;
}
