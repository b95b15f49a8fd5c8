#include "runner/parts/process.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The signals that this process waits for instead of being interrupted by them. */
static void our_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

/* Otherwise the next opened file would become somebody's standard output. */
static void open_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR | O_NOCTTY) < 0)
            return;
}

void process_settle(void)
{
    const struct rlimit none = {0, 0};
    struct rlimit files;
    sigset_t set;
    open_streams();
    /* A core dump would hold secrets. */
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    /* Hundreds of small threads must not have a heap each. */
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
    our_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN); /* These have no meaning here, and must not end the process. */
    signal(SIGUSR2, SIG_IGN);
    umask(022); /* Tasks walk through our directories; secret files are made with a mode of their
                 * own. */
}

int process_signal(int timeout_ms)
{
    sigset_t set;
    const struct timespec timeout = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    our_signals(&set);
    int got = timeout_ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &timeout);
    return got > 0 ? got : 0;
}

/* systemd says of which file stderr is, so that a program whose stderr was changed is not misled.
 */
static bool is_journal(void)
{
    struct stat st;
    char told[64];
    const char *stream = getenv("JOURNAL_STREAM");
    if (!stream || fstat(STDERR_FILENO, &st))
        return false;
    snprintf(told, sizeof(told), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    return strcmp(stream, told) == 0;
}

static enum log_format choose_format(const struct config *config)
{
    bool journal = is_journal();
    bool text = config->log_format == CONFIG_LOG_TEXT ||
                (config->log_format == CONFIG_LOG_AUTO && (journal || isatty(STDERR_FILENO)));
    if (text)
        return journal ? LOG_JOURNAL : LOG_TEXT;
    return getenv("CLOUD_RUN_JOB") ? LOG_GOOGLE : LOG_JSON;
}

void process_open_log(const struct config *config, struct redact_set *secrets)
{
    log_open(STDERR_FILENO, (enum log_level)config->log_level, choose_format(config), secrets);
}

void process_rotate_log(int64_t max_bytes)
{
    struct stat st, named;
    char path[PATH_MAX - 2], old[PATH_MAX];
    int flags = fcntl(STDERR_FILENO, F_GETFL);
    if (flags < 0 || !(flags & O_APPEND) || fstat(STDERR_FILENO, &st) || !S_ISREG(st.st_mode) ||
        st.st_size < max_bytes)
        return;
    ssize_t n = readlink("/proc/self/fd/2", path, sizeof(path));
    if (n <= 0 || n >= (ssize_t)sizeof(path))
        return;
    path[n] = '\0';
    if (lstat(path, &named) || named.st_dev != st.st_dev || named.st_ino != st.st_ino)
        return; /* somebody has renamed or removed it */
    snprintf(old, sizeof(old), "%s.1", path);
    if (rename(path, old))
        return;
    AUTO(fd)
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY,
                  st.st_mode & 0666);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
        log_warn("log", "cannot start a new '%s'", path);
}
