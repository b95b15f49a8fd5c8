/* Cloud Storage: what is asked of objects. */
#include "google_objects.h"

#include "google_world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COPY_SIZE = 65536, COMPOSE_MAX = 32 };

/* The object of the path; NULL after a refusal. */
static cJSON *find(struct call *call)
{
    if (!object_bucket(call, call->args[0]))
        return NULL;
    cJSON *object = store_getf("gcs:o/%s/%s", call->args[0], call->args[1]);
    int64_t generation = call_number(call, "generation", -1);
    if (!object || (generation >= 0 && generation != json_int(object, "generation", 0))) {
        call_fail(call, "NOT_FOUND", "No such object: %.200s/%.500s", call->args[0], call->args[1]);
        return NULL;
    }
    return object_preconditions(call, object) ? object : NULL;
}

/* ---- reading ---- */

struct range {
    int64_t from, to; /* to: behind the last */
    bool partial;
};

/* False when nothing of the object lies in the range that was asked for. */
static bool find_range(const struct call *call, int64_t size, struct range *range)
{
    const char *header = server_header(call->req, "range");
    long long from, to;
    *range = (struct range){.to = size};
    if (!header || strncmp(header, "bytes=", 6) != 0 || strchr(header, ','))
        return true;
    range->partial = true;
    int n = sscanf(header + 6, "%lld-%lld", &from, &to);
    if (n < 1)
        return !(range->partial = false);
    if (n == 1 && from < 0) { /* the last bytes */
        range->from = size + from < 0 ? 0 : size + from;
        return size > 0;
    }
    range->from = from;
    if (n == 2 && to + 1 < size)
        range->to = to + 1;
    return from < size && range->from < range->to;
}

static void media_headers(struct call *call, const cJSON *object, const struct range *range,
                          int64_t size)
{
    const char *type = json_string(object, "contentType");
    const char *crc = call->wrong_crc ? "AAAAAA==" : json_string(object, "crc32c");
    call_header(call, "Content-Type: %.200s\r\nETag: %s\r\nAccept-Ranges: bytes\r\n",
                *type ? type : "application/octet-stream", json_string(object, "etag"));
    call_header(call,
                "X-Goog-Generation: %s\r\nX-Goog-Metageneration: %s\r\n"
                "X-Goog-Hash: crc32c=%s\r\nX-Goog-Storage-Class: %s\r\n"
                "X-Goog-Stored-Content-Encoding: identity\r\n"
                "X-Goog-Stored-Content-Length: %lld\r\n",
                json_string(object, "generation"), json_string(object, "metageneration"), crc,
                json_string(object, "storageClass"), (long long)size);
    if (range->partial)
        call_header(call, "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)range->from,
                    (long long)range->to - 1, (long long)size);
}

static void send_bytes(struct call *call, int fd, const struct range *range)
{
    char piece[COPY_SIZE];
    int64_t at = range->from, cut = call->cut_body_at < 0 ? INT64_MAX : call->cut_body_at;
    while (at < range->to && at - range->from < cut) {
        int64_t want = range->to - at < COPY_SIZE ? range->to - at : COPY_SIZE;
        want = want < cut - (at - range->from) ? want : cut - (at - range->from);
        ssize_t n = pread(fd, piece, (size_t)want, at);
        if (n <= 0 || !server_send(call->conn, piece, (size_t)n))
            break;
        at += n;
    }
    if (at < range->to)
        server_cut(call->conn);
}

/* Sends the bytes after the lock is given back. */
static cJSON *serve_media(struct call *call, const cJSON *object)
{
    int64_t size = json_int(object, "size", 0);
    struct range range;
    char *path = store_path("data/%s", json_string(object, "generation"));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool some = find_range(call, size, &range);
    free(path);
    if (fd < 0 || !some) {
        if (fd >= 0)
            close(fd);
        call_header(call, "Content-Range: bytes */%lld\r\n", (long long)size);
        return call_fail(call, fd < 0 ? "INTERNAL" : "RANGE",
                         fd < 0 ? "The object's bytes are lost." : "Request range not satisfiable");
    }
    media_headers(call, object, &range, size);
    call->status = range.partial ? 206 : 200;
    call->sent = true;
    store_unlock();
    if (!call->lose_answer) {
        server_start(call->conn, call->status, call->headers, (size_t)(range.to - range.from));
        send_bytes(call, fd, &range);
    }
    close(fd);
    store_lock();
    return NULL;
}

