/* A stream cut anywhere gives what the whole text gives, and no registered secret is left in it.
 * Input: length of the secret, where the cuts are, the secret, then the text. */
#include "base/redact.h"
#include "base/auto.h"
#include "base/str.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void feed_in_pieces(struct redact_set *set, const char *text, size_t len, size_t step,
                           struct buf *out)
{
    struct redact_stream stream;
    redact_stream_init(&stream, set);
    for (size_t at = 0; at < len; at += step)
        redact_feed(&stream, text + at, len - at < step ? len - at : step, out);
    redact_finish(&stream, out);
    redact_stream_done(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size < 2 + (size_t)data[0] % 40)
        return 0;
    size_t secret_len = data[0] % 40, step = 1 + data[1] % 16;
    AUTO(str) char *secret = str_copy((const char *)data + 2, secret_len);
    const char *text = (const char *)data + 2 + secret_len;
    size_t len = size - 2 - secret_len;
    struct redact_set *set = redact_new();
    AUTO(buf) struct buf whole = BUF_INIT(16 << 20);
    AUTO(buf) struct buf pieces = BUF_INIT(16 << 20);
    must(set && secret && redact_add(set, secret) == 0);
    redact_text(set, text, len, &whole);
    feed_in_pieces(set, text, len, step, &pieces);
    must(whole.len == pieces.len && memcmp(buf_str(&whole), buf_str(&pieces), whole.len) == 0);
    must(redact_is_clean(set, text, len) ==
         (whole.len == len && memcmp(buf_str(&whole), text, len) == 0));
    buf_clear(&pieces);
    must(redact_json(set, text, len, &pieces) ||
         (pieces.len == 0 && redact_is_clean(set, text, len)));
    redact_free(set);
    return 0;
}
