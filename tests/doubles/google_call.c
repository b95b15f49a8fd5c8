#include "google_call.h"

#include "google_world.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Google's name of a fault, its HTTP status, and Cloud Storage's reason for it. */
static const struct {
    const char *status;
    int http;
    const char *reason;
} faults[] = {
    {"INVALID_ARGUMENT", 400, "invalid"},
    {"FAILED_PRECONDITION", 400, "failedPrecondition"},
    {"OUT_OF_RANGE", 400, "outOfRange"},
    {"UNAUTHENTICATED", 401, "authError"},
    {"PERMISSION_DENIED", 403, "forbidden"},
    {"NOT_FOUND", 404, "notFound"},
    {"ALREADY_EXISTS", 409, "conflict"},
    {"ABORTED", 409, "conflict"},
    {"GONE", 410, "gone"},
    {"CONDITION_NOT_MET", 412, "conditionNotMet"},
    {"RANGE", 416, "requestedRangeNotSatisfiable"},
    {"RESOURCE_EXHAUSTED", 429, "rateLimitExceeded"},
    {"INTERNAL", 500, "backendError"},
    {"UNAVAILABLE", 503, "backendError"},
};

/* Cloud Storage and Compute Engine have an older shape of error. */
static bool is_old_style(const struct call *call)
{
    return strncmp(call->req->path, "/storage/", 9) == 0 ||
           strncmp(call->req->path, "/upload/", 8) == 0 ||
           strncmp(call->req->path, "/compute/", 9) == 0;
}

static cJSON *fault_json(const struct call *call, size_t fault, const char *message)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *error = cJSON_AddObjectToObject(json, "error");
    cJSON_AddNumberToObject(error, "code", faults[fault].http);
    cJSON_AddStringToObject(error, "message", message);
    if (!is_old_style(call)) {
        cJSON_AddStringToObject(error, "status", faults[fault].status);
        return json;
    }
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "message", message);
    cJSON_AddStringToObject(item, "domain", "global");
    cJSON_AddStringToObject(item, "reason", faults[fault].reason);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(error, "errors"), item);
    return json;
}

cJSON *call_fail(struct call *call, const char *status, const char *format, ...)
{
    char message[768];
    size_t fault = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    while (strcmp(faults[fault].status, status) != 0)
        if (++fault == sizeof faults / sizeof *faults)
            abort();
    cJSON *json = fault_json(call, fault, message);
    char *text = cJSON_PrintUnformatted(json);
    call->status = faults[fault].http;
    call->sent = true;
    if (call->status == 401)
        call_header(call, "WWW-Authenticate: Bearer realm=\"https://accounts.google.com/\", "
                          "error=\"invalid_token\"\r\n");
    call_header(call, "Content-Type: application/json; charset=UTF-8\r\n");
    if (!call->lose_answer)
        server_reply(call->conn, call->status, call->headers, text, strlen(text));
    free(text);
    cJSON_Delete(json);
    return NULL;
}

cJSON *call_missing(struct call *call, const char *resource)
{
    return call_fail(call, "NOT_FOUND", "Resource '%.500s' was not found", resource);
}

void call_header(struct call *call, const char *format, ...)
{
    size_t have = strlen(call->headers);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(call->headers + have, sizeof call->headers - have, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof call->headers - have)
        call->headers[have] = '\0';
}

/* A checksum in the answer that is not that of the bytes. */
static void spoil_checksums(cJSON *json)
{
    static const char *const names[] = {"crc32c", "ciphertextCrc32c", "plaintextCrc32c",
                                        "dataCrc32c"};
    cJSON *member;
    cJSON_ArrayForEach(member, json)
    {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (member->string && strcmp(member->string, names[i]) == 0)
                cJSON_SetValuestring(member, i == 0 ? "AAAAAA==" : "1");
        spoil_checksums(member);
    }
}

void call_answer(struct call *call, cJSON *json)
{
    if (call->sent || !json) {
        cJSON_Delete(json);
        return;
    }
    if (call->wrong_crc)
        spoil_checksums(json);
    char *text = cJSON_PrintUnformatted(json);
    size_t size = strlen(text);
    call->status = call->status ? call->status : 200;
    call->sent = true;
    call_header(call, "Content-Type: application/json; charset=UTF-8\r\n");
    if (call->lose_answer) {
        call->status = 0;
    } else if (call->cut_body_at >= 0 && (size_t)call->cut_body_at < size) {
        server_start(call->conn, call->status, call->headers, size);
        server_send(call->conn, text, (size_t)call->cut_body_at);
        server_cut(call->conn);
    } else {
        server_reply(call->conn, call->status, call->headers, text, size);
    }
    free(text);
    cJSON_Delete(json);
}