static cJSON *get(struct call *call)
{
    char *alt = call_param(call, "alt");
    bool media = alt && strcmp(alt, "media") == 0;
    free(alt);
    cJSON *object = find(call);
    if (!object)
        return NULL;
    return media ? serve_media(call, object) : cJSON_Duplicate(object, 1);
}

/* ---- lists ---- */

struct listing {
    char *prefix, *delimiter, *start, *end, *token;
    size_t left;
    cJSON *items, *prefixes;
    const char *last; /* name that the next page begins after */
    char *common;     /* the last common prefix */
    bool more;
};

/* The common prefix that a name falls under, in fresh memory, or NULL. */
static char *common_prefix(const struct listing *list, const char *name)
{
    size_t skip = list->prefix ? strlen(list->prefix) : 0;
    const char *hit =
        list->delimiter && *list->delimiter ? strstr(name + skip, list->delimiter) : NULL;
    return hit ? strndup(name, (size_t)(hit - name) + strlen(list->delimiter)) : NULL;
}

/* False when the page is full. */
static bool list_one(struct listing *list, const char *name, const cJSON *object)
{
    char *common = common_prefix(list, name);
    if (common && list->common && strcmp(common, list->common) == 0) {
        free(common);
        list->last = name;
        return true;
    }
    if (list->left == 0) {
        free(common);
        list->more = true;
        return false;
    }
    list->left--;
    list->last = name;
    if (!common) {
        cJSON_AddItemToArray(list->items, cJSON_Duplicate(object, 1));
        return true;
    }
    cJSON_AddItemToArray(list->prefixes, cJSON_CreateString(common));
    free(list->common);
    list->common = common;
    return true;
}

/* Where to begin, after the token, the offset and the prefix; false: the token is not ours. */
static bool list_begin(struct listing *list, char **ret_from)
{
    const char *from = list->prefix ? list->prefix : "";
    if (list->start && strcmp(list->start, from) > 0)
        from = list->start;
    *ret_from = NULL;
    if (!list->token || !*list->token) {
        *ret_from = strdup(from);
        return true;
    }
    size_t size = 0;
    unsigned char *bytes = base64_bytes(list->token, &size);
    char epoch[32];
    int n = snprintf(epoch, sizeof epoch, "%lld ", (long long)world_setting("pageEpoch"));
    bool good = bytes && strncmp((char *)bytes, epoch, (size_t)n) == 0;
    if (good && asprintf(ret_from, "%s\x01", bytes + n) < 0)
        abort();
    free(bytes);
    return good;
}

static void list_walk(const struct call *call, struct listing *list, const char *from)
{
    char *below = NULL, *place = NULL;
    const char *name;
    const cJSON *object;
    if (asprintf(&below, "gcs:o/%s/", call->args[0]) < 0 ||
        asprintf(&place, "%s%s", below, from) < 0)
        abort();
    size_t skip = strlen(below);
    char *token_common = list->token && *list->token ? common_prefix(list, from) : NULL;
    list->common = token_common; /* what the page before has shown */
    for (size_t i = store_seek(place); (object = store_at_prefix(i, below, &name)); i++) {
        name += skip;
        if (list->end && *list->end && strcmp(name, list->end) >= 0)
            break;
        if (list->prefix && strncmp(name, list->prefix, strlen(list->prefix)) != 0)
            break;
        if (!list_one(list, name, object))
            break;
    }
    free(below);
    free(place);
}

static cJSON *list_json(struct listing *list)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "kind", "storage#objects");
    if (list->more) {
        char *token = call_page_token(list->last);
        cJSON_AddStringToObject(json, "nextPageToken", token);
        free(token);
    }
    if (cJSON_GetArraySize(list->prefixes))
        cJSON_AddItemToObject(json, "prefixes", list->prefixes);
    else
        cJSON_Delete(list->prefixes);
    if (cJSON_GetArraySize(list->items))
        cJSON_AddItemToObject(json, "items", list->items);
    else
        cJSON_Delete(list->items);
    return json;
}

static cJSON *list(struct call *call)
{
    if (!object_bucket(call, call->args[0]))
        return NULL;
    struct listing list = {
        .prefix = call_param(call, "prefix"),
        .delimiter = call_param(call, "delimiter"),
        .start = call_param(call, "startOffset"),
        .end = call_param(call, "endOffset"),
        .token = call_param(call, "pageToken"),
        .left = call_page_size(call, "maxResults"),
        .items = cJSON_CreateArray(),
        .prefixes = cJSON_CreateArray(),
    };
    char *from;
    bool good = list_begin(&list, &from);
    if (good)
        list_walk(call, &list, from);
    cJSON *json = list_json(&list);
    if (!good) {
        cJSON_Delete(json);
        json = call_fail(call, "INVALID_ARGUMENT", "Invalid page token.");
    }
    free(from);
    free(list.prefix);
    free(list.delimiter);
    free(list.start);
    free(list.end);
    free(list.token);
    free(list.common);
    return json;
}

