/*
 * Cloud KMS: symmetric keys. A cipher text is a byte of version, the number of the key's version,
 * a nonce, and what AES-256-GCM makes of the plain text, bound to the caller's data: another key
 * or other data do not open it.
 */
#include "google_policy.h"
#include "google_world.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_SIZE = 32, NONCE_SIZE = 12, TAG_SIZE = 16, HEAD_SIZE = 1 + 4, INPUT_MAX = 65536 };

/* ---- resources ---- */

static bool good_id(const char *id)
{
    size_t len = strlen(id);
    return len >= 1 && len <= 63 &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

/* The name of what is made: below the path, with the query's id. NULL after a refusal. */
static char *new_name(struct call *call, const char *param)
{
    char *id = call_param(call, param), *name = call_name(call), *full = NULL;
    if (!id || !good_id(id))
        call_fail(call, "INVALID_ARGUMENT", "The %s is missing or not valid.", param);
    else if (asprintf(&full, "kms:%s/%s", name, id) < 0)
        abort();
    if (full && store_get(full)) {
        call_fail(call, "ALREADY_EXISTS", "%s already exists.", full + 4);
        free(full);
        full = NULL;
    }
    free(id);
    free(name);
    return full;
}

static cJSON *create_ring(struct call *call)
{
    char *name = new_name(call, "keyRingId");
    if (!name)
        return NULL;
    cJSON *ring = cJSON_CreateObject();
    cJSON_AddStringToObject(ring, "name", name + 4);
    json_set_now(ring, "createTime");
    store_put(name, ring);
    free(name);
    return cJSON_Duplicate(ring, 1);
}

static cJSON *add_version(const char *key_name, int number, const char *level)
{
    char name[700];
    unsigned char bytes[KEY_SIZE];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        abort();
    char *material = base64_text(bytes, sizeof bytes);
    cJSON *version = cJSON_CreateObject();
    snprintf(name, sizeof name, "%s/cryptoKeyVersions/%d", key_name, number);
    cJSON_AddStringToObject(version, "name", name + 4);
    cJSON_AddStringToObject(version, "state", "ENABLED");
    cJSON_AddStringToObject(version, "protectionLevel", level);
    cJSON_AddStringToObject(version, "algorithm", "GOOGLE_SYMMETRIC_ENCRYPTION");
    json_set_now(version, "createTime");
    json_set_now(version, "generateTime");
    cJSON_AddStringToObject(version, "_material", material);
    store_put(name, version);
    free(material);
    return version;
}

static cJSON *create_key(struct call *call)
{
    const cJSON *purpose = cJSON_GetObjectItem(call->body, "purpose");
    bool symmetric = cJSON_IsNumber(purpose)
                         ? purpose->valuedouble == 1
                         : strcmp(json_string(call->body, "purpose"), "ENCRYPT_DECRYPT") == 0;
    const char *level =
        json_string(cJSON_GetObjectItem(call->body, "versionTemplate"), "protectionLevel");
    char *parent = call_name(call);
    parent[strlen(parent) - strlen("/cryptoKeys")] = '\0';
    bool has_ring = store_getf("kms:%s", parent) != NULL;
    char *name = has_ring && symmetric ? new_name(call, "cryptoKeyId") : NULL;
    if (!has_ring)
        call_fail(call, "NOT_FOUND", "KeyRing %s not found.", parent);
    else if (!symmetric)
        call_fail(call, "INVALID_ARGUMENT", "The purpose must be ENCRYPT_DECRYPT here.");
    free(parent);
    if (!name)
        return NULL;
    level = *level ? level : "SOFTWARE";
    cJSON *key = cJSON_CreateObject(), *template = cJSON_CreateObject();
    cJSON_AddStringToObject(key, "name", name + 4);
    json_merge(key, call->body);
    json_set_string(key, "purpose", "ENCRYPT_DECRYPT");
    json_set_now(key, "createTime");
    cJSON_AddStringToObject(template, "protectionLevel", level);
    cJSON_AddStringToObject(template, "algorithm", "GOOGLE_SYMMETRIC_ENCRYPTION");
    json_set(key, "versionTemplate", template);
    if (!cJSON_GetObjectItem(key, "destroyScheduledDuration"))
        cJSON_AddStringToObject(key, "destroyScheduledDuration", "2592000s");
    json_set(key, "primary", call_shown(add_version(name, 1, level)));
    store_put(name, key);
    free(name);
    return cJSON_Duplicate(key, 1);
}

static cJSON *find(struct call *call)
{
    char *key = call_key(call);
    cJSON *json = store_get(key);
    if (!json)
        call_missing(call, key + 4);
    free(key);
    return json;
}

/* A key shows its primary version as that is now. */
static cJSON *get(struct call *call)
{
    cJSON *json = call_shown(find(call));
    const cJSON *primary = cJSON_GetObjectItem(json, "primary");
    const cJSON *version = primary ? store_getf("kms:%s", json_string(primary, "name")) : NULL;
    if (version)
        json_set(json, "primary", call_shown(version));
    return json;
}

static cJSON *patch_key(struct call *call)
{
    cJSON *json = find(call);
    char *key = call_key(call), *mask = call_param(call, "updateMask");
    if (json && (!mask || !*mask))
        call_fail(call, "INVALID_ARGUMENT", "The updateMask is missing.");
    else if (json)
        json_merge(json, call->body);
    if (json && !call->sent)
        store_put(key, json);
    free(key);
    free(mask);
    return call->sent ? NULL : cJSON_Duplicate(json, 1);
}

static cJSON *destroy_version(struct call *call)
{
    cJSON *json = find(call);
    char *key = call_key(call);
    if (json) {
        json_set_string(json, "state", "DESTROY_SCHEDULED");
        store_put(key, json);
    }
    free(key);
    return call_shown(json);
}

static cJSON *list_rings(struct call *call)
{
    return call_list_below(call, "keyRings");
}

static cJSON *list_keys(struct call *call)
{
    return call_list_below(call, "cryptoKeys");
}

static cJSON *list_versions(struct call *call)
{
    return call_list_below(call, "cryptoKeyVersions");
}

/* ---- bytes of a request ---- */

struct bytes {
    unsigned char *data;
    size_t size;
    bool checked; /* a checksum came with them */
};

/* A field with its checksum; false after a refusal. */
static bool take(struct call *call, const char *field, struct bytes *bytes)
{
    char crc_name[64], text[16];
    snprintf(crc_name, sizeof crc_name, "%sCrc32c", field);
    const cJSON *crc = cJSON_GetObjectItemCaseSensitive(call->body, crc_name);
    bytes->data = base64_bytes(json_string(call->body, field), &bytes->size);
    if (!bytes->data || bytes->size > INPUT_MAX + 1024) {
        call_fail(call, "INVALID_ARGUMENT", "The field '%s' is too long or not base64.", field);
        return false;
    }
    snprintf(text, sizeof text, "%u", crc32c(0, bytes->data, bytes->size));
    bytes->checked = crc != NULL;
    if (!crc || strcmp(cJSON_GetStringValue(crc), text) == 0)
        return true;
    call_fail(call, "INVALID_ARGUMENT",
              "The checksum in field '%s' did not match the data in field '%s'.", crc_name, field);
    return false;
}

static void add_crc(cJSON *answer, const char *name, const void *data, size_t size)
{
    json_set_int64(answer, name, crc32c(0, data, size));
}

/* ---- the cipher ---- */

/* AES-256-GCM either way; false: it does not fit. `out` has room for all. */
static bool cipher(bool seal, const cJSON *version, const unsigned char *nonce,
                   const struct bytes *aad, const unsigned char *in, size_t size,
                   unsigned char *out, unsigned char tag[TAG_SIZE])
{
    size_t key_size = 0;
    int n = 0;
    unsigned char *key = base64_bytes(json_string(version, "_material"), &key_size);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool good = key && key_size == KEY_SIZE &&
                EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, seal) == 1 &&
                EVP_CipherUpdate(ctx, NULL, &n, aad->data, (int)aad->size) == 1 &&
                EVP_CipherUpdate(ctx, out, &n, in, (int)size) == 1;
    if (good && !seal)
        good = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) == 1;
    good = good && EVP_CipherFinal_ex(ctx, out + n, &n) == 1;
    if (good && seal)
        good = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    free(key);
    return good;
}

