#include "runner/inputs/inputs.h"

#include "base/auto.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/str.h"
#include "crypto/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define WAIT_MS 600000 /* for the same upload by somebody else */
#define PART ".part"

struct upload {
    struct upload *next;
    char name[INPUT_NAME_SIZE];
};

struct inputs {
    struct inputs_config config;
    int dir;
    struct lock lock; /* of the uploads, and while room is made */
    pthread_cond_t changed;
    struct upload *uploads;
};

int input_name(const char *text, char ret_name[INPUT_NAME_SIZE])
{
    if (str_starts(text, "sha256:"))
        text += strlen("sha256:");
    if (strlen(text) != INPUT_NAME_SIZE - 1 ||
        strspn(text, "0123456789abcdef") != INPUT_NAME_SIZE - 1)
        return -1;
    memcpy(ret_name, text, INPUT_NAME_SIZE);
    return 0;
}

/* What an upload that was cut off has left. */
static void remove_parts(int dir)
{
    struct dirent *entry;
    DIR *list = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (list && (entry = readdir(list)))
        if (str_starts(entry->d_name, PART))
            unlinkat(dir, entry->d_name, 0);
    if (list)
        closedir(list);
}

struct inputs *input_store_new(const struct inputs_config *config, struct err *err)
{
    AUTO(str) char *path = path_join(config->state_dir, "inputs");
    struct inputs *inputs = calloc(1, sizeof(*inputs));
    if (!inputs || !path) {
        free(inputs);
        err_sys(err, "inputs");
        return NULL;
    }
    inputs->config = *config;
    lock_init(&inputs->lock);
    cond_init(&inputs->changed);
    inputs->dir =
        path_make_dirs(path, 0700, err) ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (inputs->dir >= 0) {
        remove_parts(inputs->dir);
        return inputs;
    }
    err_sys(err, "inputs");
    input_store_free(inputs);
    return NULL;
}

void input_store_free(struct inputs *inputs)
{
    if (!inputs)
        return;
    fd_close(&inputs->dir);
    pthread_cond_destroy(&inputs->changed);
    lock_done(&inputs->lock);
    free(inputs);
}

int input_open(struct inputs *inputs, const char *name, int64_t *ret_size, struct err *err)
{
    struct stat st;
    AUTO(fd) int fd = openat(inputs->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "there is no input '%s'", name)
                               : err_sys(err, "input '%.16s…'", name);
    futimens(fd, (const struct timespec[]){{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}});
    *ret_size = st.st_size;
    int out = fd;
    fd = -1;
    return out;
}

/* --- room ---------------------------------------------------------------------------------- */

