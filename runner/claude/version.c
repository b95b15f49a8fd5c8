#include "runner/claude/version.h"

#include "base/fd.h"
#include "base/path.h"

#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 5000

/* What was asked last. */
static struct {
    pthread_mutex_t lock; /* of what follows */
    pthread_mutex_t asking;
    struct timespec changed;
    ino_t inode;
    char version[CLI_VERSION_SIZE];
} known = {.lock = PTHREAD_MUTEX_INITIALIZER, .asking = PTHREAD_MUTEX_INITIALIZER};

/* The first word, when it is printable. */
static void read_version(int fd, char version[CLI_VERSION_SIZE])
{
    char text[CLI_VERSION_SIZE] = "";
    size_t len = 0;
    if (fd_pread_full(fd, text, sizeof(text) - 1, 0) <= 0)
        return;
    while (isgraph((unsigned char)text[len]))
        len++;
    snprintf(version, CLI_VERSION_SIZE, "%.*s", (int)len, text);
}

/* As a task would start it: its user, nothing of our environment but where programs are. */
static void ask(const struct claude *claude, const char *program, char version[CLI_VERSION_SIZE])
{
    struct err err;
    const struct config *config = atomic_load(claude->config);
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    AUTO(fd) int out = memfd_create("version", MFD_CLOEXEC);
    const int stdio[3] = {null, out, null};
    if (!plan || null < 0 || out < 0 || !(plan->cwd = path_join(config->state_dir, "run")))
        return;
    strlist_add(&plan->argv, program);
    strlist_add(&plan->argv, "--version");
    strlist_addf(&plan->env, "PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    strlist_addf(&plan->env, TASK_MARKER "=%s", claude->instance);
    plan->uid = claude->uid;
    plan->gid = claude->gid;
    struct child *child = launcher_spawn(claude->launcher, plan, stdio, &err);
    if (!child)
        return;
    struct pollfd wait = {.fd = child_fd(child), .events = POLLIN};
    bool ended;
    while (!(ended = child_read(child) == CHILD_ENDED) && poll(&wait, 1, WAIT_MS) > 0)
        continue;
    if (ended && child_status(child) == 0)
        read_version(out, version);
    else if (!ended)
        child_end(child, true);
    child_free(child);
}

static bool is_known(const struct stat *st, char version[CLI_VERSION_SIZE])
{
    pthread_mutex_lock(&known.lock);
    bool same = known.inode == st->st_ino && known.changed.tv_sec == st->st_ctim.tv_sec &&
                known.changed.tv_nsec == st->st_ctim.tv_nsec;
    snprintf(version, CLI_VERSION_SIZE, "%s", same ? known.version : "");
    pthread_mutex_unlock(&known.lock);
    return same;
}

char *cli_version(const struct claude *claude, char ret_version[CLI_VERSION_SIZE])
{
    struct stat st;
    char *program = path_find_program(atomic_load(claude->config)->claude_bin, getenv("PATH"));
    ret_version[0] = '\0';
    if (!program || stat(program, &st) || is_known(&st, ret_version) ||
        pthread_mutex_trylock(&known.asking))
        return program;
    ask(claude, program, ret_version);
    pthread_mutex_lock(&known.lock);
    known.inode = st.st_ino;
    known.changed = st.st_ctim;
    snprintf(known.version, sizeof(known.version), "%s", ret_version);
    pthread_mutex_unlock(&known.lock);
    pthread_mutex_unlock(&known.asking);
    return program;
}
