#include "unit.h"

#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int64_t unit_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void unit_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

char *unit_textf(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    assert_true(n >= 0);
    return text;
}

char *unit_scratch(void)
{
    const char *base = getenv("TMPDIR");
    char *path = unit_textf("%s/cr-unit.XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

void unit_scratch_free(char *path)
{
    struct err err;
    if (path && path_remove_tree(path, &err))
        print_message("%s\n", err.msg);
    free(path);
}

bool unit_mount_small(const char *path, size_t size_bytes)
{
    static bool private;
    char options[64];
    snprintf(options, sizeof(options), "size=%zu,mode=0755", size_bytes);
    if (!private && (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)))
        return false;
    private = true;
    return mount("none", path, "tmpfs", 0, options) == 0;
}

void unit_unmount(const char *path)
{
    umount2(path, MNT_DETACH);
}

void unit_fill(const char *path)
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

static int count_entries(const char *path)
{
    int n = 0;
    struct dirent *entry;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

int unit_fds(void)
{
    return count_entries("/proc/self/fd") - 1; /* the look itself takes one */
}

int unit_threads(void)
{
    return count_entries("/proc/self/task");
}

/* Calls fn with each process's number. */
static int count_processes(bool (*fn)(pid_t pid, const void *arg), const void *arg)
{
    int n = 0;
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        n += pid > 0 && fn(pid, arg);
    }
    closedir(dir);
    return n;
}

/* The state letter of a process and its parent; '\0' when it does not exist. */
static char state_of(pid_t pid, int *ret_parent)
{
    char path[64], text[512], state = '\0';
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return '\0';
    text[n] = '\0';
    const char *at = strrchr(text, ')');
    return at && sscanf(at, ") %c %d", &state, ret_parent) == 2 ? state : '\0';
}

static bool is_mine(pid_t pid, const void *arg)
{
    int parent = 0;
    (void)arg;
    return state_of(pid, &parent) && parent == getpid();
}

int unit_children(void)
{
    return count_processes(is_mine, NULL);
}

bool unit_alive(pid_t pid)
{
    int parent;
    char state = state_of(pid, &parent);
    return state && state != 'Z' && state != 'X';
}

static bool has_assignment(pid_t pid, const void *arg)
{
    char path[64];
    size_t size = 0, len = strlen(arg) + 1;
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    AUTO(str) char *env = unit_slurp(path, &size);
    return env && memmem(env, size, arg, len) != NULL;
}

int unit_processes_with(const char *assignment)
{
    return count_processes(has_assignment, assignment);
}

char *unit_slurp(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t size = 0, cap = 65536;
    ssize_t n;
    if (fd < 0)
        return NULL;
    char *data = malloc(cap + 1);
    while (data && (n = read(fd, data + size, cap - size)) > 0) {
        size += (size_t)n;
        if (size == cap)
            data = realloc(data, (cap *= 2) + 1);
    }
    close(fd);
    assert_non_null(data);
    data[size] = '\0';
    if (ret_size)
        *ret_size = size;
    return data;
}

void unit_spit(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

void unit_in_threads(int count, void *(*fn)(void *arg), void *arg)
{
    pthread_t threads[64];
    assert_true(count <= (int)COUNT_OF(threads));
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fn, arg), 0);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}
