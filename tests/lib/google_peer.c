#include "google_peer.h"

#include "base/str.h"

#include <ctype.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OBJECTS_MAX = 256, SESSIONS_MAX = 64, FAULTS_MAX = 32, PAGE = 2, LOG_MAX = 1 << 20 };
#define UNIT ((size_t)256 << 10)

struct object {
    char *name;
    char *data;
    size_t len;
    long long generation;
};

struct session {
    char *name;
    long long wanted; /* generation; -1: any */
    char *data;
    size_t len;
    bool over, gone;
    long long generation; /* of what it became */
};

struct google_peer {
    struct loopback *server;
    peer_handler *other;
    void *arg;
    char *url, *dir, *key;
    pthread_mutex_t lock;
    struct object objects[OBJECTS_MAX];
    int object_count;
    struct session sessions[SESSIONS_MAX];
    int session_count;
    long long generation;
    struct peer_fault faults[FAULTS_MAX];
    int fault_count;
    char *log; /* "METHOD /path\n" of every request */
    size_t log_len;
    int tokens, revoked, life, token_status;
    const char *token_body;
    char *token_question;
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

/* ---- small things ---- */

static void decode(const char *from, size_t len, char *to)
{
    unsigned value;
    for (size_t i = 0; i < len; i++)
        if (from[i] == '%' && i + 2 < len + 0 && sscanf(from + i + 1, "%2x", &value) == 1) {
            *to++ = (char)value;
            i += 2;
        } else {
            *to++ = from[i];
        }
    *to = '\0';
}

/* The decoded value of a query parameter in fresh memory, or NULL. */
static char *query(const char *path, const char *name)
{
    size_t n = strlen(name);
    const char *at = strchr(path, '?');
    for (; at; at = strchr(at + 1, '&'))
        if (strncmp(at + 1, name, n) == 0 && at[1 + n] == '=') {
            const char *from = at + n + 2;
            size_t len = strcspn(from, "&");
            char *value = malloc(len + 1);
            must(value != NULL, "query");
            decode(from, len, value);
            return value;
        }
    return NULL;
}

static long long query_number(const char *path, const char *name, long long missing)
{
    char *text = query(path, name);
    long long value = text ? strtoll(text, NULL, 10) : missing;
    free(text);
    return value;
}

static struct object *find(struct google_peer *peer, const char *name)
{
    for (int i = 0; i < peer->object_count; i++)
        if (strcmp(peer->objects[i].name, name) == 0)
            return &peer->objects[i];
    return NULL;
}

/* Takes the data. */
static struct object *put_locked(struct google_peer *peer, const char *name, char *data, size_t len)
{
    struct object *object = find(peer, name);
    if (!object) {
        must(peer->object_count < OBJECTS_MAX, "objects");
        int at = peer->object_count++;
        for (; at > 0 && strcmp(peer->objects[at - 1].name, name) > 0; at--)
            peer->objects[at] = peer->objects[at - 1];
        object = &peer->objects[at];
        *object = (struct object){.name = strdup(name)};
    }
    free(object->data);
    object->data = data;
    object->len = len;
    object->generation = ++peer->generation;
    return object;
}

static void remove_locked(struct google_peer *peer, struct object *object)
{
    free(object->name);
    free(object->data);
    size_t after = (size_t)(&peer->objects[peer->object_count] - object) - 1;
    memmove(object, object + 1, after * sizeof(*object));
    peer->object_count--;
}

static void crc_text(const struct object *object, char text[16])
{
    struct buf out = BUF_INIT(16);
    uint32_t crc = google_crc32c_portable(0, object->data, object->len);
    const unsigned char b[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                (unsigned char)(crc >> 8), (unsigned char)crc};
    str_add_base64(&out, BASE64_STD, b, 4);
    snprintf(text, 16, "%s", buf_str(&out));
    buf_done(&out);
}

static void add_object(struct buf *out, const struct object *object)
{
    char crc[16];
    crc_text(object, crc);
    buf_adds(out, "{\"kind\":\"storage#object\",\"name\":\"");
    str_add_json(out, object->name, strlen(object->name));
    buf_addf(out,
             "\",\"bucket\":\"b\",\"generation\":\"%lld\",\"metageneration\":\"1\",\"size\":"
             "\"%zu\",\"crc32c\":\"%s\",\"updated\":\"2026-01-02T03:04:05.678Z\"}",
             object->generation, object->len, crc);
}

/* ---- answers ---- */

static bool answer_error(struct loopback_call *call, int status, const char *reason)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"error\":{\"code\":%d,\"message\":\"it is so\",\"errors\":[{\"message\":\"it is "
             "so\",\"domain\":\"global\",\"reason\":\"%s\"}]}}",
             status, reason);
    return loopback_answer(call, status, "Content-Type: application/json\r\n", body);
}