char *call_param(const struct call *call, const char *name)
{
    return google_param(call->req->query, name);
}

int64_t call_number(const struct call *call, const char *name, int64_t otherwise)
{
    char *text = call_param(call, name);
    int64_t value = text ? strtoll(text, NULL, 10) : otherwise;
    free(text);
    return value;
}

char *call_name(const struct call *call)
{
    const char *rest = strchr(call->req->path + 1, '/');
    const char *last = strrchr(call->req->path, '/');
    const char *verb = strrchr(last, ':');
    bool has_verb = verb && strchr(call->method->path, ':');
    size_t len = has_verb ? (size_t)(verb - rest) - 1 : strlen(rest + 1);
    char *name = google_decode(rest + 1, len, false);
    return name ? name : strdup("");
}

char *call_key(const struct call *call)
{
    static const char *const kinds[][2] = {{"run.", "run"},
                                           {"cloudkms.", "kms"},
                                           {"secretmanager.", "secret"},
                                           {"iam", "iam"},
                                           {"cloudresourcemanager.", "crm"},
                                           {"artifactregistry.", "artifact"},
                                           {"serviceusage.", "service"},
                                           {"compute.", "compute"},
                                           {"cloudbuild.", "build"},
                                           {"cloudbilling.", "crm"},
                                           {"logging.", "logging"},
                                           {"storage.", "gcs"}};
    char *name = call_name(call), *key = NULL;
    size_t i = 0;
    while (strncmp(call->method->id, kinds[i][0], strlen(kinds[i][0])) != 0)
        i++;
    if (asprintf(&key, "%s:%s", kinds[i][1], name) < 0)
        abort();
    free(name);
    return key;
}

cJSON *call_shown(const cJSON *document)
{
    cJSON *json = cJSON_Duplicate(document, 1), *next;
    for (cJSON *member = json ? json->child : NULL; member; member = next) {
        next = member->next;
        if (*member->string == '_')
            cJSON_Delete(cJSON_DetachItemViaPointer(json, member));
    }
    return json;
}

/* ---- lists ---- */

size_t call_page_size(const struct call *call, const char *parameter)
{
    int64_t wanted = call_number(call, parameter, 0);
    int64_t most = world_setting("pageSize");
    return (size_t)(wanted > 0 && wanted < most ? wanted : most);
}

/* Where the page begins: after the token's name. NULL: the token is not one of ours. */
static char *page_start(const struct call *call, const char *prefix)
{
    char *token = call_param(call, "pageToken");
    char *start = NULL;
    if (!token || !*token) {
        free(token);
        return strdup(prefix);
    }
    size_t size = 0;
    unsigned char *bytes = base64_bytes(token, &size);
    char epoch[32];
    int n = snprintf(epoch, sizeof epoch, "%lld ", (long long)world_setting("pageEpoch"));
    if (bytes && size > (size_t)n && memcmp(bytes, epoch, (size_t)n) == 0 &&
        strncmp((char *)bytes + n, prefix, strlen(prefix)) == 0 &&
        asprintf(&start, "%s\x01", bytes + n) < 0)
        abort();
    free(bytes);
    free(token);
    return start;
}