/* ---- changes ---- */

static cJSON *patch(struct call *call)
{
    cJSON *object = find(call);
    if (!object)
        return NULL;
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(call->body, "metadata");
    cJSON *kept = cJSON_GetObjectItemCaseSensitive(object, "metadata");
    cJSON *merged = kept ? cJSON_Duplicate(kept, 1) : cJSON_CreateObject();
    json_merge(merged, meta);
    object_take_meta(object, call->body);
    json_set(object, "metadata", merged);
    json_set_int64(object, "metageneration", json_int(object, "metageneration", 1) + 1);
    json_set_now(object, "updated");
    char key[1200];
    snprintf(key, sizeof key, "gcs:o/%s/%s", call->args[0], call->args[1]);
    store_put(key, object);
    return cJSON_Duplicate(object, 1);
}

static cJSON *delete (struct call *call)
{
    const cJSON *object = find(call);
    char key[1200];
    if (!object)
        return NULL;
    object_remove_bytes(object);
    snprintf(key, sizeof key, "gcs:o/%s/%s", call->args[0], call->args[1]);
    store_delete(key);
    call->status = 204;
    call->sent = true;
    if (!call->lose_answer)
        server_reply(call->conn, 204, "", "", 0);
    return NULL;
}

/* Opens the sources of a composition; how many, or -1 after a refusal. */
static int open_sources(struct call *call, const cJSON *sources, int fds[COMPOSE_MAX])
{
    int n = 0;
    const cJSON *source;
    cJSON_ArrayForEach(source, sources)
    {
        const char *name = json_string(source, "name");
        const cJSON *object = store_getf("gcs:o/%s/%s", call->args[0], name);
        const cJSON *wish = cJSON_GetObjectItemCaseSensitive(source, "objectPreconditions");
        int64_t has = json_int(object, "generation", -1);
        int64_t generation = json_int(source, "generation", has);
        if (!object || generation != has)
            call_fail(call, "NOT_FOUND", "Object %.200s (generation: %lld) not found.", name,
                      (long long)generation);
        else if (json_int(wish, "ifGenerationMatch", has) != has)
            object_not_met(call);
        char *path = store_path("data/%s", json_string(object, "generation"));
        fds[n] = call->sent ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        free(path);
        if (fds[n] < 0)
            break;
        n++;
    }
    if (n == cJSON_GetArraySize(sources))
        return n;
    while (n)
        close(fds[--n]);
    return -1;
}

static void copy_sources(struct object_bytes *bytes, const int *fds, int n)
{
    char piece[COPY_SIZE];
    for (int i = 0; i < n; i++) {
        ssize_t got;
        for (int64_t at = 0; (got = pread(fds[i], piece, sizeof piece, at)) > 0; at += got)
            if (!object_bytes_add(bytes, piece, (size_t)got))
                abort();
        close(fds[i]);
    }
}

static cJSON *compose(struct call *call)
{
    const cJSON *sources = cJSON_GetObjectItemCaseSensitive(call->body, "sourceObjects");
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(call->body, "destination");
    int fds[COMPOSE_MAX], n = cJSON_GetArraySize(sources);
    char id[17];
    struct object_bytes bytes;
    if (!object_bucket(call, call->args[0]))
        return NULL;
    if (n < 1 || n > COMPOSE_MAX)
        return call_fail(call, "INVALID_ARGUMENT",
                         "The number of source components provided (%d) must be between 1 and 32.",
                         n);
    if ((n = open_sources(call, sources, fds)) < 0)
        return call->sent ? NULL : call_fail(call, "INTERNAL", "An object's bytes are lost.");
    random_name(id, 16);
    if (!object_bytes_open(call, id, &bytes))
        abort();
    store_unlock();
    copy_sources(&bytes, fds, n);
    store_lock();
    cJSON *object = object_commit(call, call->args[0], call->args[1], meta, &bytes);
    object_bytes_done(&bytes, false);
    json_set_number(object, "componentCount", n);
    return object;
}

const struct call_row google_object_rows[] = {
    {"storage.objects.get", "storage.objects.get", get, false},
    {"storage.objects.list", "storage.objects.list", list, false},
    {"storage.objects.patch", "storage.objects.update", patch, false},
    {"storage.objects.delete", "storage.objects.delete", delete, false},
    {"storage.objects.compose", "storage.objects.create", compose, false},
    {0},
};
