#include "runner/parts/process.h"

#include "base/log.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
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

void process_open_log(const struct config *config, struct redact_set *secrets)
{
    bool cloud = getenv("CLOUD_RUN_JOB") != NULL;
    bool json = config->log_format == CONFIG_LOG_JSON ||
                (config->log_format == CONFIG_LOG_AUTO && !isatty(STDERR_FILENO));
    enum log_format format = !json ? LOG_TEXT : cloud ? LOG_GOOGLE : LOG_JSON;
    log_open(STDERR_FILENO, (enum log_level)config->log_level, format, secrets);
}
