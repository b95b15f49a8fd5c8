#include "runner/client/inputs.h"

#include "base/auto.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/str.h"
#include "pack/bundle.h"
#include "runner/client/download.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SILENCE_MS 60000
#define PROBLEM_MAX (1u << 20)

/* What is known about one path or one digest. */
struct entry {
    struct entry *next;
    char *name;
    bool ready;
    struct err err; /* code ERR_NONE: it succeeded */
    char digest[INPUTS_DIGEST_SIZE];
};

struct client_inputs {
    const struct settings *to;
    bool gitignore;
    struct lock lock;
    pthread_cond_t changed;
    struct entry *paths, *digests;
    struct inputs_count count;
};

struct client_inputs *client_inputs_new(const struct settings *to, bool gitignore, struct err *err)
{
    struct client_inputs *inputs = calloc(1, sizeof(*inputs));
    if (!inputs) {
        err_sys(err, "inputs");
        return NULL;
    }
    inputs->to = to;
    inputs->gitignore = gitignore;
    lock_init(&inputs->lock);
    cond_init(&inputs->changed);
    return inputs;
}

static void free_entries(struct entry *entry)
{
    while (entry) {
        struct entry *next = entry->next;
        free(entry->name);
        free(entry);
        entry = next;
    }
}

void client_inputs_free(struct client_inputs *inputs)
{
    if (!inputs)
        return;
    free_entries(inputs->paths);
    free_entries(inputs->digests);
    pthread_cond_destroy(&inputs->changed);
    lock_done(&inputs->lock);
    free(inputs);
}

/* The entry of that name. *ret_mine: it is new, and the caller must complete it; else it is
 * complete when this returns. NULL when memory ran out. */
static struct entry *enter(struct client_inputs *inputs, struct entry **list, const char *name,
                           bool *ret_mine)
{
    lock_take(&inputs->lock);
    struct entry *entry = *list;
    while (entry && strcmp(entry->name, name) != 0)
        entry = entry->next;
    *ret_mine = !entry;
    if (!entry && (entry = calloc(1, sizeof(*entry)))) {
        entry->name = strdup(name);
        entry->next = *list;
        if (entry->name) {
            *list = entry;
        } else {
            free(entry);
            entry = NULL;
        }
    }
    while (entry && !*ret_mine && !entry->ready)
        lock_wait(&inputs->changed, &inputs->lock, 60000);
    lock_drop(&inputs->lock);
    return entry;
}

static void make_ready(struct client_inputs *inputs, struct entry *entry, const struct err *err)
{
    lock_take(&inputs->lock);
    entry->err = *err;
    entry->ready = true;
    pthread_cond_broadcast(&inputs->changed);
    lock_drop(&inputs->lock);
}

static void add(struct client_inputs *inputs, int64_t *count, int64_t by)
{
    lock_take(&inputs->lock);
    *count += by;
    lock_drop(&inputs->lock);
}

/* --- uploading ----------------------------------------------------------------------------- */

struct upload {
    int fd;
    int64_t at;
    int status;
    struct buf problem;
};

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct upload *u = arg;
    ssize_t n = pread(u->fd, to, size, u->at);
    u->at += n > 0 ? n : 0;
    return n;
}

static int on_head(int status, const struct buf *head, void *arg)
{
    (void)head;
    ((struct upload *)arg)->status = status;
    return 0;
}

static int on_write(const char *data, size_t len, void *arg)
{
    return buf_add(&((struct upload *)arg)->problem, data, len);
}

static int send_file(struct client_inputs *inputs, const char *url, int fd, int64_t size,
                     struct err *err)
{
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    struct upload u = {.fd = fd};
    struct net_link *link = net_link_new();
    if (!link || client_headers(inputs->to, "application/json", &headers, err)) {
        net_link_free(link);
        return err_set(err, ERR_INTERNAL, "cannot prepare an upload");
    }
    buf_init(&u.problem, PROBLEM_MAX);
    strlist_add(&headers, "Content-Type: application/gzip");
    const struct net_relay relay = {.method = "PUT",
                                    .url = url,
                                    .headers = &headers,
                                    .body_len = size,
                                    .silence_ms = SILENCE_MS,
                                    .arg = &u,
                                    .read = on_read,
                                    .head = on_head,
                                    .write = on_write};
    int rc = net_relay(link, &relay, err);
    net_link_free(link);
    if (u.status > 299 || (rc == 0 && u.status < 200))
        rc = client_explain(inputs->to, u.status, buf_str(&u.problem), u.problem.len, err);
    buf_done(&u.problem);
    return rc;
}

