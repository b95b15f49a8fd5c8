#include "runner/replica/owed_seal.h"

#include "base/str.h"
#include "crypto/crypto.h"

#include <stdio.h>
#include <string.h>

#define PURPOSE "claude-runner webhooks in the bucket 1"
#define SEALED_MAX (24u << 20)

static int make_key(const char *secret, unsigned char key[CRYPTO_KEY_SIZE], struct err *err)
{
    if (!secret || !*secret)
        return err_set(err, ERR_CONFIG, "CALLBACK_SECRET is not set");
    crypto_hmac_sha256(secret, strlen(secret), PURPOSE, strlen(PURPOSE), key);
    return 0;
}

int owed_seal(const char *secret, const char *what, const void *text, size_t len, struct buf *out,
              struct err *err)
{
    unsigned char key[CRYPTO_KEY_SIZE];
    AUTO(buf) struct buf sealed = BUF_INIT(SEALED_MAX);
    if (make_key(secret, key, err))
        return -1;
    int rc = crypto_seal(key, what, text, len, &sealed, err);
    explicit_bzero(key, sizeof(key));
    if (rc)
        return -1;
    str_add_base64(out, BASE64_STD, sealed.data, sealed.len);
    return buf_check(out, "a webhook", err);
}

int owed_unseal(const char *secret, const char *what, const char *sealed, struct buf *out,
                struct err *err)
{
    unsigned char key[CRYPTO_KEY_SIZE];
    AUTO(buf) struct buf bytes = BUF_INIT(SEALED_MAX);
    if (make_key(secret, key, err))
        return -1;
    int rc = str_read_base64(sealed, strlen(sealed), &bytes)
                 ? err_set(err, ERR_MISMATCH, "it is not sealed")
                 : crypto_open(key, what, buf_str(&bytes), bytes.len, out, err);
    explicit_bzero(key, sizeof(key));
    return rc;
}
