#include "runner/repo/collect.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64
#define PATH_BYTES_MAX 4096
#define SECRETS_FILE ".env"

struct collect {
    const struct strlist *patterns;
    const char *to;
    struct json_writer *w;
    int64_t files;
    int64_t bytes;
    int64_t skipped;
};

/* The file with the request's secrets is collected only when a pattern names it: a pattern for
 * everything does not mean it. */
static bool is_wanted(const struct collect *collect, const char *path)
{
    bool secrets = strcmp(path, SECRETS_FILE) == 0;
    for (size_t i = 0; i < collect->patterns->count; i++) {
        const char *pattern = collect->patterns->items[i];
        if (strncmp(pattern, "./", 2) == 0)
            pattern += 2;
        if (secrets ? strcmp(pattern, path) == 0 : glob_match(pattern, path))
            return true;
    }
    return false;
}

/* 1 when it was kept. */
static int keep(struct collect *collect, int dir, const char *name, const char *path,
                struct err *err)
{
    struct stat st;
    char place[PATH_BYTES_MAX * 2];
    AUTO(fd) int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0 || fstat(from, &st) || !S_ISREG(st.st_mode))
        return 0;
    if (collect->files >= COLLECT_FILES_MAX || collect->bytes + st.st_size > COLLECT_BYTES_MAX)
        return 0;
    snprintf(place, sizeof(place), "%s/%s", collect->to, path);
    char *slash = strrchr(place, '/');
    *slash = '\0';
    if (path_make_dirs(place, 0700, err))
        return -1;
    *slash = '/';
    AUTO(fd) int to = open(place, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0 || fd_copy(from, to, st.st_size))
        return err_sys(err, "cannot keep '%s'", path);
    collect->files++;
    collect->bytes += st.st_size;
    json_open_object(collect->w, NULL);
    json_add_text(collect->w, "path", path);
    json_add_int(collect->w, "size", st.st_size);
    json_close(collect->w);
    return 1;
}

static int walk(struct collect *collect, int dir, const char *prefix, int depth, struct err *err);

static int look_at(struct collect *collect, int dir, const struct dirent *entry, const char *prefix,
                   int depth, struct err *err)
{
    struct stat st;
    char path[PATH_BYTES_MAX];
    int n = snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "", entry->d_name);
    if (n >= PATH_BYTES_MAX || fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
        collect->skipped++;
        return 0;
    }
    if (S_ISDIR(st.st_mode)) {
        int below = depth < DEPTH_MAX ? openat(dir, entry->d_name,
                                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                                      : -1;
        if (below < 0) {
            collect->skipped++;
            return 0;
        }
        return walk(collect, below, path, depth + 1, err);
    }
    if (!is_wanted(collect, path))
        return 0;
    int kept = S_ISREG(st.st_mode) ? keep(collect, dir, entry->d_name, path, err) : 0;
    collect->skipped += kept == 0;
    return kept < 0 ? -1 : 0;
}

/* Takes over `dir`. */
static int walk(struct collect *collect, int dir, const char *prefix, int depth, struct err *err)
{
    struct dirent *entry;
    int rc = 0;
    DIR *list = fdopendir(dir);
    if (!list) {
        close(dir);
        return err_sys(err, "cannot list the workspace");
    }
    while (rc == 0 && (entry = readdir(list))) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            (depth == 0 && strcmp(name, ".git") == 0))
            continue;
        rc = look_at(collect, dir, entry, prefix, depth, err);
    }
    closedir(list);
    return rc;
}

int collect_files(const char *work, const struct strlist *patterns, const char *to,
                  struct json_writer *w, struct err *err)
{
    struct collect collect = {.patterns = patterns, .to = to, .w = w};
    if (path_make_dirs(to, 0700, err))
        return -1;
    int dir = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, "cannot open the workspace");
    json_open_array(w, "files");
    int rc = walk(&collect, dir, "", 0, err);
    json_close(w);
    json_add_int(w, "skipped", collect.skipped);
    return rc;
}