static cJSON *encrypted(struct call *call, const cJSON *key, const struct bytes *plain,
                        const struct bytes *aad)
{
    const char *name = json_string(cJSON_GetObjectItem(key, "primary"), "name");
    const cJSON *version = store_getf("kms:%s", name);
    size_t size = HEAD_SIZE + NONCE_SIZE + plain->size + TAG_SIZE;
    unsigned char *out = calloc(1, size);
    uint32_t number = (uint32_t)strtoul(strrchr(name, '/') + 1, NULL, 10);
    out[0] = 0x0a;
    memcpy(out + 1, &number, sizeof number);
    if (strcmp(json_string(version, "state"), "ENABLED") != 0) {
        free(out);
        return call_fail(call, "FAILED_PRECONDITION", "%s is not enabled.", name);
    }
    if (RAND_bytes(out + HEAD_SIZE, NONCE_SIZE) != 1 ||
        !cipher(true, version, out + HEAD_SIZE, aad, plain->data, plain->size,
                out + HEAD_SIZE + NONCE_SIZE, out + size - TAG_SIZE))
        abort();
    cJSON *answer = cJSON_CreateObject();
    char *text = base64_text(out, size);
    cJSON_AddStringToObject(answer, "name", name);
    cJSON_AddStringToObject(answer, "ciphertext", text);
    add_crc(answer, "ciphertextCrc32c", out, size);
    if (plain->checked)
        cJSON_AddTrueToObject(answer, "verifiedPlaintextCrc32c");
    if (aad->checked)
        cJSON_AddTrueToObject(answer, "verifiedAdditionalAuthenticatedDataCrc32c");
    cJSON_AddStringToObject(answer, "protectionLevel", json_string(version, "protectionLevel"));
    free(text);
    free(out);
    return answer;
}

