/* Cloud Storage: what an object is and when it becomes one. */
#include "google_objects.h"
#include "google_world.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void object_crc_text(uint32_t crc, char out[12])
{
    unsigned char bytes[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                              (unsigned char)(crc >> 8), (unsigned char)crc};
    EVP_EncodeBlock((unsigned char *)out, bytes, 4);
}

cJSON *object_bucket(struct call *call, const char *bucket)
{
    cJSON *json = store_getf("gcs:b/%s", bucket);
    if (!json)
        call_fail(call, "NOT_FOUND", "The specified bucket does not exist.");
    return json;
}

/* ---- bytes ---- */

bool object_bytes_open(struct call *call, const char *name, struct object_bytes *ret_bytes)
{
    *ret_bytes = (struct object_bytes){.path = store_path("uploads/%s", name)};
    ret_bytes->fd = open(ret_bytes->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (ret_bytes->fd >= 0)
        return true;
    call_fail(call, "INTERNAL", "%s: %s", ret_bytes->path, strerror(errno));
    free(ret_bytes->path);
    return false;
}

bool object_bytes_add(struct object_bytes *bytes, const void *data, size_t size)
{
    const char *p = data;
    for (size_t left = size; left;) {
        ssize_t n = pwrite(bytes->fd, p + size - left, left, bytes->size + (int64_t)(size - left));
        if (n <= 0)
            return false;
        left -= (size_t)n;
    }
    bytes->crc = crc32c(bytes->crc, data, size);
    bytes->size += (int64_t)size;
    return true;
}

void object_bytes_done(struct object_bytes *bytes, bool keep)
{
    close(bytes->fd);
    if (!keep && bytes->path)
        unlink(bytes->path);
    free(bytes->path);
}

/* ---- preconditions ---- */

bool object_not_met(struct call *call)
{
    call_fail(call, "CONDITION_NOT_MET",
              "At least one of the pre-conditions you specified did not hold.");
    return false;
}

bool object_preconditions(struct call *call, const cJSON *object)
{
    int64_t generation = json_int(object, "generation", 0);
    int64_t metageneration = json_int(object, "metageneration", 0);
    int64_t wanted = call_number(call, "ifGenerationMatch", -1);
    int64_t unwanted = call_number(call, "ifGenerationNotMatch", -1);
    int64_t meta = call_number(call, "ifMetagenerationMatch", -1);
    int64_t other_meta = call_number(call, "ifMetagenerationNotMatch", -1);
    if ((wanted >= 0 && wanted != generation) || (meta >= 0 && meta != metageneration))
        return object_not_met(call);
    if (unwanted != generation && (other_meta < 0 || other_meta != metageneration))
        return true;
    if (strcmp(call->req->method, "GET") != 0)
        return object_not_met(call);
    call->status = 304;
    call->sent = true;
    server_reply(call->conn, 304, "", "", 0);
    return false;
}

/* ---- objects ---- */

void object_remove_bytes(const cJSON *object)
{
    char *path = store_path("data/%s", json_string(object, "generation"));
    unlink(path);
    free(path);
}

/* True when a checksum that the request promised is not the one of what came. */
static bool checksum_fault(struct call *call, const cJSON *meta, const char *crc)
{
    const char *promised = json_string(meta, "crc32c");
    const char *header = server_header(call->req, "x-goog-hash");
    const char *in_header = header ? strstr(header, "crc32c=") : NULL;
    if (in_header && strncmp(in_header + 7, crc, 8) != 0)
        promised = in_header + 7;
    if ((*promised || in_header) && *promised && strncmp(promised, crc, 8) != 0) {
        call_fail(call, "INVALID_ARGUMENT",
                  "Provided CRC32C \"%.8s\" doesn't match calculated CRC32C \"%s\".", promised,
                  crc);
        return true;
    }
    return false;
}

/* MD5 costs time: only when somebody sent one. */
static bool md5_fault(struct call *call, const cJSON *meta, const struct object_bytes *bytes)
{
    const char *promised = json_string(meta, "md5Hash");
    unsigned char digest[EVP_MAX_MD_SIZE], piece[16384];
    char text[64];
    unsigned size = 0;
    ssize_t n;
    if (!*promised)
        return false;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_DigestInit_ex(md, EVP_md5(), NULL);
    for (int64_t at = 0; (n = pread(bytes->fd, piece, sizeof piece, at)) > 0; at += n)
        EVP_DigestUpdate(md, piece, (size_t)n);
    EVP_DigestFinal_ex(md, digest, &size);
    EVP_MD_CTX_free(md);
    EVP_EncodeBlock((unsigned char *)text, digest, (int)size);
    if (strcmp(text, promised) == 0)
        return false;
    call_fail(call, "INVALID_ARGUMENT",
              "Provided MD5 hash \"%.40s\" doesn't match calculated MD5 hash \"%s\".", promised,
              text);
    return true;
}

static void add_links(cJSON *object, const char *bucket, const char *name, const char *generation)
{
    char link[2048];
    snprintf(link, sizeof link, "%s/%s/%s", bucket, name, generation);
    json_set_string(object, "id", link);
    snprintf(link, sizeof link, "%s/storage/v1/b/%s/o/%s", world.base, bucket, name);
    json_set_string(object, "selfLink", link);
    snprintf(link, sizeof link, "%s/download/storage/v1/b/%s/o/%s?generation=%s&alt=media",
             world.base, bucket, name, generation);
    json_set_string(object, "mediaLink", link);
}

/* What a request may say of an object. */
static const char *const writable[] = {"contentType",     "contentEncoding", "contentDisposition",
                                       "contentLanguage", "cacheControl",    "metadata",
                                       "customTime",      "storageClass"};

void object_take_meta(cJSON *object, const cJSON *meta)
{
    for (size_t i = 0; i < sizeof writable / sizeof *writable; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(meta, writable[i]);
        if (value)
            json_set(object, writable[i], cJSON_IsNull(value) ? NULL : cJSON_Duplicate(value, 1));
    }
}

static cJSON *object_new(const char *bucket, const char *name, const cJSON *meta,
                         const struct object_bytes *bytes, const char *crc)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "kind", "storage#object");
    cJSON_AddStringToObject(object, "name", name);
    cJSON_AddStringToObject(object, "bucket", bucket);
    json_set_int64(object, "generation", store_serial());
    json_set_int64(object, "metageneration", 1);
    cJSON_AddStringToObject(object, "storageClass", "STANDARD");
    object_take_meta(object, meta);
    json_set_int64(object, "size", bytes->size);
    cJSON_AddStringToObject(object, "crc32c", crc);
    cJSON_AddStringToObject(object, "etag", json_string(object, "generation"));
    json_set_now(object, "timeCreated");
    json_set_now(object, "updated");
    json_set_now(object, "timeStorageClassUpdated");
    json_set_now(object, "timeFinalized");
    add_links(object, bucket, name, json_string(object, "generation"));
    return object;
}

static bool good_name(const char *name)
{
    return *name && strlen(name) <= 1024 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           !strpbrk(name, "\r\n") && strncmp(name, ".well-known/acme-challenge/", 27) != 0;
}

cJSON *object_commit(struct call *call, const char *bucket, const char *name, const cJSON *meta,
                     struct object_bytes *bytes)
{
    char crc[12], key[1200];
    object_crc_text(bytes->crc, crc);
    snprintf(key, sizeof key, "gcs:o/%s/%s", bucket, name);
    const cJSON *old = store_get(key);
    if (!object_bucket(call, bucket))
        return NULL;
    if (!good_name(name))
        return call_fail(call, "INVALID_ARGUMENT", "Invalid object name: '%.200s'", name);
    if (checksum_fault(call, meta, crc) || md5_fault(call, meta, bytes) ||
        !object_preconditions(call, old))
        return NULL;
    cJSON *object = object_new(bucket, name, meta, bytes, crc);
    char *path = store_path("data/%s", json_string(object, "generation"));
    if (rename(bytes->path, path) < 0)
        abort();
    if (old)
        object_remove_bytes(old);
    free(path);
    free(bytes->path);
    bytes->path = NULL;
    store_put(key, object);
    return cJSON_Duplicate(object, 1);
}