char *call_page_token(const char *name)
{
    char *text = NULL;
    int n = asprintf(&text, "%lld %s", (long long)world_setting("pageEpoch"), name);
    char *token = n < 0 ? NULL : base64_text(text, (size_t)n);
    for (char *p = token; p && *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    free(text);
    return token;
}

cJSON *call_list(struct call *call, const char *prefix, const char *field, call_show *show)
{
    char *start = page_start(call, prefix);
    if (!start)
        return call_fail(call, "INVALID_ARGUMENT", "The page token is invalid or has expired.");
    size_t left = call_page_size(call, "pageSize"), below = strlen(prefix);
    cJSON *json = cJSON_CreateObject(), *list = cJSON_CreateArray(), *document;
    const char *name, *last = NULL;
    for (size_t i = store_seek(start); (document = store_at_prefix(i, prefix, &name)); i++) {
        cJSON *item = strchr(name + below, '/') ? NULL : show(name, document);
        if (item && left == 0) {
            char *token = call_page_token(last);
            cJSON_AddStringToObject(json, "nextPageToken", token);
            free(token);
            cJSON_Delete(item);
            break;
        }
        if (item) {
            cJSON_AddItemToArray(list, item);
            last = name;
            left--;
        }
    }
    free(start);
    if (cJSON_GetArraySize(list))
        cJSON_AddItemToObject(json, field, list);
    else
        cJSON_Delete(list);
    return json;
}

cJSON *call_show_document(const char *name, cJSON *document)
{
    (void)name;
    return call_shown(document);
}

cJSON *call_list_below(struct call *call, const char *field)
{
    char *key = call_key(call), *prefix = NULL;
    if (asprintf(&prefix, "%s/", key) < 0)
        abort();
    cJSON *json = call_list(call, prefix, field, call_show_document);
    free(key);
    free(prefix);
    return json;
}

/* ---- JSON ---- */

const char *json_string(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

int64_t json_int(const cJSON *object, const char *name, int64_t otherwise)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(value)   ? (int64_t)value->valuedouble
           : cJSON_IsString(value) ? strtoll(value->valuestring, NULL, 10)
                                   : otherwise;
}

void json_set(cJSON *object, const char *name, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    if (value)
        cJSON_AddItemToObject(object, name, value);
}

void json_set_string(cJSON *object, const char *name, const char *value)
{
    json_set(object, name, cJSON_CreateString(value));
}

void json_set_int64(cJSON *object, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    json_set_string(object, name, text);
}

void json_set_number(cJSON *object, const char *name, double value)
{
    json_set(object, name, cJSON_CreateNumber(value));
}

void json_set_now(cJSON *object, const char *name)
{
    char text[40];
    store_time(store_now_ms(), text);
    json_set_string(object, name, text);
}

void json_merge(cJSON *to, const cJSON *from)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, from)
        json_set(to, member->string, cJSON_IsNull(member) ? NULL : cJSON_Duplicate(member, 1));
}

/* ---- bytes ---- */

char *base64_text(const void *data, size_t size)
{
    char *text = malloc(size / 3 * 4 + 8);
    EVP_EncodeBlock((unsigned char *)text, data, (int)size);
    return text;
}

unsigned char *base64_bytes(const char *text, size_t *ret_size)
{
    size_t len = strcspn(text, "="), padded = (len + 3) / 4 * 4;
    char *copy = malloc(padded + 1);
    unsigned char *out = malloc(padded / 4 * 3 + 1);
    for (size_t i = 0; i < padded; i++)
        copy[i] = i >= len ? '=' : text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    copy[padded] = '\0';
    int n = EVP_DecodeBlock(out, (unsigned char *)copy, (int)padded);
    free(copy);
    if (n < 0 || len % 4 == 1 || text[len + strspn(text + len, "=")]) {
        free(out);
        return NULL;
    }
    *ret_size = (size_t)n - (padded - len);
    out[*ret_size] = '\0';
    return out;
}

static uint32_t crc_table[8][256];

__attribute__((constructor)) static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78U : crc >> 1;
        crc_table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            crc_table[k][i] = crc_table[k - 1][i] >> 8 ^ crc_table[0][crc_table[k - 1][i] & 0xff];
}

#ifdef __x86_64__
/* The processor knows it: a gigabyte must not take long. */
__attribute__((target("sse4.2"))) static uint32_t
crc_by_processor(uint32_t crc, const unsigned char *p, size_t size)
{
    uint64_t sum = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        sum = __builtin_ia32_crc32di(sum, word);
    }
    crc = (uint32_t)sum;
    while (size--)
        crc = __builtin_ia32_crc32qi(crc, *p++);
    return ~crc;
}
#endif

/* Eight bytes a step. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return crc_by_processor(crc, p, size);
#endif
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= crc_table[7 - k][word >> 8 * k & 0xff];
    }
    while (size--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

void random_name(char *out, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char bytes[64];
    if (len > sizeof bytes || RAND_bytes(bytes, (int)len) != 1)
        abort();
    for (size_t i = 0; i < len; i++)
        out[i] = letters[bytes[i] % (i ? 36 : 26)];
    out[len] = '\0';
}
