#include "runner/claude/version.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/thread.h"
#include "runner/work/work.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 5000
#define OUTPUT_MAX (1 << 20)
#define AGAIN_MS 15000     /* after this time a CLI that did not start is tried again */
#define FIRST_LOOK_MS 5000 /* the first look comes later than the work of starting */
#define LOOK_EVERY_MS 20000

/* The last answer. */
static struct {
    struct lock lock; /* guards the fields below */
    struct lock asking;
    struct timespec changed;
    ino_t inode;
    int64_t asked_ms; /* mono */
    char version[CLAUDE_VERSION_SIZE];
    char words[CLAUDE_WORDS_SIZE]; /* why there is no version */
} known = {.lock = LOCK_INIT, .asking = LOCK_INIT};

/* Reads the first word, when it is printable. */
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

/* Reads the last line of what it said, without control characters: what a shell says when it finds
 * nothing to execute is its last word. */
static void read_words(int fd, char words[CLAUDE_WORDS_SIZE])
{
    char text[4096];
    ssize_t n = fd_pread_full(fd, text, sizeof(text), 0);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    ssize_t from = n;
    while (from > 0 && text[from - 1] != '\n')
        from--;
    size_t len = 0;
    for (; from < n && len < CLAUDE_WORDS_SIZE - 1; from++)
        words[len++] = iscntrl((unsigned char)text[from]) ? ' ' : text[from];
    words[len] = '\0';
}

