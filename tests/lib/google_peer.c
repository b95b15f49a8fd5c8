#include "google_peer_inside.h"

#include "base/str.h"

#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void keep_last(struct google_peer *peer, const struct loopback_call *call, const char *body)
{
    pthread_mutex_lock(&peer->lock);
    free(peer->last);
    must(asprintf(&peer->last, "%s\r\n\r\n%s", call->head, body) >= 0, "last");
    pthread_mutex_unlock(&peer->lock);
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
    while (peer->holding)
        pthread_cond_wait(&peer->released, &peer->lock);
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

static bool handle(struct google_peer *peer, struct loopback_call *call,
                   const struct peer_fault *fault, bool authorized)
{
    size_t len;
    char *body = take_body(call, fault, &len);
    struct loopback_call muted = *call;
    bool keep;
    record(call, body);
    keep_last(peer, call, body);
    if (fault && fault->kind == PEER_LOSE)
        muted.fd = -1;
    bool of_storage = strstr(call->path, "/storage/v1/") != NULL;
    if (!authorized) {
        keep = bucket_error(call, 401, "authError");
    } else if (fault && fault->kind == PEER_ANSWER) {
        keep = loopback_answer(call, fault->status, fault->headers ? fault->headers : "",
                               fault->body ? fault->body : "");
    } else if (of_storage) {
        pthread_mutex_lock(&peer->lock);
        keep = bucket_serve(&peer->bucket, &muted, body, len, fault);
        pthread_mutex_unlock(&peer->lock);
    } else {
        keep = peer->other ? peer->other(&muted, body, peer->arg) : bucket_error(call, 404, "none");
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
        bucket_prepare(&peer->bucket, &fault);
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
    pthread_cond_init(&peer->released, NULL);
    peer->other = other;
    peer->arg = arg;
    peer->life = 3600;
    peer->token_status = 200;
    peer->bucket.generation = 1000;
    peer->log = calloc(1, LOG_MAX);
    peer->dir = strdup(dir);
    peer->server = loopback_start(serve, peer);
    peer->url = loopback_url(peer->server, "");
    peer->bucket.url = peer->url;
    peer->key = the_key(dir);
    write_key_file(peer);
    return peer;
}

void google_peer_stop(struct google_peer *peer)
{
    char *const remove[] = {"rm", "-rf", peer->dir, NULL};
    loopback_stop(peer->server);
    run(remove);
    bucket_done(&peer->bucket);
    pthread_mutex_destroy(&peer->lock);
    free(peer->token_question);
    free(peer->last);
    pthread_cond_destroy(&peer->released);
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

void google_peer_hold_tokens(struct google_peer *peer, bool hold)
{
    pthread_mutex_lock(&peer->lock);
    peer->holding = hold;
    pthread_cond_broadcast(&peer->released);
    pthread_mutex_unlock(&peer->lock);
}

char *google_peer_last(struct google_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    char *copy = strdup(peer->last ? peer->last : "");
    pthread_mutex_unlock(&peer->lock);
    must(copy != NULL, "last");
    return copy;
}

int google_peer_connections(struct google_peer *peer)
{
    return loopback_connections(peer->server);
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
    bucket_put(&peer->bucket, name, copy, len);
    pthread_mutex_unlock(&peer->lock);
}

char *google_peer_object(struct google_peer *peer, const char *name, size_t *ret_len)
{
    char *copy = NULL;
    pthread_mutex_lock(&peer->lock);
    const struct object *object = bucket_find(&peer->bucket, name);
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
    int count = peer->bucket.object_count;
    pthread_mutex_unlock(&peer->lock);
    return count;
}
