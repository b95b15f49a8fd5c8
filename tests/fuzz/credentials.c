/* Whatever a credentials file holds: a usable login has a token that can travel in a header, any
 * other has a reason. */
#include "runner/oauth/login.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct login_status status;
    const int64_t now = INT64_C(1795000000000);
    AUTO(buf) struct buf token = BUF_INIT(1u << 20);
    AUTO(buf) struct buf printed = BUF_INIT(4096);
    login_parse((const char *)data, size, now, &status, &token);
    must(status.configured == (token.len > 0));
    must(status.configured == (status.state == LOGIN_OK || status.state == LOGIN_EXPIRED));
    for (size_t i = 0; i < token.len; i++)
        must(token.data[i] > 0x20 && token.data[i] < 0x7f);
    buf_adds(&printed, "{");
    login_print(&status, now, &printed);
    buf_adds(&printed, "}");
    must(buf_ok(&printed) && json_check(printed.data, printed.len, &err) == 0);
    return 0;
}