/* How many bytes there are, and which was used longest ago ("" for none, never `spare`). */
static int64_t survey(int dir, const char *spare, char ret_oldest[INPUT_NAME_SIZE])
{
    struct dirent *entry;
    struct stat st;
    int64_t total = 0;
    struct timespec oldest = {0};
    DIR *list = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ret_oldest[0] = '\0';
    while (list && (entry = readdir(list))) {
        char name[INPUT_NAME_SIZE];
        if (input_name(entry->d_name, name) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        total += st.st_size;
        bool older = st.st_atim.tv_sec < oldest.tv_sec ||
                     (st.st_atim.tv_sec == oldest.tv_sec && st.st_atim.tv_nsec < oldest.tv_nsec);
        if (strcmp(name, spare) == 0 || (ret_oldest[0] && !older))
            continue;
        oldest = st.st_atim;
        memcpy(ret_oldest, name, INPUT_NAME_SIZE);
    }
    if (list)
        closedir(list);
    return total;
}

static void make_room(struct inputs *inputs, const char *spare)
{
    char oldest[INPUT_NAME_SIZE];
    int64_t max = (int64_t)CONFIG_GET(inputs->config.config, inputs_max_mb) << 20;
    lock_take(&inputs->lock);
    while (survey(inputs->dir, spare, oldest) > max && oldest[0])
        if (unlinkat(inputs->dir, oldest, 0))
            break;
    lock_drop(&inputs->lock);
}

/* --- uploads ------------------------------------------------------------------------------- */

static bool is_there(const struct inputs *inputs, const char *name, int64_t *ret_size)
{
    struct stat st;
    if (fstatat(inputs->dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return false;
    *ret_size = st.st_size;
    return true;
}

static struct upload *find_locked(const struct inputs *inputs, const char *name)
    HOLDS(inputs->lock);
static struct upload *find_locked(const struct inputs *inputs, const char *name)
{
    struct upload *upload = inputs->uploads;
    while (upload && strcmp(upload->name, name) != 0)
        upload = upload->next;
    return upload;
}

/* 1: this upload is the one to take; 0: it is there by now. */
static int enter(struct inputs *inputs, struct upload *upload, int64_t *ret_size)
{
    lock_take(&inputs->lock);
    while (find_locked(inputs, upload->name) && lock_wait(&inputs->changed, &inputs->lock, WAIT_MS))
        continue;
    bool there = is_there(inputs, upload->name, ret_size);
    if (!there) {
        upload->next = inputs->uploads;
        inputs->uploads = upload;
    }
    lock_drop(&inputs->lock);
    return !there;
}

static void leave(struct inputs *inputs, struct upload *upload)
{
    lock_take(&inputs->lock);
    struct upload **at = &inputs->uploads;
    while (*at != upload)
        at = &(*at)->next;
    *at = upload->next;
    pthread_cond_broadcast(&inputs->changed);
    lock_drop(&inputs->lock);
}

typedef ssize_t next_fn(char *to, size_t max, void *arg, struct err *err);

/* Writes and hashes what comes. */
static int take(struct inputs *inputs, const char *name, int fd, next_fn *next, void *arg,
                int64_t *ret_size, struct err *err)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    AUTO(crypto_hash) struct crypto_hash *hash = crypto_hash_new();
    AUTO(buf) struct buf hex = BUF_INIT(2 * CRYPTO_SHA256_SIZE + 1);
    int64_t max = (int64_t)CONFIG_GET(inputs->config.config, inputs_max_mb) << 20;
    ssize_t n;
    if (!piece || !hash)
        return err_sys(err, "input");
    *ret_size = 0;
    while ((n = next(piece, PIECE_BYTES, arg, err)) > 0) {
        *ret_size += n;
        if (*ret_size > max)
            return err_set(err, ERR_TOO_LARGE, "an input may have %lld MB (INPUTS_MAX_MB)",
                           (long long)(max >> 20));
        crypto_hash_add(hash, piece, (size_t)n);
        if (fd_write_all(fd, piece, (size_t)n))
            return err_sys(err, "cannot keep the input");
    }
    if (n < 0)
        return -1;
    crypto_hash_end(hash, digest);
    str_add_hex(&hex, digest, sizeof(digest));
    if (strcmp(buf_str(&hex), name) == 0)
        return 0;
    return err_set(err, ERR_MISMATCH, "the SHA-256 of what came is %s", buf_str(&hex));
}

static int put(struct inputs *inputs, const char *name, next_fn *next, void *arg, int64_t *ret_size,
               struct err *err)
{
    char part[ID_SIZE + 8], id[ID_SIZE];
    id_new(id);
    snprintf(part, sizeof(part), PART "%s", id);
    AUTO(fd) int fd = openat(inputs->dir, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot keep an input");
    int rc = take(inputs, name, fd, next, arg, ret_size, err);
    if (rc == 0 && (fsync(fd) || renameat(inputs->dir, part, inputs->dir, name)))
        rc = err_sys(err, "cannot keep the input");
    if (rc)
        unlinkat(inputs->dir, part, 0);
    return rc;
}

int input_put(struct inputs *inputs, const char *name, next_fn *next, void *arg, bool *ret_made,
              int64_t *ret_size, struct err *err)
{
    struct upload upload = {0};
    snprintf(upload.name, sizeof(upload.name), "%s", name);
    *ret_made = enter(inputs, &upload, ret_size) == 1;
    if (!*ret_made)
        return 0;
    int rc = put(inputs, name, next, arg, ret_size, err);
    leave(inputs, &upload);
    if (rc == 0)
        make_room(inputs, name);
    return rc;
}
