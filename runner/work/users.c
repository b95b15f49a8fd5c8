#include "runner/work/users.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct users {
    struct lock lock;
    uid_t first;
    size_t count, next; /* where the search begins */
    bool taken[];
};

struct users *users_new(uid_t first, uid_t last, struct err *err)
{
    if (first == 0 || last < first || last - first >= USERS_MAX) {
        err_set(err, ERR_INVALID, "users are a range of at most %d, without root", USERS_MAX);
        return NULL;
    }
    size_t count = last - first + 1;
    struct users *users = calloc(1, sizeof(*users) + count * sizeof(users->taken[0]));
    if (!users) {
        err_sys(err, "users");
        return NULL;
    }
    lock_init(&users->lock);
    users->first = first;
    users->count = count;
    return users;
}

void users_free(struct users *users)
{
    if (!users)
        return;
    lock_done(&users->lock);
    free(users);
}

uid_t users_take(struct users *users)
{
    REQUIRE(users);
    uid_t found = 0;
    lock_take(&users->lock);
    for (size_t i = 0; i < users->count && found == 0; i++) {
        size_t at = (users->next + i) % users->count;
        if (users->taken[at])
            continue;
        users->taken[at] = true;
        users->next = at + 1;
        found = users->first + (uid_t)at;
    }
    lock_drop(&users->lock);
    return found;
}

void users_give(struct users *users, uid_t uid)
{
    REQUIRE(users);
    lock_take(&users->lock);
    if (uid >= users->first && uid - users->first < users->count)
        users->taken[uid - users->first] = false;
    lock_drop(&users->lock);
}

struct hand_over {
    struct owner from, to;
};

static int hand_below(int dir, const struct hand_over *job, int depth)
{
    const struct dirent *entry;
    struct stat st;
    int rc = 0;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        fd_close(&fd);
        return -1;
    }
    while (rc == 0 && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        if (S_ISDIR(st.st_mode) && depth < WALK_DEPTH_MAX) {
            AUTO(fd)
            int below = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            rc = below < 0 ? -1 : hand_below(below, job, depth + 1);
        }
        if (rc == 0 && st.st_uid == job->from.uid)
            rc = fchownat(dir, entry->d_name, job->to.uid, job->to.gid, AT_SYMLINK_NOFOLLOW);
    }
    int sys = errno;
    closedir(list);
    errno = sys;
    return rc;
}

int users_hand_over(const char *dir, struct owner from, struct owner to, struct err *err)
{
    REQUIRE(dir);
    const struct hand_over job = {from, to};
    struct stat st;
    AUTO(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || hand_below(fd, &job, 0) ||
        (st.st_uid == from.uid && fchown(fd, to.uid, to.gid)))
        return err_sys(err, "cannot give '%s' to user %u", dir, (unsigned)to.uid);
    return 0;
}