static bool answer_object(struct loopback_call *call, const struct object *object)
{
    struct buf body = BUF_INIT(8192);
    add_object(&body, object);
    bool sent = loopback_answer(call, 200, "Content-Type: application/json\r\n", buf_str(&body));
    buf_done(&body);
    return sent;
}

static bool matches(const struct object *object, long long wanted)
{
    return wanted < 0 || (object ? object->generation : 0) == wanted;
}

/* ---- Cloud Storage ---- */

static bool download(struct loopback_call *call, const struct object *object,
                     const struct peer_fault *fault)
{
    char text[64], crc[16], head[512];
    size_t from = 0, to = object->len;
    bool plain = fault && fault->kind == PEER_PLAIN;
    bool ranged = !plain && loopback_header(call, "Range", text, sizeof text) &&
                  sscanf(text, "bytes=%zu-%zu", &from, &to) >= 1;
    if (ranged && from >= object->len) {
        snprintf(head, sizeof head, "Content-Range: bytes */%zu\r\n", object->len);
        return loopback_answer(call, 416, head, "");
    }
    to = !ranged ? object->len : strchr(text, '\0')[-1] == '-' ? object->len : to + 1;
    to = to < object->len ? to : object->len;
    crc_text(object, crc);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d Test\r\nContent-Length: %zu\r\n",
                     ranged ? 206 : 200, to - from);
    if (ranged)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Range: bytes %zu-%zu/%zu\r\n",
                      from, to - 1, object->len);
    if (!plain)
        n += snprintf(head + n, sizeof head - (size_t)n,
                      "X-Goog-Generation: %lld\r\nX-Goog-Hash: md5=AAAA\r\nX-Goog-Hash: "
                      "crc32c=%s\r\n",
                      object->generation, crc);
    snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    size_t len = to - from;
    if (fault && fault->kind == PEER_CUT_ANSWER && fault->bytes < len)
        len = fault->bytes;
    char *data = malloc(len + 1);
    must(data != NULL, "download");
    memcpy(data, object->data + from, len);
    if (fault && fault->kind == PEER_SPOIL && len > 0)
        data[len / 2] ^= 1;
    bool sent = loopback_text(call, head) && loopback_send(call, data, len);
    free(data);
    return sent && !(fault && fault->kind == PEER_CUT_ANSWER);
}

