#include "google/kms.h"
#include "google/limits.h"

#include "base/str.h"
#include "google/wire.h"

#include <string.h>

#define PATH_MAX_BYTES 4096
#define BYTES_MAX 65536 /* KMS's limit for plain text and for aad */
#define BODY_MAX (400u << 10)

static void add_bytes(struct json_writer *w, const char *name, const char *crc_name,
                      const void *data, size_t len)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(2 * BYTES_MAX + 1024);
    AUTO(buf) struct buf crc = BUF_INIT(32);
    str_add_base64(&text, BASE64_STD, data, len);
    buf_addf(&crc, "%u", google_crc32c(0, data, len));
    json_add_textn(w, name, buf_str(&text), text.len);
    json_add_text(w, crc_name, buf_str(&crc));
    w->out->failed |= text.failed;
}

/* Appends bytes of an answer after checking their checksum. */
static int take_bytes(const struct json *answer, const char *name, const char *crc_name,
                      struct buf *out, struct err *err)
{
    int64_t crc;
    AUTO(buf_wipe) struct buf bytes = BUF_INIT(2 * BYTES_MAX);
    const char *text = json_text(json_get(answer, name));
    if (answer_int(answer, crc_name, &crc))
        return err_set(err, ERR_UPSTREAM, "Cloud KMS: the answer holds no \"%s\"", crc_name);
    if (text && str_read_base64(text, strlen(text), &bytes)) /* Google may leave out an empty
                                                              * one. */
        return err_set(err, ERR_UPSTREAM, "Cloud KMS: \"%s\" is no base64", name);
    if (google_crc32c(0, buf_str(&bytes), bytes.len) != crc)
        return err_set(err, ERR_UPSTREAM,
                       "Cloud KMS: \"%s\" arrived changed (its CRC32C is another)", name);
    return buf_add(out, buf_str(&bytes), bytes.len) ? buf_check(out, "the answer of Cloud KMS", err)
                                                    : 0;
}

/* What is sent, and under which names. */
struct question {
    const char *verb, *field, *crc_field;
    const void *data;
    size_t len;
    const char *aad;
};

static int ask(struct google *google, const char *key, const struct question *q,
               struct json **ret_json, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_BYTES);
    AUTO(buf_wipe) struct buf body = BUF_INIT(BODY_MAX);
    struct json_writer w;
    if (answer_check_name("a KMS key", key, err))
        return -1;
    buf_adds(&path, "/v1/");
    str_add_url(&path, key, "/");
    buf_addf(&path, ":%s", q->verb);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    add_bytes(&w, q->field, q->crc_field, q->data, q->len);
    if (q->aad && *q->aad)
        add_bytes(&w, "additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c", q->aad,
                  strlen(q->aad));
    json_close(&w);
    const struct google_call call = {.api = GOOGLE_KMS,
                                     .method = "POST",
                                     .path = buf_str(&path),
                                     .body = body.data,
                                     .body_len = body.len};
    if (buf_check(&path, "the request's path", err) || buf_check(&body, "the request", err))
        return -1;
    return google_call(google, &call, ret_json, NULL, err);
}

static bool is_verified(const struct json *answer, const char *name)
{
    bool verified = false;
    json_bool(json_get(answer, name), &verified);
    return verified;
}

/* Asks, and asks again when the answer arrives corrupted: repeating changes nothing. */
static int ask_whole(struct google *google, const char *key, const struct question *q,
                     const char *name, const char *crc_name, struct buf *out, struct err *err)
{
    for (int tries = 1;; tries++) {
        AUTO(json) struct json *answer = NULL;
        if (ask(google, key, q, &answer, err))
            return -1;
        bool sealed = strcmp(q->verb, "encrypt") == 0;
        bool verified = !sealed || (is_verified(answer, "verifiedPlaintextCrc32c") &&
                                    (!q->aad || !*q->aad ||
                                     is_verified(answer, "verifiedAdditionalAuthenticatedData"
                                                         "Crc32c")));
        int rc = verified ? take_bytes(answer, name, crc_name, out, err)
                          : err_set(err, ERR_UPSTREAM,
                                    "Cloud KMS: the request's checksums were not verified");
        if (rc == 0 || err->code != ERR_UPSTREAM || tries == GOOGLE_WHOLE_TRIES)
            return rc;
    }
}

int kms_encrypt(struct google *google, const char *key, const void *plain, size_t plain_len,
                const char *aad, struct buf *out, struct err *err)
{
    if (plain_len > BYTES_MAX || (aad && strlen(aad) > BYTES_MAX))
        return err_set(err, ERR_TOO_LARGE, "Cloud KMS wraps %d bytes at most", BYTES_MAX);
    const struct question question = {"encrypt", "plaintext", "plaintextCrc32c",
                                      plain,     plain_len,   aad};
    return ask_whole(google, key, &question, "ciphertext", "ciphertextCrc32c", out, err);
}

int kms_decrypt(struct google *google, const char *key, const void *sealed, size_t sealed_len,
                const char *aad, struct buf *out, struct err *err)
{
    if (sealed_len > BYTES_MAX + 4096)
        return err_set(err, ERR_INVALID, "no text that Cloud KMS has wrapped is so long");
    const struct question question = {"decrypt", "ciphertext", "ciphertextCrc32c",
                                      sealed,    sealed_len,   aad};
    return ask_whole(google, key, &question, "plaintext", "plaintextCrc32c", out, err);
}
