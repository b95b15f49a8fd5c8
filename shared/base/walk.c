#include "base/walk.h"
#include "base/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct walking {
    bool all; /* not files only */
    walk_fn *fn;
    void *arg;
    bool *skipped;
};

static int walk(int dir, const char *prefix, int depth, const struct walking *w);

/* One that cannot be read is passed over. */
static int walk_below(int dir, const char *name, const char *path, int depth,
                      const struct walking *w)
{
    int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return below < 0 ? 0 : walk(below, path, depth + 1, w);
}

static int walk(int dir, const char *prefix, int depth, const struct walking *w)
{
    struct dirent *entry;
    struct stat st;
    int rc = 0;
    DIR *list = fdopendir(dir);
    if (!list) {
        close(dir);
        return -1;
    }
    while (rc == 0 && (entry = readdir(list))) {
        char path[WALK_PATH_BYTES_MAX];
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        bool below = S_ISDIR(st.st_mode);
        if (snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "", name) >=
            WALK_PATH_BYTES_MAX) {
            *w->skipped = true;
            continue;
        }
        if (S_ISREG(st.st_mode) || (w->all && (below || S_ISLNK(st.st_mode))))
            rc = w->fn(dir, name, path, &st, w->arg);
        if (below && depth == WALK_DEPTH_MAX)
            *w->skipped = true;
        else if (rc == 0 && below)
            rc = walk_below(dir, name, path, depth, w);
    }
    closedir(list);
    return rc;
}

int walk_files(int dir, walk_fn *fn, void *arg)
{
    REQUIRE(dir >= 0 && fn);
    bool skipped;
    return walk(dir, "", 0, &(struct walking){.fn = fn, .arg = arg, .skipped = &skipped});
}

int walk_tree(int dir, walk_fn *fn, void *arg, bool *ret_skipped)
{
    REQUIRE(dir >= 0 && fn && ret_skipped);
    *ret_skipped = false;
    return walk(dir, "", 0,
                &(struct walking){.all = true, .fn = fn, .arg = arg, .skipped = ret_skipped});
}
