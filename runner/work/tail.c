#include "runner/work/tail.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUNCH_BYTES (INT64_C(4) << 20) /* at once, because each hole costs a journal entry */
#define SPARE_MAX 32

/*
 * inotify descriptors without a watch, kept for the next tail. Closing one takes 15 ms, because the
 * kernel waits until no CPU can be using it; removing its watch takes none.
 */
static struct {
    struct lock lock;
    size_t count;
    int fds[SPARE_MAX];
} spare = {.lock = LOCK_INIT};

static int notify_take(void)
{
    int fd = -1;
    lock_take(&spare.lock);
    if (spare.count)
        fd = spare.fds[--spare.count];
    lock_drop(&spare.lock);
    return fd >= 0 ? fd : inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
}

static void notify_give_back(int *fd)
{
    lock_take(&spare.lock);
    if (spare.count < SPARE_MAX) {
        spare.fds[spare.count++] = *fd;
        *fd = -1;
    }
    lock_drop(&spare.lock);
    fd_close(fd);
}

int tail_open(struct tail *tail, const char *path, bool notify, struct err *err)
{
    *tail = (struct tail){.write_fd = -1, .read_fd = -1, .notify_fd = -1};
    tail->write_fd =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    tail->read_fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (tail->write_fd < 0 || tail->read_fd < 0) {
        err_sys(err, "cannot make '%s'", path);
        tail_done(tail);
        return -1;
    }
    if (!notify || (tail->notify_fd = notify_take()) < 0)
        return 0;
    tail->watch = inotify_add_watch(tail->notify_fd, path, IN_MODIFY);
    if (tail->watch < 0)
        notify_give_back(&tail->notify_fd);
    return 0;
}

void tail_done(struct tail *tail)
{
    fd_close(&tail->write_fd);
    fd_close(&tail->read_fd);
    if (tail->notify_fd < 0)
        return;
    (void)inotify_rm_watch(tail->notify_fd, tail->watch);
    tail_heed(tail); /* Leave no old message for the next tail. */
    notify_give_back(&tail->notify_fd);
}

static void punch(struct tail *tail, int64_t up_to)
{
    if (up_to - tail->punched < PUNCH_BYTES)
        return;
    /* A file system without holes keeps the bytes until the task ends. */
    (void)fallocate(tail->read_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, tail->punched,
                    up_to - tail->punched);
    tail->punched = up_to;
}

size_t tail_read(struct tail *tail, char *to, size_t size)
{
    ssize_t n;
    while ((n = pread(tail->read_fd, to, size, tail->offset)) < 0 && errno == EINTR)
        continue;
    if (n <= 0)
        return 0;
    tail->offset += n;
    punch(tail, tail->offset);
    return (size_t)n;
}

int64_t tail_backlog(const struct tail *tail)
{
    struct stat st;
    return fstat(tail->read_fd, &st) ? 0 : st.st_size - tail->offset;
}

void tail_heed(struct tail *tail)
{
    char events[4096];
    while (tail->notify_fd >= 0 && read(tail->notify_fd, events, sizeof(events)) > 0)
        continue;
}

void tail_trim(struct tail *tail, int64_t keep)
{
    struct stat st;
    if (fstat(tail->read_fd, &st) == 0 && st.st_size > keep)
        punch(tail, st.st_size - keep);
}

void tail_show(int fd, size_t bytes, struct redact_set *redact, struct buf *out)
{
    struct stat st;
    size_t want = bytes + REDACT_MAX_BYTES;
    AUTO(buf_wipe) struct buf raw = BUF_INIT(want);
    AUTO(buf) struct buf clean = BUF_INIT(4 * want);
    if (fstat(fd, &st))
        return;
    if ((uint64_t)st.st_size < want)
        want = (size_t)st.st_size;
    char *to = buf_room(&raw, want);
    ssize_t n = to ? fd_pread_full(fd, to, want, st.st_size - (off_t)want) : -1;
    if (n <= 0)
        return;
    buf_grew(&raw, (size_t)n);
    redact_text(redact, raw.data, raw.len, &clean);
    size_t skip = clean.len > bytes ? clean.len - bytes : 0;
    buf_add(out, buf_str(&clean) + skip, clean.len - skip);
}
