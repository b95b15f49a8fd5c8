#include "runner/janitor/disk.h"

#include "base/check.h"

#include <sys/statvfs.h>

int disk_space(const char *dir, int64_t *ret_free_bytes, int64_t *ret_total_bytes, struct err *err)
{
    struct statvfs fs;
    if (statvfs(dir, &fs))
        return err_sys(err, "cannot see how full '%s' is", dir);
    *ret_free_bytes = (int64_t)((uint64_t)fs.f_bavail * fs.f_frsize);
    *ret_total_bytes = (int64_t)((uint64_t)fs.f_blocks * fs.f_frsize);
    return 0;
}

int disk_check(const char *dir, int min_free_mb, struct err *err)
{
    REQUIRE(dir);
    int64_t free_bytes, total_bytes;
    if (disk_space(dir, &free_bytes, &total_bytes, err))
        return -1;
    int64_t free_mb = free_bytes >> 20;
    if (free_mb >= min_free_mb)
        return 0;
    return err_set(err, ERR_NO_SPACE,
                   "%lld MB are free on the disk of RUNNER_STATE_DIR, DISK_MIN_FREE_MB is %d",
                   (long long)free_mb, min_free_mb);
}
