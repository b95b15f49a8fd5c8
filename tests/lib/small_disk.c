#include "testbase.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

bool small_disk_mount(const char *path, size_t size_bytes)
{
    static bool private;
    char options[64];
    snprintf(options, sizeof(options), "size=%zu,mode=0755", size_bytes);
    if (!private && (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)))
        return false;
    private = true;
    return mount("none", path, "tmpfs", 0, options) == 0;
}

void small_disk_unmount(const char *path)
{
    umount2(path, MNT_DETACH);
}

void small_disk_fill(const char *path)
{
    static const char zeros[65536];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t piece = sizeof(zeros); piece > 0;)
        if (write(fd, zeros, piece) < 0)
            piece /= 2;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}
