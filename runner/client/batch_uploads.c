/* Inputs of a batch: packed and uploaded while runs go on, each path once. */
#include "base/auto.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/thread.h"
#include "runner/client/batch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define THREADS 3 /* Each packs with all cores, then waits for the network. */
#define STACK_BYTES (1u << 20)

enum upload_state { UPLOAD_WAITS, UPLOAD_TAKEN, UPLOAD_THERE, UPLOAD_FAILED };

struct upload {
    struct upload *next;
    enum upload_state state;
    char *path;
    char digest[INPUTS_DIGEST_SIZE];
    struct err err;
};

struct batch_uploads {
    struct client_inputs *inputs;
    struct lock lock;
    pthread_cond_t changed;
    struct upload *all; /* guarded by the lock, as is `stopping` */
    bool stopping;
    int wake;
    struct thread threads[THREADS];
};

static struct upload *take_locked(struct batch_uploads *u) HOLDS(u->lock)
{
    struct upload *found = NULL;
    for (struct upload *at = u->all; at; at = at->next)
        if (at->state == UPLOAD_WAITS)
            found = at; /* The last entry of the list was added first. */
    if (found)
        found->state = UPLOAD_TAKEN;
    return found;
}

static void *work(void *arg)
{
    struct batch_uploads *u = arg;
    lock_take(&u->lock);
    while (!u->stopping) {
        struct upload *mine = take_locked(u);
        if (!mine) {
            lock_wait(&u->changed, &u->lock, 60000);
            continue;
        }
        lock_drop(&u->lock);
        struct err err = ERR_INIT;
        char digest[INPUTS_DIGEST_SIZE];
        int rc = client_inputs_put(u->inputs, mine->path, digest, &err);
        lock_take(&u->lock);
        mine->state = rc ? UPLOAD_FAILED : UPLOAD_THERE;
        mine->err = err;
        if (rc == 0)
            memcpy(mine->digest, digest, sizeof(digest));
        eventfd_write(u->wake, 1);
    }
    lock_drop(&u->lock);
    return NULL;
}

struct batch_uploads *batch_uploads_new(const struct settings *to, bool gitignore, struct err *err)
{
    struct batch_uploads *u = calloc(1, sizeof(*u));
    if (!u) {
        err_sys(err, "uploads");
        return NULL;
    }
    lock_init(&u->lock);
    cond_init(&u->changed);
    u->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    u->inputs = client_inputs_new(to, gitignore, err);
    if (u->inputs && u->wake >= 0)
        return u;
    batch_uploads_free(u);
    return NULL;
}

void batch_uploads_free(struct batch_uploads *u)
{
    if (!u)
        return;
    lock_take(&u->lock);
    u->stopping = true;
    pthread_cond_broadcast(&u->changed);
    lock_drop(&u->lock);
    for (size_t i = 0; i < THREADS; i++)
        thread_join(&u->threads[i]);
    while (u->all) {
        struct upload *next = u->all->next;
        free(u->all->path);
        free(u->all);
        u->all = next;
    }
    client_inputs_free(u->inputs);
    fd_close(&u->wake);
    pthread_cond_destroy(&u->changed);
    lock_done(&u->lock);
    free(u);
}

/* Starts threads at the first path, because most batches have no inputs. */
static int start_threads(struct batch_uploads *u, struct err *err)
{
    for (size_t i = 0; i < THREADS; i++)
        if (!u->threads[i].running &&
            thread_start(&u->threads[i], "upload", STACK_BYTES, work, u, err))
            return -1;
    return 0;
}

static int add_locked(struct batch_uploads *u, const char *path, struct err *err) HOLDS(u->lock)
{
    struct upload *upload = calloc(1, sizeof(*upload));
    if (!upload || !(upload->path = strdup(path))) {
        free(upload);
        return err_sys(err, "uploads");
    }
    upload->next = u->all;
    u->all = upload;
    pthread_cond_signal(&u->changed);
    return 0;
}

int batch_uploads_get(struct batch_uploads *u, const char *path, char digest[INPUTS_DIGEST_SIZE],
                      struct err *err)
{
    int rc = 0;
    if (start_threads(u, err))
        return -1;
    lock_take(&u->lock);
    struct upload *upload = u->all;
    while (upload && strcmp(upload->path, path) != 0)
        upload = upload->next;
    if (!upload) {
        rc = add_locked(u, path, err);
    } else if (upload->state == UPLOAD_THERE) {
        memcpy(digest, upload->digest, INPUTS_DIGEST_SIZE);
        rc = 1;
    } else if (upload->state == UPLOAD_FAILED) {
        *err = upload->err;
        rc = -1;
    }
    lock_drop(&u->lock);
    return rc;
}

int batch_uploads_wake(const struct batch_uploads *u)
{
    return u->wake;
}

void batch_uploads_count(struct batch_uploads *u, struct inputs_count *ret_count)
{
    client_inputs_count(u->inputs, ret_count);
}