static cJSON *encrypt(struct call *call)
{
    struct bytes plain = {0}, aad = {0};
    const cJSON *key = find(call);
    cJSON *answer = NULL;
    if (key && take(call, "plaintext", &plain) && take(call, "additionalAuthenticatedData", &aad)) {
        if (plain.size > INPUT_MAX || aad.size > INPUT_MAX)
            call_fail(call, "INVALID_ARGUMENT", "The plaintext must be no larger than 64KiB.");
        else
            answer = encrypted(call, key, &plain, &aad);
    }
    free(plain.data);
    free(aad.data);
    return answer;
}

static cJSON *decrypted(struct call *call, const cJSON *key, const struct bytes *sealed,
                        const struct bytes *aad)
{
    uint32_t number = 0;
    size_t over = HEAD_SIZE + NONCE_SIZE + TAG_SIZE;
    bool whole = sealed->size >= over && sealed->data[0] == 0x0a;
    size_t size = whole ? sealed->size - over : 0;
    unsigned char *out = calloc(1, size + 1);
    if (whole)
        memcpy(&number, sealed->data + 1, sizeof number);
    const cJSON *version =
        store_getf("kms:%s/cryptoKeyVersions/%u", json_string(key, "name"), number);
    cJSON *answer = NULL;
    if (whole && version && strcmp(json_string(version, "state"), "ENABLED") != 0) {
        call_fail(call, "FAILED_PRECONDITION", "%s is not enabled.", json_string(version, "name"));
    } else if (whole && version &&
               cipher(false, version, sealed->data + HEAD_SIZE, aad,
                      sealed->data + HEAD_SIZE + NONCE_SIZE, size, out,
                      sealed->data + sealed->size - TAG_SIZE)) {
        char *text = base64_text(out, size);
        answer = cJSON_CreateObject();
        cJSON_AddStringToObject(answer, "plaintext", text);
        add_crc(answer, "plaintextCrc32c", out, size);
        cJSON_AddBoolToObject(answer, "usedPrimary", true);
        cJSON_AddStringToObject(answer, "protectionLevel", json_string(version, "protectionLevel"));
        free(text);
    } else {
        call_fail(call, "INVALID_ARGUMENT",
                  "Decryption failed: verify that 'name' refers to the correct CryptoKey.");
    }
    free(out);
    return answer;
}

static cJSON *decrypt(struct call *call)
{
    struct bytes sealed = {0}, aad = {0};
    const cJSON *key = find(call);
    cJSON *answer = NULL;
    if (key && take(call, "ciphertext", &sealed) && take(call, "additionalAuthenticatedData", &aad))
        answer = decrypted(call, key, &sealed, &aad);
    free(sealed.data);
    free(aad.data);
    return answer;
}

#define RING "cloudkms.projects.locations.keyRings."
#define KEY RING "cryptoKeys."

const struct call_row google_kms_rows[] = {
    {RING "create", "cloudkms.keyRings.create", create_ring, false},
    {RING "get", "cloudkms.keyRings.get", get, false},
    {RING "list", "cloudkms.keyRings.list", list_rings, false},
    {RING "getIamPolicy", "cloudkms.keyRings.getIamPolicy", policy_answer_get, false},
    {RING "setIamPolicy", "cloudkms.keyRings.setIamPolicy", policy_answer_set, false},
    {KEY "create", "cloudkms.cryptoKeys.create", create_key, false},
    {KEY "get", "cloudkms.cryptoKeys.get", get, false},
    {KEY "list", "cloudkms.cryptoKeys.list", list_keys, false},
    {KEY "patch", "cloudkms.cryptoKeys.update", patch_key, false},
    {KEY "getIamPolicy", "cloudkms.cryptoKeys.getIamPolicy", policy_answer_get, false},
    {KEY "setIamPolicy", "cloudkms.cryptoKeys.setIamPolicy", policy_answer_set, false},
    {KEY "encrypt", "cloudkms.cryptoKeyVersions.useToEncrypt", encrypt, false},
    {KEY "decrypt", "cloudkms.cryptoKeyVersions.useToDecrypt", decrypt, false},
    {KEY "cryptoKeyVersions.get", "cloudkms.cryptoKeyVersions.get", get, false},
    {KEY "cryptoKeyVersions.list", "cloudkms.cryptoKeyVersions.list", list_versions, false},
    {KEY "cryptoKeyVersions.destroy", "cloudkms.cryptoKeyVersions.destroy", destroy_version, false},
    {0},
};