static int upload(struct client_inputs *inputs, const struct bundle *bundle, int fd,
                  struct err *err)
{
    AUTO(str) char *path = NULL, *url = NULL;
    AUTO(net_answer) struct net_answer answer = {0};
    if (asprintf(&path, "/inputs/%s", bundle->sha256) < 0 ||
        asprintf(&url, "%s%s", inputs->to->url, path) < 0)
        return err_sys(err, "inputs");
    add(inputs, &inputs->count.asked, 1);
    if (client_exchange(inputs->to, "HEAD", path, NULL, NULL, &answer, err))
        return -1;
    if (answer.status >= 200 && answer.status <= 299)
        return 0;
    if (answer.status != 404)
        return client_explain(inputs->to, answer.status, "", 0, err);
    if (send_file(inputs, url, fd, bundle->size, err))
        return err_wrap(err, "uploading inputs");
    add(inputs, &inputs->count.uploaded, 1);
    add(inputs, &inputs->count.uploaded_bytes, bundle->size);
    return 0;
}

static int pack(struct client_inputs *inputs, const char *path, char digest[INPUTS_DIGEST_SIZE],
                struct err *err)
{
    const struct bundle_options options = {.gitignore = inputs->gitignore};
    struct bundle bundle;
    bool mine;
    AUTO(fd) int fd = temporary_open(err);
    add(inputs, &inputs->count.packed, 1);
    if (fd < 0 || bundle_write(path, &options, fd, &bundle, err))
        return -1;
    if (bundle.skipped > 0)
        fprintf(stderr, "%s: %lld sockets, FIFOs or devices stay behind\n", path,
                (long long)bundle.skipped);
    snprintf(digest, INPUTS_DIGEST_SIZE, "sha256:%s", bundle.sha256);
    struct entry *entry = enter(inputs, &inputs->digests, bundle.sha256, &mine);
    if (!entry)
        return err_sys(err, "inputs");
    if (mine) {
        struct err outcome = ERR_INIT;
        upload(inputs, &bundle, fd, &outcome);
        make_ready(inputs, entry, &outcome);
    }
    *err = entry->err;
    return entry->err.code == ERR_NONE ? 0 : -1;
}

int client_inputs_put(struct client_inputs *inputs, const char *path, char ret[INPUTS_DIGEST_SIZE],
                      struct err *err)
{
    bool mine;
    AUTO(str) char *real = realpath(path, NULL);
    struct entry *entry = real ? enter(inputs, &inputs->paths, real, &mine) : NULL;
    if (!real)
        return err_set(err, ERR_NOT_FOUND, "cannot read %.150s: %s", path, strerror(errno));
    if (!entry)
        return err_sys(err, "inputs");
    if (mine) {
        struct err outcome = ERR_INIT;
        pack(inputs, real, entry->digest, &outcome);
        make_ready(inputs, entry, &outcome);
    }
    if (entry->err.code != ERR_NONE) {
        *err = entry->err;
        return -1;
    }
    memcpy(ret, entry->digest, INPUTS_DIGEST_SIZE);
    return 0;
}

void client_inputs_count(struct client_inputs *inputs, struct inputs_count *ret_count)
{
    lock_take(&inputs->lock);
    *ret_count = inputs->count;
    lock_drop(&inputs->lock);
}

/* --- the option ---------------------------------------------------------------------------- */

const char *client_inputs_split(const char *text, char **ret_name, struct err *err)
{
    const char *equals = strchr(text, '='), *path = equals ? equals + 1 : text;
    AUTO(str) char *real = equals ? NULL : realpath(path, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    AUTO(str)
    char *name = equals ? strndup(text, (size_t)(equals - text)) : slash ? strdup(slash + 1) : NULL;
    if (!equals && !real) {
        err_set(err, ERR_NOT_FOUND, "cannot read %.150s: %s", path, strerror(errno));
        return NULL;
    }
    if (!name || !*path || !path_is_inside(name)) {
        err_set(err, ERR_INVALID, "'%.100s' is no NAME=PATH", text);
        return NULL;
    }
    *ret_name = STEAL_PTR(name);
    return path;
}

int client_inputs_write(struct call *call, struct json_writer *w, struct err *err)
{
    const char *text;
    char digest[INPUTS_DIGEST_SIZE];
    if (!options_value(&call->given, "input"))
        return 0;
    AUTO(client_inputs)
    struct client_inputs *inputs =
        client_inputs_new(&call->to, options_value(&call->given, "gitignore") != NULL, err);
    if (!inputs)
        return -1;
    json_open_object(w, "inputs");
    for (size_t i = 0; (text = options_nth(&call->given, "input", i)); i++) {
        AUTO(str) char *name = NULL;
        const char *path = client_inputs_split(text, &name, err);
        if (!path || client_inputs_put(inputs, path, digest, err))
            return err_wrap(err, "--input");
        json_add_text(w, name, digest);
    }
    json_close(w);
    return 0;
}
