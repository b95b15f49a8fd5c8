#include "base/walk.h"
#include "base/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int walk(int dir, const char *prefix, int depth, walk_fn *fn, void *arg)
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
            fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ||
            snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "", name) >=
                WALK_PATH_BYTES_MAX)
            continue;
        if (S_ISREG(st.st_mode)) {
            rc = fn(dir, name, path, &st, arg);
        } else if (S_ISDIR(st.st_mode) && depth < WALK_DEPTH_MAX) {
            int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            rc = below < 0 ? 0 : walk(below, path, depth + 1, fn, arg);
        }
    }
    closedir(list);
    return rc;
}

int walk_files(int dir, walk_fn *fn, void *arg)
{
    REQUIRE(dir >= 0 && fn);
    return walk(dir, "", 0, fn, arg);
}
