#include "crypto/crypto.h"

#include "base/check.h"
#include "base/id.h"
#include "crypto/crypto_private.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TAG_SIZE 16

struct crypto_hash {
    EVP_MD_CTX *ctx;
};

void crypto_hash_free(struct crypto_hash *hash)
{
    if (!hash)
        return;
    EVP_MD_CTX_free(hash->ctx);
    free(hash);
}

struct crypto_hash *crypto_hash_new(void)
{
    AUTO(crypto_hash) struct crypto_hash *hash = calloc(1, sizeof(*hash));
    if (!hash || !(hash->ctx = EVP_MD_CTX_new()) ||
        EVP_DigestInit_ex(hash->ctx, EVP_sha256(), NULL) != 1)
        return NULL;
    return STEAL_PTR(hash);
}

/* SHA-256 over memory cannot fail once it has begun; if it does, the library is broken. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

void crypto_hash_add(struct crypto_hash *hash, const void *data, size_t len)
{
    REQUIRE(hash);
    must(EVP_DigestUpdate(hash->ctx, data, len));
}

void crypto_hash_end(struct crypto_hash *hash, unsigned char digest[CRYPTO_SHA256_SIZE])
{
    must(EVP_DigestFinal_ex(hash->ctx, digest, NULL));
}

void crypto_sha256(const void *data, size_t len, unsigned char digest[CRYPTO_SHA256_SIZE])
{
    must(EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL));
}

void crypto_sha1(const void *data, size_t len, unsigned char digest[CRYPTO_SHA1_SIZE])
{
    must(EVP_Digest(data, len, digest, NULL, EVP_sha1(), NULL));
}

void crypto_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        unsigned char mac[CRYPTO_SHA256_SIZE])
{
    unsigned mac_len = CRYPTO_SHA256_SIZE;
    const void *some_key = key_len > 0 ? key : ""; /* NULL would make OpenSSL use the previous key
                                                    * again. */
    must(HMAC(EVP_sha256(), some_key, (int)key_len, data, len, mac, &mac_len) != NULL);
}

bool crypto_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0;
}

static int crypto_err(struct err *err, const char *what)
{
    char text[160] = "no reason given";
    unsigned long code = ERR_get_error();
    if (code)
        ERR_error_string_n(code, text, sizeof(text));
    ERR_clear_error();
    return err_set(err, ERR_INTERNAL, "%s: %s", what, text);
}

/* EVP takes lengths as int. */
static int check_size(size_t len, struct err *err)
{
    if (len <= INT_MAX - CRYPTO_NONCE_SIZE - TAG_SIZE)
        return 0;
    return err_set(err, ERR_TOO_LARGE, "%zu bytes are too many to seal at once", len);
}

/* Looking up an algorithm takes as long as sealing some kilobytes, so it is done once. */
static EVP_CIPHER *gcm;

static void fetch_gcm(void)
{
    gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
}

static int begin(EVP_CIPHER_CTX *ctx, int sealing, const unsigned char *key,
                 const unsigned char *nonce, const char *aad)
{
    int n;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fetch_gcm);
    return ctx && gcm && EVP_CipherInit_ex(ctx, gcm, NULL, key, nonce, sealing) == 1 &&
                   EVP_CipherUpdate(ctx, NULL, &n, (const unsigned char *)aad, (int)strlen(aad)) ==
                       1
               ? 0
               : -1;
}

/* Gathers short pieces, because each update of the cipher takes as long as encrypting a
 * kilobyte. */
struct stage {
    unsigned char *to; /* where what is encrypted next goes */
    size_t held;
    unsigned char data[512];
};

static bool encrypt(EVP_CIPHER_CTX *ctx, struct stage *stage, const void *data, size_t len)
{
    int n = 0;
    if (len > 0 && EVP_CipherUpdate(ctx, stage->to, &n, data, (int)len) != 1)
        return false;
    stage->to += n;
    return true;
}

static bool encrypt_held(EVP_CIPHER_CTX *ctx, struct stage *stage)
{
    bool good = encrypt(ctx, stage, stage->data, stage->held);
    stage->held = 0;
    return good;
}

