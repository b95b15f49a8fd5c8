#include "runner/cloudbox/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in the entries for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

const char *const manifest_parts[] = {"workspace", "tmp", "home", "shells", NULL};

void manifest_done(struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->count; i++)
        free(manifest->entries[i].path);
    free(manifest->entries);
    *manifest = (struct manifest){0};
}

static int64_t ns_of(struct timespec time)
{
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int add(struct manifest *manifest, const char *path, const struct stat *st, struct err *err)
{
    if (manifest->count == MANIFEST_ENTRIES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the session has more than %d files",
                       MANIFEST_ENTRIES_MAX);
    if (manifest->count == manifest->room) {
        size_t room = manifest->room ? 2 * manifest->room : 256;
        struct manifest_entry *more =
            reallocarray(manifest->entries, room, sizeof(*manifest->entries));
        if (!more)
            return err_sys(err, "session");
        manifest->entries = more;
        manifest->room = room;
    }
    char *copy = strdup(path);
    if (!copy)
        return err_sys(err, "session");
    manifest->entries[manifest->count++] =
        (struct manifest_entry){.path = copy,
                                .inode = st->st_ino,
                                .size = S_ISDIR(st->st_mode) ? 0 : st->st_size,
                                .changed_ns = ns_of(st->st_ctim),
                                .modified_ns = ns_of(st->st_mtim),
                                .mode = st->st_mode};
    manifest->bytes += S_ISREG(st->st_mode) ? st->st_size : 0;
    return 0;
}

/* Takes over `dir`. */
static int walk(int dir, const char *prefix, int depth, struct manifest *manifest, struct err *err)
{
    struct dirent *entry;
    struct stat st;
    int rc = 0;
    DIR *list = fdopendir(dir);
    if (!list) {
        err_sys(err, "cannot read '%.160s' of the session", prefix);
        close(dir);
        return -1;
    }
    while (rc == 0 && (entry = readdir(list))) {
        char path[MANIFEST_PATH_MAX];
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ||
            !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)))
            continue;
        int len = snprintf(path, sizeof(path), "%s/%s", prefix, name);
        if (len >= MANIFEST_PATH_MAX || depth == MANIFEST_DEPTH_MAX) {
            rc = err_set(err, ERR_TOO_LARGE, "'%.80s…' of the session lies too deep", prefix);
            break;
        }
        rc = add(manifest, path, &st, err);
        if (rc || !S_ISDIR(st.st_mode))
            continue;
        int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        rc = below < 0 ? err_sys(err, "cannot read '%.160s' of the session", path)
                       : walk(below, path, depth + 1, manifest, err);
    }
    closedir(list);
    return rc;
}

static int by_path(const void *a, const void *b)
{
    const struct manifest_entry *one = a, *other = b;
    return strcmp(one->path, other->path);
}

int manifest_read(int box, struct manifest *ret_manifest, struct err *err)
{
    struct manifest manifest = {0};
    int rc = 0;
    for (const char *const *part = manifest_parts; *part && rc == 0; part++) {
        int dir = openat(box, *part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        rc = dir < 0 ? err_sys(err, "cannot read '%s' of the session", *part)
                     : walk(dir, *part, 0, &manifest, err);
    }
    if (rc) {
        manifest_done(&manifest);
        return -1;
    }
    if (manifest.count > 0)
        qsort(manifest.entries, manifest.count, sizeof(*manifest.entries), by_path);
    *ret_manifest = manifest;
    return 0;
}

/* A directory's times say only that something in it has changed, which is seen there. */
static bool is_same(const struct manifest_entry *one, const struct manifest_entry *other)
{
    if (one->mode != other->mode)
        return false;
    if (S_ISDIR(one->mode))
        return true;
    return one->inode == other->inode && one->size == other->size &&
           one->changed_ns == other->changed_ns && one->modified_ns == other->modified_ns;
}

int manifest_compare(const struct manifest *before, const struct manifest *after, manifest_fn *fn,
                     void *arg)
{
    size_t i = 0, k = 0;
    int rc = 0;
    while (rc == 0 && (i < before->count || k < after->count)) {
        const struct manifest_entry *old = i < before->count ? &before->entries[i] : NULL;
        const struct manifest_entry *fresh = k < after->count ? &after->entries[k] : NULL;
        int order = !old ? 1 : !fresh ? -1 : strcmp(old->path, fresh->path);
        i += order <= 0;
        k += order >= 0;
        if (order != 0)
            rc = fn(order < 0 ? old : NULL, order > 0 ? fresh : NULL, arg);
        else if (old && fresh && !is_same(old, fresh))
            rc = fn(old, fresh, arg);
    }
    return rc;
}
