#include "runner/claude/version.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/path.h"
#include "runner/work/work.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 5000
#define OUTPUT_MAX (1 << 20)

/* What was asked last. */
static struct {
    struct lock lock; /* of what follows */
    struct lock asking;
    struct timespec changed;
    ino_t inode;
    char version[CLAUDE_VERSION_SIZE];
} known = {.lock = LOCK_INIT, .asking = LOCK_INIT};

/* The first word, when it is printable. */
static void read_version(int fd, char version[CLAUDE_VERSION_SIZE])
{
    char text[CLAUDE_VERSION_SIZE] = "";
    size_t len = 0;
    if (fd_pread_full(fd, text, sizeof(text) - 1, 0) <= 0)
        return;
    while (isgraph((unsigned char)text[len]))
        len++;
    snprintf(version, CLAUDE_VERSION_SIZE, "%.*s", (int)len, text);
}

/* As a task would start it: its user, nothing of our environment but where programs are. */
static void ask(const struct claude *claude, const char *program, char version[CLAUDE_VERSION_SIZE])
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(fd) int out = work_memory_file("version", "", 0, &err);
    struct work_result result;
    if (!plan || out < 0 || !(plan->cwd = path_join(config->state_dir, "run")))
        return;
    strlist_add(&plan->argv, program);
    strlist_add(&plan->argv, "--version");
    strlist_addf(&plan->env, "PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    strlist_addf(&plan->env, TASK_MARKER "=%s", claude->instance);
    plan->uid = claude->uid;
    plan->gid = claude->gid;
    const struct work_order order = {.launcher = claude->launcher,
                                     .plan = plan,
                                     .out = {.via = WORK_FD, .fd = out, .max_bytes = OUTPUT_MAX},
                                     .limits = {.until_ms = clock_mono_ms() + WAIT_MS},
                                     .at_once = true};
    if (work_run(&order, &result, &err) == 0 && result.cause == WORK_ENDED && result.status == 0)
        read_version(out, version);
}

static bool is_known(const struct stat *st, char version[CLAUDE_VERSION_SIZE])
{
    lock_take(&known.lock);
    bool same = known.inode == st->st_ino && known.changed.tv_sec == st->st_ctim.tv_sec &&
                known.changed.tv_nsec == st->st_ctim.tv_nsec;
    snprintf(version, CLAUDE_VERSION_SIZE, "%s", same ? known.version : "");
    lock_drop(&known.lock);
    return same;
}

char *claude_version(const struct claude *claude, char ret_version[CLAUDE_VERSION_SIZE])
{
    struct stat st;
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    char *program = path_find_program(config->claude_bin, getenv("PATH"));
    ret_version[0] = '\0';
    if (!program || stat(program, &st) || is_known(&st, ret_version) || !lock_try(&known.asking))
        return program;
    ask(claude, program, ret_version);
    lock_take(&known.lock);
    known.inode = st.st_ino;
    known.changed = st.st_ctim;
    snprintf(known.version, sizeof(known.version), "%s", ret_version);
    lock_drop(&known.lock);
    lock_drop(&known.asking);
    return program;
}

bool claude_is_there(const struct claude *claude)
{
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    AUTO(str) char *program = path_find_program(config->claude_bin, getenv("PATH"));
    return program && access(program, X_OK) == 0;
}

/* Compares a.b.c by number; what follows the third number (-beta.1) does not count. */
static int compare(const char *one, const char *other)
{
    for (int part = 0; part < 3; part++) {
        char *one_end, *other_end;
        long a = strtol(one, &one_end, 10), b = strtol(other, &other_end, 10);
        if (a != b)
            return a < b ? -1 : 1;
        one = *one_end == '.' ? one_end + 1 : one_end;
        other = *other_end == '.' ? other_end + 1 : other_end;
    }
    return 0;
}

bool claude_version_keeps_prompts(const char *version)
{
    return isdigit((unsigned char)version[0]) && compare(version, CLAUDE_NEWEST_TESTED) >= 0;
}

bool claude_version_is_tested(const char *version)
{
    return isdigit((unsigned char)version[0]) && compare(version, CLAUDE_OLDEST_TESTED) >= 0 &&
           compare(version, CLAUDE_NEWEST_TESTED) <= 0;
}