static bool list(struct google_peer *peer, struct loopback_call *call)
{
    struct buf body = BUF_INIT(1 << 20);
    char *prefix = query(call->path, "prefix"), *start = query(call->path, "startOffset");
    char *token = query(call->path, "pageToken");
    long long max = query_number(call->path, "maxResults", PAGE);
    int count = 0;
    const char *more = NULL;
    max = max < PAGE ? max : PAGE;
    buf_adds(&body, "{\"kind\":\"storage#objects\"");
    for (int i = 0; i < peer->object_count && !more; i++) {
        const struct object *object = &peer->objects[i];
        if ((prefix && strncmp(object->name, prefix, strlen(prefix)) != 0) ||
            (start && strcmp(object->name, start) < 0) ||
            (token && strcmp(object->name, token) < 0))
            continue;
        if (count == max) {
            more = object->name;
            continue;
        }
        buf_adds(&body, count++ ? "," : ",\"items\":[");
        add_object(&body, object);
    }
    buf_adds(&body, count ? "]" : "");
    if (more)
        buf_addf(&body, ",\"nextPageToken\":\"%s\"", more);
    buf_adds(&body, "}");
    free(prefix);
    free(start);
    free(token);
    bool sent = loopback_answer(call, 200, "Content-Type: application/json\r\n", buf_str(&body));
    buf_done(&body);
    return sent;
}

/* Names in order of "name":"…" within sourceObjects. */
static bool compose(struct google_peer *peer, struct loopback_call *call, const char *name,
                    const char *body)
{
    struct buf data = BUF_INIT(64 << 20);
    const char *end = strstr(body, "\"destination\"");
    if (!matches(find(peer, name), query_number(call->path, "ifGenerationMatch", -1)))
        return answer_error(call, 412, "conditionNotMet");
    for (const char *at = body; (at = strstr(at, "\"name\":\"")) && at < end;) {
        char source[512];
        at += 8;
        snprintf(source, sizeof source, "%.*s", (int)strcspn(at, "\""), at);
        const struct object *object = find(peer, source);
        if (!object)
            return answer_error(call, 404, "notFound");
        buf_add(&data, object->data, object->len);
    }
    size_t len = data.len;
    return answer_object(call, put_locked(peer, name, buf_steal(&data), len));
}

static bool on_object(struct google_peer *peer, struct loopback_call *call, const char *name,
                      const char *body, const struct peer_fault *fault)
{
    struct object *object = find(peer, name);
    long long wanted = query_number(call->path, "ifGenerationMatch", -1);
    if (strcmp(call->method, "POST") == 0)
        return compose(peer, call, name, body);
    if (!object)
        return answer_error(call, 404, "notFound");
    if (!matches(object, wanted))
        return answer_error(call, 412, "conditionNotMet");
    if (strcmp(call->method, "DELETE") == 0) {
        remove_locked(peer, object);
        return loopback_text(call, "HTTP/1.1 204 Test\r\n\r\n");
    }
    return strstr(call->path, "alt=media") ? download(call, object, fault)
                                           : answer_object(call, object);
}

/* ---- uploads ---- */

static bool has_right_hash(struct loopback_call *call, const struct object *object)
{
    char crc[16], sent[64];
    crc_text(object, crc);
    return !loopback_header(call, "X-Goog-Hash", sent, sizeof sent) || strstr(sent, crc);
}

static bool upload_at_once(struct google_peer *peer, struct loopback_call *call, const char *body,
                           size_t len, const struct peer_fault *fault)
{
    char *name = query(call->path, "name");
    bool sent = false;
    char *data = malloc(len + 1);
    must(name && data, "upload");
    memcpy(data, body, len);
    const struct object probe = {.data = data, .len = len};
    if (!matches(find(peer, name), query_number(call->path, "ifGenerationMatch", -1))) {
        free(data);
        sent = answer_error(call, 412, "conditionNotMet");
    } else if (!has_right_hash(call, &probe)) {
        free(data);
        sent = answer_error(call, 400, "invalid");
    } else {
        if (fault && fault->kind == PEER_SPOIL && len > 0)
            data[len / 2] ^= 1;
        sent = answer_object(call, put_locked(peer, name, data, len));
    }
    free(name);
    return sent;
}

