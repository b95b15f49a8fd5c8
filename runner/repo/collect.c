#include "runner/repo/collect.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/repo/harvest.h"

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
    const struct strlist *patterns; /* NULL: every file that changed since a time */
    int64_t since_ms;
    const char *to;
    struct json_writer *w; /* NULL: no list is wanted */
    int64_t files_max;
    int64_t files;
    int64_t bytes;
    int64_t skipped;
    char left[512]; /* the largest file that is past a limit; "" for none */
    int64_t left_bytes;
};

/* True when a pattern names the file. The file with the request's secrets must be named exactly: a
 * pattern for everything does not include it. */
static bool is_wanted(const struct collect *collect, const char *path, const struct stat *st)
{
    if (!collect->patterns)
        return st->st_ctim.tv_sec * INT64_C(1000) + st->st_ctim.tv_nsec / 1000000 >=
               collect->since_ms;
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

/* Appends an output's name, which becomes part of a URL and of JSON: control characters and invalid
 * UTF-8 are written as %XX, so that nothing is lost. */
static void add_name(struct buf *out, const char *path)
{
    for (size_t left = strlen(path); left > 0;) {
        size_t n = str_utf8_char(path, left);
        bool plain = n > 0 && (unsigned char)*path >= 0x20 && *path != 0x7f;
        if (plain)
            buf_add(out, path, n);
        else
            buf_addf(out, "%%%02X", (unsigned char)*path);
        n = plain ? n : 1;
        path += n;
        left -= n;
    }
}

/* Gives the file a second name instead of a copy: where a task's files are in memory, as in a Cloud
 * Run container, there may be no room for one. Only for a file without other names whose name still
 * is the opened file. */
static bool keep_by_link(int dir, const char *name, const struct stat *st, const char *place)
{
    struct stat linked;
    if (st->st_nlink != 1 || st->st_uid != geteuid() || linkat(dir, name, AT_FDCWD, place, 0) != 0)
        return false;
    if (lstat(place, &linked) == 0 && linked.st_dev == st->st_dev && linked.st_ino == st->st_ino)
        return true;
    unlink(place);
    return false;
}

/* Copies the file. Returns 1 when the name is already taken. */
static int keep_by_copy(int from, const struct stat *st, const char *path, const char *place,
                        struct err *err)
{
    AUTO(fd) int to = open(place, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0 && errno == EEXIST)
        return 1;
    if (to >= 0 && fd_copy(from, to, st->st_size) == 0)
        return 0;
    err_sys(err, "cannot keep '%s' (%lld bytes)", path, (long long)st->st_size);
    unlink(place);
    return -1;
}

/* Counts a skipped file, and notes the largest that is past a limit. */
static int pass_over(struct collect *collect, const char *path, int64_t size)
{
    if (size >= collect->left_bytes) {
        collect->left_bytes = size;
        snprintf(collect->left, sizeof(collect->left), "%s", path);
    }
    return 0;
}

/* Keeps one file. Returns 1 when it was kept. */
static int keep(struct collect *collect, int dir, const char *name, const char *path,
                struct err *err)
{
    struct stat st;
    AUTO(buf) struct buf named = BUF_INIT(PATH_BYTES_MAX * 4);
    AUTO(fd) int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0 || fstat(from, &st) || !S_ISREG(st.st_mode))
        return 0;
    if (collect->files >= collect->files_max || collect->bytes + st.st_size > COLLECT_BYTES_MAX)
        return pass_over(collect, path, st.st_size);
    buf_addf(&named, "%s/", collect->to);
    if (collect->patterns)
        buf_adds(&named, path);
    else
        add_name(&named, path);
    if (buf_check(&named, "a name", err))
        return 0;
    char *place = named.data, *slash = strrchr(place, '/');
    *slash = '\0';
    if (path_make_dirs(place, 0700, err))
        return -1;
    *slash = '/';
    int rc = keep_by_link(dir, name, &st, place) ? 0 : keep_by_copy(from, &st, path, place, err);
    if (rc)
        return rc < 0 ? -1 : 0;
    collect->files++;
    collect->bytes += st.st_size;
    if (!collect->w)
        return 1;
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
    if (!is_wanted(collect, path, &st))
        return 0;
    int kept = S_ISREG(st.st_mode) ? keep(collect, dir, entry->d_name, path, err) : 0;
    collect->skipped += kept == 0;
    return kept < 0 ? -1 : 0;
}

/* Collects what is below `dir`, and closes it. */
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
            (depth == 0 && collect->patterns && strcmp(name, ".git") == 0))
            continue;
        rc = look_at(collect, dir, entry, prefix, depth, err);
    }
    closedir(list);
    return rc;
}

int collect_files(const char *work, const struct strlist *patterns, const char *to,
                  struct json_writer *w, struct err *err)
{
    struct collect collect = {
        .patterns = patterns, .to = to, .w = w, .files_max = COLLECT_FILES_MAX};
    if (path_make_dirs(to, 0700, err))
        return -1;
    int dir = open(work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, "cannot open the workspace");
    json_open_array(w, "files");
    int rc = walk(&collect, dir, "", 0, err);
    json_close(w);
    json_add_int(w, "skipped", collect.skipped);
    if (collect.left[0]) {
        json_add_text(w, "leftPath", collect.left);
        json_add_int(w, "leftBytes", collect.left_bytes);
    }
    return rc;
}

int collect_output(const char *work, int64_t since_ms, const char *to, struct json_writer *w,
                   struct err *err)
{
    struct collect collect = {.since_ms = since_ms, .to = to, .files_max = COLLECT_OUTPUT_MAX};
    AUTO(fd) int top = open(work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int dir = openat(top, HARVEST_OUTPUT, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir >= 0 && walk(&collect, dir, "", 0, err))
        return -1;
    json_open_object(w, "output");
    json_add_int(w, "files", collect.files);
    json_add_int(w, "bytes", collect.bytes);
    json_add_int(w, "skipped", collect.skipped);
    json_close(w);
    return 0;
}
