#include "runner/janitor/disk.h"

#include <stdint.h>
#include <sys/statvfs.h>

int disk_check(const char *dir, int min_free_mb, struct err *err)
{
    struct statvfs fs;
    if (statvfs(dir, &fs))
        return err_sys(err, "cannot see how full '%s' is", dir);
    int64_t free_mb = (int64_t)(((uint64_t)fs.f_bavail * fs.f_frsize) >> 20);
    if (free_mb >= min_free_mb)
        return 0;
    return err_set(err, ERR_NO_SPACE,
                   "%lld MB are free on the disk of RUNNER_STATE_DIR, DISK_MIN_FREE_MB is %d",
                   (long long)free_mb, min_free_mb);
}