static bool upload_begin(struct google_peer *peer, struct loopback_call *call)
{
    char head[256];
    must(peer->session_count < SESSIONS_MAX, "sessions");
    char *name = query(call->path, "name");
    long long wanted = query_number(call->path, "ifGenerationMatch", -1);
    if (!matches(find(peer, name), wanted)) {
        free(name);
        return answer_error(call, 412, "conditionNotMet");
    }
    peer->sessions[peer->session_count] = (struct session){.name = name, .wanted = wanted};
    snprintf(head, sizeof head,
             "Location: %s/upload/storage/v1/b/b/o?uploadType=resumable&upload_id=%d\r\n",
             peer->url, peer->session_count++);
    return loopback_answer(call, 200, head, "");
}

static bool upload_stands(struct loopback_call *call, const struct session *session)
{
    char head[64] = "";
    if (session->len > 0)
        snprintf(head, sizeof head, "Range: bytes=0-%zu\r\n", session->len - 1);
    return loopback_answer(call, 308, head, "");
}

/* What it stores of a piece: all of the last, else whole units. */
static bool upload_piece(struct google_peer *peer, struct loopback_call *call, const char *body,
                         size_t len, const struct peer_fault *fault)
{
    struct session *s = &peer->sessions[query_number(call->path, "upload_id", 0)];
    char range[96] = "";
    long long first = -1, last = -1, total = -1;
    loopback_header(call, "Content-Range", range, sizeof range);
    if (s->gone)
        return answer_error(call, 410, "gone");
    if (sscanf(range, "bytes %lld-%lld/%lld", &first, &last, &total) < 2)
        sscanf(range, "bytes */%lld", &total);
    bool cut = fault && fault->kind == PEER_CUT_REQUEST;
    if (first >= 0 && first != (long long)s->len)
        return answer_error(call, 400, "invalidRange");
    if (!cut && first >= 0 && (long long)len != last - first + 1)
        return answer_error(call, 400, "invalidLength");
    if (!cut && total < 0 && first >= 0 && len % UNIT != 0)
        return answer_error(call, 400, "invalidUnit");
    size_t take = cut ? len / UNIT * UNIT : len;
    if (s->over)
        take = 0;
    s->data = realloc(s->data, s->len + take + 1);
    must(s->data != NULL, "upload");
    memcpy(s->data + s->len, body, take);
    s->len += take;
    if (cut)
        return false;
    if (s->over || total < 0 || (long long)s->len < total) {
        struct object *made = s->over ? find(peer, s->name) : NULL;
        return made ? answer_object(call, made) : upload_stands(call, s);
    }
    if (!matches(find(peer, s->name), s->wanted))
        return answer_error(call, 412, "conditionNotMet");
    if (fault && fault->kind == PEER_SPOIL)
        s->data[s->len / 2] ^= 1;
    s->over = true;
    return answer_object(call, put_locked(peer, s->name, s->data, s->len));
}

/* ---- requests ---- */

static void record(const struct loopback_call *call, const char *body)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const char *path = getenv("CR_GOOGLE_RECORD");
    char type[64] = "";
    if (!path)
        return;
    loopback_header(call, "Content-Type", type, sizeof type);
    pthread_mutex_lock(&lock);
    FILE *file = fopen(path, "ae");
    must(file != NULL, path);
    fprintf(file, "{\"method\":\"%s\",\"url\":\"%s\",\"body\":%s}\n", call->method, call->path,
            strcmp(type, "application/json") == 0 && *body ? body : "null");
    fclose(file);
    pthread_mutex_unlock(&lock);
}

static bool take_fault(struct google_peer *peer, const char *line, struct peer_fault *ret_fault)
{
    for (int i = 0; i < peer->fault_count; i++) {
        struct peer_fault *fault = &peer->faults[i];
        if (!strstr(line, fault->match))
            continue;
        if (fault->skip-- > 0)
            return false;
        *ret_fault = *fault;
        if (--fault->times <= 0) {
            memmove(fault, fault + 1, (size_t)(--peer->fault_count - i) * sizeof(*fault));
        } else {
            fault->skip = 0;
        }
        return true;
    }
    return false;
}

