/* Whatever payload.enc holds, around the seal (inputs that begin with 'f') and inside of it
 * (others): it is refused, or it is this task's and whole. The key service here wraps nothing. */
#include "runner/overflow/payload.h"
#include "crypto/crypto.h"
#include "google/kms.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ID "task-1"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const unsigned char key[CRYPTO_KEY_SIZE] = "known to all";

static void must(bool holds)
{
    if (!holds)
        abort();
}

int kms_encrypt(struct google *google, const char *name, const void *plain, size_t plain_len,
                const char *aad, struct buf *out, struct err *err)
{
    (void)google;
    (void)name;
    (void)aad;
    buf_add(out, plain, plain_len);
    return buf_check(out, "key", err);
}

int kms_decrypt(struct google *google, const char *name, const void *sealed, size_t sealed_len,
                const char *aad, struct buf *out, struct err *err)
{
    return kms_encrypt(google, name, sealed, sealed_len, aad, out, err);
}

static void seal(const uint8_t *data, size_t size, struct buf *out)
{
    struct err err;
    buf_add(out, "CRP1\0\0\0\x20", 8);
    buf_add(out, key, sizeof(key));
    must(crypto_seal(key, "claude-runner payload 1 " ID, data, size, out, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    const struct cloud cloud = {0};
    AUTO(payload) struct payload payload = {0};
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    if (size < 1 || size > 65536)
        return 0;
    if (data[0] == 'f')
        buf_add(&sealed, data + 1, size - 1);
    else
        seal(data + 1, size - 1, &sealed);
    if (payload_open(&cloud, ID, buf_str(&sealed), sealed.len, &payload, &err)) {
        must(err.code == ERR_MISMATCH);
        return 0;
    }
    must(strcmp(payload.task_id, ID) == 0 && payload.attempt >= 0);
    must(payload.kind && payload.request && payload.secrets && payload.request_id);
    AUTO(buf) struct buf again = BUF_INIT(PAYLOAD_BYTES_MAX);
    must(payload_seal(&cloud, &payload, &again, &err) == 0);
    return 0;
}
