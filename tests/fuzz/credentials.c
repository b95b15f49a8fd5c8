/* Whatever a credentials file holds: what is taken for a token can travel in a header, and a file
 * that is a login stays one when it is rewritten. */
#include "runner/oauth/credentials.h"
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

static void must_be_rewritable(const char *text, size_t len)
{
    struct err err;
    const struct login_tokens tokens = {
        .access_token = "new-access", .refresh_token = "new-refresh", .expires_ms = 1795245960145};
    AUTO(login) struct login again = {0};
    AUTO(buf) struct buf out = BUF_INIT(8u << 20);
    must(login_rewrite(text, len, &tokens, &out, &err) == 0);
    must(json_check(out.data, out.len, &err) == 0);
    login_parse(out.data, out.len, &again);
    must(again.access_token && strcmp(again.access_token, "new-access") == 0);
    must(again.refresh_token && strcmp(again.refresh_token, "new-refresh") == 0);
    must(again.expires_ms == tokens.expires_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(login) struct login login = {0};
    login_parse((const char *)data, size, &login);
    for (const char *p = login.access_token; p && *p; p++)
        must(*p > 0x20 && *p < 0x7f);
    if (login.access_token)
        must_be_rewritable((const char *)data, size);
    return 0;
}