static void log_request(struct google_peer *peer, const char *line)
{
    size_t len = strlen(line);
    must(peer->log_len + len + 2 < LOG_MAX, "log");
    memcpy(peer->log + peer->log_len, line, len);
    peer->log_len += len;
    peer->log[peer->log_len++] = '\n';
    peer->log[peer->log_len] = '\0';
}

static bool give_token(struct google_peer *peer, struct loopback_call *call)
{
    char body[256];
    char *question = loopback_body(call);
    pthread_mutex_lock(&peer->lock);
    free(peer->token_question);
    peer->token_question = question;
    int status = peer->token_status;
    if (peer->token_body)
        snprintf(body, sizeof body, "%s", peer->token_body);
    else
        snprintf(body, sizeof body,
                 "{\"access_token\":\"ya29.token-%d-of-the-test\",\"expires_in\":%d,\"token_type\":"
                 "\"Bearer\"}",
                 ++peer->tokens, peer->life);
    pthread_mutex_unlock(&peer->lock);
    return loopback_answer(call, status, "Metadata-Flavor: Google\r\n", body);
}

static bool is_authorized(struct google_peer *peer, const struct loopback_call *call)
{
    char text[256] = "";
    int number = 0;
    loopback_header(call, "Authorization", text, sizeof text);
    return sscanf(text, "Bearer ya29.token-%d-of-the-test", &number) == 1 &&
           number > peer->revoked && number <= peer->tokens;
}

/* The whole body, or so much of it as a fault lets in. */
static char *take_body(struct loopback_call *call, const struct peer_fault *fault, size_t *ret_len)
{
    size_t room = fault && fault->kind == PEER_CUT_REQUEST ? fault->bytes : (size_t)1 << 30;
    size_t len = 0, cap = 65536;
    char *data = malloc(cap + 1);
    ssize_t n;
    must(data != NULL, "body");
    while (len < room && (n = loopback_read(call, data + len,
                                            cap - len < room - len ? cap - len : room - len)) > 0) {
        len += (size_t)n;
        if (len == cap)
            data = realloc(data, (cap *= 2) + 1);
        must(data != NULL, "body");
    }
    data[len] = '\0';
    *ret_len = len;
    return data;
}

static void prepare_locked(struct google_peer *peer, const struct peer_fault *fault)
{
    for (int i = 0; i < peer->session_count && fault->kind == PEER_FORGET; i++)
        peer->sessions[i].gone = true;
    for (int i = 0; i < peer->object_count && fault->kind == PEER_REPLACE; i++)
        peer->objects[i].generation = ++peer->generation;
}

static bool storage(struct google_peer *peer, struct loopback_call *call, const char *body,
                    size_t len, const struct peer_fault *fault)
{
    static const char base[] = "/storage/v1/b/b/o";
    char name[4096];
    if (strncmp(call->path, "/upload/", 8) == 0) {
        if (strcmp(call->method, "PUT") == 0)
            return upload_piece(peer, call, body, len, fault);
        return strstr(call->path, "uploadType=media") ? upload_at_once(peer, call, body, len, fault)
                                                      : upload_begin(peer, call);
    }
    if (strncmp(call->path, base, sizeof base - 1) != 0)
        return answer_error(call, 404, "notFound");
    const char *from = call->path + sizeof base - 1;
    if (*from != '/')
        return list(peer, call);
    decode(from + 1, strcspn(from + 1, "/?"), name);
    return on_object(peer, call, name, body, fault);
}

