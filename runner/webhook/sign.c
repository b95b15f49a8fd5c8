#include "runner/webhook/sign.h"

#include "base/check.h"
#include "base/str.h"
#include "crypto/crypto.h"

#include <string.h>

#define PREFIX "whsec_"
#define SECRET_BYTES_MAX 8192

/* Reads the key of a Standard Webhooks secret. */
static void read_key(const char *secret, struct buf *key)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(SECRET_BYTES_MAX);
    AUTO(buf_wipe) struct buf bytes = BUF_INIT(SECRET_BYTES_MAX);
    if (str_starts(secret, PREFIX)) {
        for (const char *p = secret + strlen(PREFIX); *p; p++)
            buf_addc(&text, *p == '+' ? '-' : *p == '/' ? '_' : strchr("-_", *p) ? ' ' : *p);
        for (int i = 0; i < 2 && text.len > 0 && text.data[text.len - 1] == '='; i++)
            text.len--;
    }
    if (text.len > 0 && str_read_base64url(text.data, text.len, &bytes) == 0)
        buf_add(key, buf_str(&bytes), bytes.len);
    else
        buf_adds(key, secret);
}

int sign_webhook(const char *secret, const char *id, int64_t seconds, const struct buf *body,
                 struct strlist *headers, struct err *err)
{
    REQUIRE(secret && id);
    unsigned char mac[CRYPTO_SHA256_SIZE];
    AUTO(buf_wipe) struct buf key = BUF_INIT(SECRET_BYTES_MAX);
    AUTO(buf) struct buf text = BUF_INIT(body->len + 256);
    AUTO(buf) struct buf hex = BUF_INIT(128);
    AUTO(buf) struct buf base64 = BUF_INIT(128);
    size_t skip = strlen(id) + 1; /* The first style signs the same text without the id. */
    buf_addf(&text, "%s.%lld.", id, (long long)seconds);
    buf_add(&text, buf_str(body), body->len);
    read_key(secret, &key);
    if (buf_check(&text, "the webhook", err) || buf_check(&key, "CALLBACK_SECRET", err))
        return -1;
    crypto_hmac_sha256(secret, strlen(secret), text.data + skip, text.len - skip, mac);
    str_add_hex(&hex, mac, sizeof(mac));
    crypto_hmac_sha256(key.data, key.len, text.data, text.len, mac);
    str_add_base64(&base64, BASE64_STD, mac, sizeof(mac));
    strlist_addf(headers, "X-Webhook-Timestamp: %lld", (long long)seconds);
    strlist_addf(headers, "X-Webhook-Signature: sha256=%s", buf_str(&hex));
    strlist_addf(headers, "webhook-id: %s", id);
    strlist_addf(headers, "webhook-timestamp: %lld", (long long)seconds);
    strlist_addf(headers, "webhook-signature: v1,%s", buf_str(&base64));
    return headers->failed ? err_set(err, ERR_INTERNAL, "out of memory") : 0;
}
