/* A conversation's record, and a sealed text, out of the bucket: whoever may write there may have
 * written them. */
#include "runner/replica/carried.h"
#include "runner/replica/owed_seal.h"

#include "base/id.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Names in a record are ids. Nothing opens that was not sealed with the secret, or for something
 * else; what was sealed does. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct carried carried;
    AUTO(buf) struct buf text = BUF_INIT(TEXT_MAX), open = BUF_INIT(TEXT_MAX);
    if (carried_parse((const char *)data, size, &carried, &err) == 0 &&
        (!id_is_valid(carried.task) || (carried.next[0] && !id_is_valid(carried.next))))
        abort();
    if (size >= TEXT_MAX || buf_add(&text, data, size))
        return 0;
    if (owed_unseal("a secret of the fuzzer", "owing/x", buf_str(&text), &open, &err) == 0)
        abort();
    buf_clear(&open);
    AUTO(buf) struct buf sealed = BUF_INIT(2 * TEXT_MAX), again = BUF_INIT(2 * TEXT_MAX);
    if (owed_seal("one", "owing/x", data, size, &sealed, &err) ||
        owed_unseal("one", "owing/y", buf_str(&sealed), &again, &err) == 0 ||
        owed_unseal("two", "owing/x", buf_str(&sealed), &again, &err) == 0 ||
        owed_unseal("one", "owing/x", buf_str(&sealed), &again, &err) || again.len != size ||
        (size > 0 && memcmp(again.data, data, size) != 0))
        abort();
    return 0;
}