static bool handle(struct google_peer *peer, struct loopback_call *call,
                   const struct peer_fault *fault, bool authorized)
{
    size_t len;
    char *body = take_body(call, fault, &len);
    struct loopback_call muted = *call;
    bool keep;
    record(call, body);
    if (fault && fault->kind == PEER_LOSE)
        muted.fd = -1;
    bool of_storage = strstr(call->path, "/storage/v1/") != NULL;
    if (!authorized) {
        keep = answer_error(call, 401, "authError");
    } else if (fault && fault->kind == PEER_ANSWER) {
        keep = loopback_answer(call, fault->status, fault->headers ? fault->headers : "",
                               fault->body ? fault->body : "");
    } else if (of_storage) {
        pthread_mutex_lock(&peer->lock);
        keep = storage(peer, &muted, body, len, fault);
        pthread_mutex_unlock(&peer->lock);
    } else {
        keep = peer->other ? peer->other(&muted, body, peer->arg) : answer_error(call, 404, "none");
    }
    free(body);
    return keep && !(fault && fault->kind == PEER_LOSE);
}

static bool serve(struct loopback_call *call, void *arg)
{
    struct google_peer *peer = arg;
    struct peer_fault fault;
    char line[4200];
    bool token = strncmp(call->path, "/token", 6) == 0 || strstr(call->path, "/computeMetadata/");
    snprintf(line, sizeof line, "%s %s", token ? "TOKEN" : call->method, call->path);
    pthread_mutex_lock(&peer->lock);
    log_request(peer, line);
    bool faulty = take_fault(peer, line, &fault);
    if (faulty)
        prepare_locked(peer, &fault);
    bool authorized = is_authorized(peer, call);
    pthread_mutex_unlock(&peer->lock);
    if (faulty && fault.kind == PEER_SILENT)
        return !loopback_await_close(call, 60000);
    if (token)
        return give_token(peer, call);
    return handle(peer, call, faulty ? &fault : NULL, authorized);
}

/* ---- start and stop ---- */

static void run(char *const argv[])
{
    pid_t pid;
    int status = -1;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", 1, 0);
    must(posix_spawnp(&pid, argv[0], &files, NULL, argv, environ) == 0, argv[0]);
    posix_spawn_file_actions_destroy(&files);
    must(waitpid(pid, &status, 0) == pid && status == 0, argv[0]);
}

/* One for all peers of the program: making it takes a while. */
static char *the_key(const char *dir)
{
    static char *key;
    char path[64], text[8192];
    struct buf out = BUF_INIT(16384);
    if (key)
        return key;
    snprintf(path, sizeof path, "%s/key.pem", dir);
    char *const make[] = {"openssl", "genrsa", "-out", path, "2048", NULL};
    run(make);
    FILE *file = fopen(path, "re");
    must(file != NULL, path);
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    str_add_json(&out, text, n);
    return key = buf_steal(&out);
}

static void write_key_file(const struct google_peer *peer)
{
    char path[256];
    snprintf(path, sizeof path, "%s/key.json", peer->dir);
    FILE *file = fopen(path, "we");
    must(file != NULL, path);
    fprintf(file,
            "{\"type\":\"service_account\",\"project_id\":\"p\",\"private_key_id\":\"k1\","
            "\"private_key\":\"%s\",\"client_email\":\"runner@p.iam.gserviceaccount.com\","
            "\"token_uri\":\"%s/token\"}",
            peer->key, peer->url);
    fclose(file);
}

struct google_peer *google_peer_start(peer_handler *other, void *arg)
{
    char dir[] = "/tmp/google-peer-XXXXXX";
    struct google_peer *peer = calloc(1, sizeof *peer);
    must(peer && mkdtemp(dir), "peer");
    pthread_mutex_init(&peer->lock, NULL);
    peer->other = other;
    peer->arg = arg;
    peer->life = 3600;
    peer->token_status = 200;
    peer->generation = 1000;
    peer->log = calloc(1, LOG_MAX);
    peer->dir = strdup(dir);
    peer->server = loopback_start(serve, peer);
    peer->url = loopback_url(peer->server, "");
    peer->key = the_key(dir);
    write_key_file(peer);
    return peer;
}