static int make_plan(const struct claude *claude, const char *program, struct plan *plan,
                     struct err *err)
{
    if (!(plan->cwd = strdup("/")))
        return err_sys(err, "plan");
    strlist_add(&plan->argv, program);
    strlist_add(&plan->argv, "--version");
    strlist_addf(&plan->env, "PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    strlist_addf(&plan->env, TASK_MARKER "=%s", claude->instance);
    plan->uid = claude->uid;
    plan->gid = claude->gid;
    return walls_alone(claude->walls, plan, err);
}

/* Starts it as a task would: as its user, in its jail, with nothing of our environment except the
 * search path. `words`: why there is no version. */
static int ask(const struct claude *claude, const char *program, char version[CLAUDE_VERSION_SIZE],
               char words[CLAUDE_WORDS_SIZE], struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(fd) int out = work_memory_file("version", "", 0, err);
    AUTO(fd) int errors = out < 0 ? -1 : work_memory_file("words", "", 0, err);
    struct work_result result;
    if (errors < 0)
        return -1;
    if (!plan || make_plan(claude, program, plan, err))
        return plan ? -1 : err_sys(err, "plan");
    const struct work_order order = {
        .launcher = claude->launcher,
        .plan = plan,
        .out = {.via = WORK_FD, .fd = out, .max_bytes = OUTPUT_MAX},
        .errors = {.via = WORK_FD, .fd = errors, .max_bytes = OUTPUT_MAX},
        .limits = {.until_ms = clock_mono_ms() + WAIT_MS},
        .at_once = true};
    if (work_run(&order, &result, err))
        return -1;
    if (result.cause == WORK_ENDED && result.status == 0)
        read_version(out, version);
    read_words(errors, words);
    if (!version[0] && !words[0])
        snprintf(words, CLAUDE_WORDS_SIZE,
                 result.cause == WORK_ENDED ? "it printed no version and ended with status %d"
                                            : "it did not end within %d s",
                 result.cause == WORK_ENDED ? work_exit_code(result.status) : WAIT_MS / 1000);
    return 0;
}

/* True when the answer is known. ret_stale: it did not start, and may be asked again. */
static bool is_known(const struct stat *st, char version[CLAUDE_VERSION_SIZE], bool *ret_stale)
{
    lock_take(&known.lock);
    bool same = known.inode == st->st_ino && known.changed.tv_sec == st->st_ctim.tv_sec &&
                known.changed.tv_nsec == st->st_ctim.tv_nsec;
    snprintf(version, CLAUDE_VERSION_SIZE, "%s", same ? known.version : "");
    *ret_stale = same && !known.version[0] && clock_mono_ms() - known.asked_ms >= AGAIN_MS;
    lock_drop(&known.lock);
    return same;
}

char *claude_version(const struct claude *claude, char ret_version[CLAUDE_VERSION_SIZE])
{
    struct stat st;
    struct err err;
    char words[CLAUDE_WORDS_SIZE] = "";
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    char *program = path_find_program(config->claude_bin, getenv("PATH"));
    bool stale = false;
    ret_version[0] = '\0';
    if (!program || stat(program, &st) || (is_known(&st, ret_version, &stale) && !stale) ||
        !lock_try(&known.asking))
        return program;
    if (ask(claude, program, ret_version, words, &err))
        snprintf(words, sizeof(words), "%.*s", (int)sizeof(words) - 1, err.msg);
    if (!ret_version[0] && !stale)
        log_warn("claude", "'%s' does not start as tasks would start it: %s", program, words);
    lock_take(&known.lock);
    known.inode = st.st_ino;
    known.changed = st.st_ctim;
    known.asked_ms = clock_mono_ms();
    snprintf(known.version, sizeof(known.version), "%s", ret_version);
    snprintf(known.words, sizeof(known.words), "%s", ret_version[0] ? "" : words);
    lock_drop(&known.lock);
    lock_drop(&known.asking);
    return program;
}

void claude_cli_words(char ret_words[CLAUDE_WORDS_SIZE])
{
    lock_take(&known.lock);
    snprintf(ret_words, CLAUDE_WORDS_SIZE, "%s", known.words);
    lock_drop(&known.lock);
}

enum claude_cli_state claude_cli_state(const struct claude *claude)
{
    struct stat st;
    bool ignored;
    char version[CLAUDE_VERSION_SIZE];
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    AUTO(str) char *program = path_find_program(config->claude_bin, getenv("PATH"));
    if (!program || access(program, X_OK) || stat(program, &st))
        return CLAUDE_CLI_MISSING;
    if (!is_known(&st, version, &ignored))
        return CLAUDE_CLI_UNKNOWN;
    return version[0] ? CLAUDE_CLI_WORKS : CLAUDE_CLI_BROKEN;
}

/* --- the watch ----------------------------------------------------------------------------- */

struct claude_watch {
    const struct claude *claude;
    struct thread thread;
    struct lock lock; /* guards the stop flag */
    pthread_cond_t stop;
    bool stopping;
};

static void *look_often(void *arg)
{
    struct claude_watch *watch = arg;
    int64_t pause_ms = FIRST_LOOK_MS;
    lock_take(&watch->lock);
    while (!watch->stopping) {
        int64_t until = clock_mono_ms() + pause_ms, left;
        while (!watch->stopping && (left = until - clock_mono_ms()) > 0)
            lock_wait(&watch->stop, &watch->lock, left);
        if (watch->stopping)
            break;
        lock_drop(&watch->lock);
        char version[CLAUDE_VERSION_SIZE];
        free(claude_version(watch->claude, version));
        pause_ms = LOOK_EVERY_MS;
        lock_take(&watch->lock);
    }
    lock_drop(&watch->lock);
    return NULL;
}

struct claude_watch *claude_watch_start(const struct claude *claude, struct err *err)
{
    struct claude_watch *watch = calloc(1, sizeof(*watch));
    if (!watch) {
        err_sys(err, "watch of the CLI");
        return NULL;
    }
    watch->claude = claude;
    lock_init(&watch->lock);
    cond_init(&watch->stop);
    if (thread_start(&watch->thread, "cli", THREAD_STACK_DEFAULT, look_often, watch, err)) {
        claude_watch_stop(watch);
        return NULL;
    }
    return watch;
}

void claude_watch_stop(struct claude_watch *watch)
{
    if (!watch)
        return;
    lock_take(&watch->lock);
    watch->stopping = true;
    pthread_cond_broadcast(&watch->stop);
    lock_drop(&watch->lock);
    thread_join(&watch->thread);
    pthread_cond_destroy(&watch->stop);
    lock_done(&watch->lock);
    free(watch);
}

/* --- versions ------------------------------------------------------------------------------ */

/* Compares a.b.c by number; anything after the third number (-beta.1) is ignored. */
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