static bool encrypt_all(EVP_CIPHER_CTX *ctx, struct stage *stage, const struct crypto_piece *pieces,
                        size_t count)
{
    int n = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = pieces[i].len;
        if (len > sizeof(stage->data) - stage->held && !encrypt_held(ctx, stage))
            return false;
        if (len > sizeof(stage->data)) {
            if (!encrypt(ctx, stage, pieces[i].data, len))
                return false;
        } else if (len > 0) {
            memcpy(stage->data + stage->held, pieces[i].data, len);
            stage->held += len;
        }
    }
    return encrypt_held(ctx, stage) && EVP_CipherFinal_ex(ctx, stage->to, &n) == 1;
}

static int seal(const unsigned char *key, const unsigned char *nonce, const char *aad,
                const struct crypto_piece *pieces, size_t count, struct buf *out, struct err *err)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        if (check_size(pieces[i].len, err) || check_size(len += pieces[i].len, err))
            return -1;
    }
    unsigned char *to = (unsigned char *)buf_room(out, CRYPTO_NONCE_SIZE + len + TAG_SIZE);
    if (!to)
        return buf_check(out, "the sealed text", err);
    AUTO(cipher) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    struct stage stage;
    stage.to = to + CRYPTO_NONCE_SIZE;
    stage.held = 0;
    memcpy(to, nonce, CRYPTO_NONCE_SIZE);
    bool good =
        begin(ctx, 1, key, to, aad) == 0 && encrypt_all(ctx, &stage, pieces, count) &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, to + CRYPTO_NONCE_SIZE + len) == 1;
    explicit_bzero(stage.data, sizeof(stage.data));
    if (!good)
        return crypto_err(err, "sealing failed");
    buf_grew(out, CRYPTO_NONCE_SIZE + len + TAG_SIZE);
    return 0;
}

void crypto_fresh_new(struct crypto_fresh *ret_fresh)
{
    id_random(ret_fresh, sizeof(*ret_fresh)); /* One system call fills both. */
}

int crypto_seal_pieces(const struct crypto_fresh *fresh, const char *aad,
                       const struct crypto_piece *pieces, size_t count, struct buf *out,
                       struct err *err)
{
    REQUIRE(fresh && (pieces || count == 0));
    REQUIRE(aad);
    return seal(fresh->key, fresh->nonce, aad, pieces, count, out, err);
}

int crypto_seal(const unsigned char key[CRYPTO_KEY_SIZE], const char *aad, const void *data,
                size_t len, struct buf *out, struct err *err)
{
    unsigned char nonce[CRYPTO_NONCE_SIZE];
    const struct crypto_piece piece = {data, len};
    id_random(nonce, sizeof(nonce));
    return seal(key, nonce, aad, &piece, 1, out, err);
}

/* The last step checks the tag; no plain text is handed out before. */
static bool open_into(EVP_CIPHER_CTX *ctx, const unsigned char *from, size_t len, unsigned char *to)
{
    int n = 0, last = 0;
    unsigned char tag[TAG_SIZE];
    memcpy(tag, from + len, TAG_SIZE);
    return EVP_CipherUpdate(ctx, to, &n, from, (int)len) == 1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) == 1 &&
           EVP_CipherFinal_ex(ctx, to + n, &last) == 1;
}

int crypto_open(const unsigned char key[CRYPTO_KEY_SIZE], const char *aad, const void *sealed,
                size_t len, struct buf *out, struct err *err)
{
    const unsigned char *from = sealed;
    if (check_size(len, err))
        return -1;
    if (len < CRYPTO_NONCE_SIZE + TAG_SIZE)
        return err_set(err, ERR_MISMATCH, "the sealed text is cut");
    size_t plain_len = len - CRYPTO_NONCE_SIZE - TAG_SIZE;
    unsigned char *to = (unsigned char *)buf_room(out, plain_len);
    if (!to)
        return buf_check(out, "the opened text", err);
    AUTO(cipher) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (begin(ctx, 0, key, from, aad))
        return crypto_err(err, "opening failed");
    if (!open_into(ctx, from + CRYPTO_NONCE_SIZE, plain_len, to)) {
        ERR_clear_error();
        explicit_bzero(to, plain_len);
        return err_set(err, ERR_MISMATCH, "the sealed text was made with another key or changed");
    }
    buf_grew(out, plain_len);
    return 0;
}