void google_peer_stop(struct google_peer *peer)
{
    char *const remove[] = {"rm", "-rf", peer->dir, NULL};
    loopback_stop(peer->server);
    run(remove);
    while (peer->object_count > 0)
        remove_locked(peer, &peer->objects[0]);
    for (int i = 0; i < peer->session_count; i++) {
        free(peer->sessions[i].name);
        if (!peer->sessions[i].over)
            free(peer->sessions[i].data);
    }
    pthread_mutex_destroy(&peer->lock);
    free(peer->token_question);
    free(peer->log);
    free(peer->url);
    free(peer->dir);
    free(peer);
}

const char *google_peer_url(const struct google_peer *peer)
{
    return peer->url;
}

const char *google_peer_dir(const struct google_peer *peer)
{
    return peer->dir;
}

const char *google_peer_key(const struct google_peer *peer)
{
    return peer->key;
}

struct google *google_peer_client(struct google_peer *peer)
{
    struct err err = ERR_INIT;
    char path[256];
    struct google_config config = {.credentials = path};
    snprintf(path, sizeof path, "%s/key.json", peer->dir);
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        config.endpoints[i] = peer->url;
    struct google *google = google_new(&config, &err);
    must(google != NULL, err.msg);
    return google;
}

/* ---- what tests ask and set ---- */

void google_peer_fault(struct google_peer *peer, const struct peer_fault *fault)
{
    pthread_mutex_lock(&peer->lock);
    must(peer->fault_count < FAULTS_MAX, "faults");
    peer->faults[peer->fault_count++] = *fault;
    pthread_mutex_unlock(&peer->lock);
}

int google_peer_faults_left(struct google_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    int count = peer->fault_count;
    pthread_mutex_unlock(&peer->lock);
    return count;
}

int google_peer_count(struct google_peer *peer, const char *match)
{
    int count = 0;
    pthread_mutex_lock(&peer->lock);
    for (const char *line = peer->log, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        count += memmem(line, (size_t)(end - line), match, strlen(match)) != NULL;
    }
    pthread_mutex_unlock(&peer->lock);
    return count;
}

int google_peer_tokens(struct google_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    int tokens = peer->tokens;
    pthread_mutex_unlock(&peer->lock);
    return tokens;
}

void google_peer_set_life(struct google_peer *peer, int seconds)
{
    pthread_mutex_lock(&peer->lock);
    peer->life = seconds;
    pthread_mutex_unlock(&peer->lock);
}

void google_peer_set_token_answer(struct google_peer *peer, int status, const char *body)
{
    pthread_mutex_lock(&peer->lock);
    peer->token_status = body ? status : 200;
    peer->token_body = body;
    pthread_mutex_unlock(&peer->lock);
}

void google_peer_revoke(struct google_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    peer->revoked = peer->tokens;
    pthread_mutex_unlock(&peer->lock);
}

char *google_peer_token_question(struct google_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    char *copy = peer->token_question ? strdup(peer->token_question) : NULL;
    pthread_mutex_unlock(&peer->lock);
    return copy;
}

void google_peer_put(struct google_peer *peer, const char *name, const void *data, size_t len)
{
    char *copy = malloc(len + 1);
    must(copy != NULL, "object");
    memcpy(copy, data, len);
    pthread_mutex_lock(&peer->lock);
    put_locked(peer, name, copy, len);
    pthread_mutex_unlock(&peer->lock);
}

char *google_peer_object(struct google_peer *peer, const char *name, size_t *ret_len)
{
    char *copy = NULL;
    pthread_mutex_lock(&peer->lock);
    const struct object *object = find(peer, name);
    if (object && (copy = malloc(object->len + 1))) {
        memcpy(copy, object->data, object->len);
        *ret_len = object->len;
    }
    pthread_mutex_unlock(&peer->lock);
    return copy;
}

int google_peer_objects(struct google_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    int count = peer->object_count;
    pthread_mutex_unlock(&peer->lock);
    return count;
}
