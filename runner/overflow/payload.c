#include "runner/overflow/payload.h"

#include "base/check.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "google/kms.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "CRP1"
#define MAGIC_SIZE 4
#define HEADER_SIZE (MAGIC_SIZE + 4)
#define WRAPPED_BYTES_MAX 65536
#define PLAIN_BYTES_MAX (PAYLOAD_BYTES_MAX - WRAPPED_BYTES_MAX - 4096)
#define AAD_SIZE 128
#define PARTS 6

static void wipe_free(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void payload_done(struct payload *payload)
{
    free(payload->task_id);
    free(payload->kind);
    free(payload->request_id);
    wipe_free(payload->request);
    wipe_free(payload->secrets);
    *payload = (struct payload){0};
}

static void make_aad(const char *task_id, char aad[AAD_SIZE])
{
    snprintf(aad, AAD_SIZE, "claude-runner payload 1 %s", task_id);
}

/* --- sealing ---------------------------------------------------------------------------------- */

static void add_header(const struct buf *wrapped, struct buf *out)
{
    unsigned char size[4];
    for (int i = 0; i < 4; i++)
        size[i] = (unsigned char)(wrapped->len >> (24 - 8 * i));
    buf_add(out, MAGIC, MAGIC_SIZE);
    buf_add(out, size, sizeof(size));
    buf_add(out, wrapped->data, wrapped->len);
}

/* The parts to seal, each with its NUL; borrowed. Returns their total size. */
static size_t take_parts(const struct payload *payload, const char *attempt,
                         struct crypto_piece ret_parts[PARTS])
{
    size_t size = 0;
    const char *const texts[PARTS] = {payload->task_id, payload->kind,    payload->request_id,
                                      attempt,          payload->request, payload->secrets};
    for (size_t i = 0; i < PARTS; i++) {
        const char *text = texts[i] ? texts[i] : "";
        ret_parts[i] = (struct crypto_piece){text, strlen(text) + 1};
        size += ret_parts[i].len;
    }
    return size;
}

static int seal_with(const struct crypto_fresh *fresh, const struct cloud *cloud,
                     const struct payload *payload, struct buf *out, struct err *err)
{
    char aad[AAD_SIZE], attempt[16];
    struct crypto_piece parts[PARTS];
    AUTO(buf) struct buf wrapped = BUF_INIT(WRAPPED_BYTES_MAX);
    snprintf(attempt, sizeof(attempt), "%d", payload->attempt);
    size_t size = take_parts(payload, attempt, parts);
    if (size > PLAIN_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the task's request has %zu bytes, more than %u", size,
                       PLAIN_BYTES_MAX);
    make_aad(payload->task_id, aad);
    if (kms_encrypt(cloud->google, cloud->key, fresh->key, sizeof(fresh->key), aad, &wrapped, err))
        return -1;
    add_header(&wrapped, out);
    if (buf_check(out, "the payload", err))
        return -1;
    return crypto_seal_pieces(fresh, aad, parts, PARTS, out, err);
}

int payload_seal(const struct cloud *cloud, const struct payload *payload, struct buf *out,
                 struct err *err)
{
    REQUIRE(payload->task_id && payload->request);
    struct crypto_fresh fresh;
    crypto_fresh_new(&fresh);
    int rc = seal_with(&fresh, cloud, payload, out, err);
    explicit_bzero(&fresh, sizeof(fresh));
    return rc ? err_wrap(err, "the payload") : 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

static int not_whole(struct err *err)
{
    return err_set(err, ERR_MISMATCH, "it is no payload, or not whole");
}

/* Copies the next text at *at to *to; false when there is none. */
static bool take(const char **at, const char *end, char **to)
{
    const char *stop = *at < end ? memchr(*at, '\0', (size_t)(end - *at)) : NULL;
    *to = stop ? strdup(*at) : NULL;
    *at = stop ? stop + 1 : end;
    return *to != NULL;
}

static int split(const struct buf *plain, struct payload *payload, struct err *err)
{
    int64_t number;
    const char *at = buf_str(plain), *end = at + plain->len;
    AUTO(str) char *attempt = NULL;
    if (!take(&at, end, &payload->task_id) || !take(&at, end, &payload->kind) ||
        !take(&at, end, &payload->request_id) || !take(&at, end, &attempt) ||
        !take(&at, end, &payload->request) || !take(&at, end, &payload->secrets) || at != end ||
        str_to_int(attempt, 0, INT_MAX, &number))
        return not_whole(err);
    payload->attempt = (int)number;
    return 0;
}

/* The length of the wrapped key at the beginning; -1 when it is impossible. */
static int64_t wrapped_size(const unsigned char *sealed, size_t len)
{
    int64_t size = 0;
    if (len < HEADER_SIZE || memcmp(sealed, MAGIC, MAGIC_SIZE) != 0)
        return -1;
    for (int i = 0; i < 4; i++)
        size = size << 8 | sealed[MAGIC_SIZE + i];
    return size > 0 && size <= WRAPPED_BYTES_MAX && (size_t)size <= len - HEADER_SIZE ? size : -1;
}

static int unwrap(const struct cloud *cloud, const char *aad, const void *wrapped, size_t len,
                  struct buf *key, struct err *err)
{
    if (kms_decrypt(cloud->google, cloud->key, wrapped, len, aad, key, err)) {
        if (err->code == ERR_INVALID)
            err->code = ERR_MISMATCH;
        return -1;
    }
    return key->len == CRYPTO_KEY_SIZE ? 0 : not_whole(err);
}

static int open_it(const struct cloud *cloud, const char *task_id, const unsigned char *sealed,
                   size_t len, struct payload *payload, struct err *err)
{
    char aad[AAD_SIZE];
    AUTO(buf_wipe) struct buf key = BUF_INIT(1024);
    AUTO(buf_wipe) struct buf plain = BUF_INIT(PLAIN_BYTES_MAX);
    int64_t size = wrapped_size(sealed, len);
    if (size < 0)
        return not_whole(err);
    const unsigned char *body = sealed + HEADER_SIZE + size;
    make_aad(task_id, aad);
    if (unwrap(cloud, aad, sealed + HEADER_SIZE, (size_t)size, &key, err) ||
        crypto_open((const unsigned char *)key.data, aad, body, len - HEADER_SIZE - (size_t)size,
                    &plain, err) ||
        split(&plain, payload, err))
        return -1;
    return payload->task_id && strcmp(payload->task_id, task_id) == 0
               ? 0
               : err_set(err, ERR_MISMATCH, "it is another task's");
}

int payload_open(const struct cloud *cloud, const char *task_id, const void *sealed, size_t len,
                 struct payload *ret_payload, struct err *err)
{
    AUTO(payload) struct payload payload = {0};
    if (open_it(cloud, task_id, sealed, len, &payload, err))
        return err_wrap(err, "the payload");
    *ret_payload = payload;
    payload = (struct payload){0};
    return 0;
}
