#include "runner/janitor/janitor.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/thread.h"
#include "runner/claude/conversation.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH 200
#define ORPHAN_AGE_S 3600 /* A task's directory may be slightly older than its row. */
#define DAY_MS (24 * INT64_C(3600000))

struct janitor {
    struct janitor_config config;
    char *tasks_dir;
    char *sessions_dir;
    struct thread thread;
    struct lock lock;
    pthread_cond_t wake;
    bool stop;
};

static bool is_stopping(struct janitor *janitor)
{
    lock_take(&janitor->lock);
    bool stop = janitor->stop;
    lock_drop(&janitor->lock);
    return stop;
}

/* --- tasks --------------------------------------------------------------------------------- */

/* Removes the directory first: a row that a crash leaves behind is found again, but files would not
 * be. */
static int remove_task(const char *id, void *arg)
{
    struct janitor *janitor = arg;
    struct err err;
    AUTO(str) char *path = path_join(janitor->tasks_dir, id);
    if (!path || path_remove_tree(path, &err)) {
        log_warn("janitor", "%s", path ? err.msg : "out of memory");
        return -1;
    }
    return 0;
}

static void remove_old(struct janitor *janitor)
{
    struct err err;
    int days = CONFIG_GET(janitor->config.config, keep_tasks_days), gone;
    int64_t before = clock_real_ms() - days * DAY_MS, all = 0;
    do {
        gone = store_expire(janitor->config.store, before, BATCH, remove_task, janitor, &err);
        if (gone < 0)
            log_warn("janitor", "cannot remove old tasks: %s", err.msg);
        all += gone > 0 ? gone : 0;
    } while (gone == BATCH && !is_stopping(janitor));
    if (all > 0)
        log_info("janitor", "removed %lld tasks that had ended %d days ago", (long long)all, days);
}

typedef bool is_needed_fn(struct store *store, const char *name);

static bool is_task(struct store *store, const char *id)
{
    struct err err = ERR_INIT;
    AUTO(task_record) struct task_record record = {0};
    return store_get(store, id, &record, &err) == 0 || err.code != ERR_NOT_FOUND;
}

/* True while a conversation is needed: it lasts as long as any of its tasks. */
static bool is_session(struct store *store, const char *conversation)
{
    struct err err;
    return store_has_conversation(store, conversation, &err) != 0;
}

static bool is_old(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && time(NULL) - st.st_mtim.tv_sec >= ORPHAN_AGE_S;
}

/* Removes the entries of `dir` that nobody needs. */
static void remove_orphans(struct janitor *janitor, const char *dir, is_needed_fn *is_needed)
{
    struct dirent *entry;
    struct err err;
    DIR *list = opendir(dir);
    while (list && (entry = readdir(list)) && !is_stopping(janitor)) {
        if (entry->d_name[0] == '.')
            continue;
        AUTO(str) char *path = path_join(dir, entry->d_name);
        if (!path || !is_old(path) || is_needed(janitor->config.store, entry->d_name))
            continue;
        if (path_remove_tree(path, &err))
            log_warn("janitor", "%s", err.msg);
        else
            log_info("janitor", "removed '%s', which belonged to no task", path);
    }
    if (list)
        closedir(list);
}

/* --- its life ------------------------------------------------------------------------------ */

static void *work(void *arg)
{
    struct janitor *janitor = arg;
    while (!is_stopping(janitor)) {
        struct timespec until;
        remove_old(janitor);
        remove_orphans(janitor, janitor->tasks_dir, is_task);
        remove_orphans(janitor, janitor->sessions_dir, is_session);
        repos_maintain(janitor->config.repos);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += CONFIG_GET(janitor->config.config, janitor_seconds);
        lock_take(&janitor->lock);
        while (!janitor->stop &&
               pthread_cond_timedwait(&janitor->wake, &janitor->lock.mutex, &until) == 0)
            continue;
        lock_drop(&janitor->lock);
    }
    return NULL;
}

static void release(struct janitor *janitor)
{
    if (!janitor)
        return;
    free(janitor->tasks_dir);
    free(janitor->sessions_dir);
    free(janitor);
}

struct janitor *janitor_new(const struct janitor_config *config, struct err *err)
{
    REQUIRE(config->store && config->repos);
    AUTO(config_ref) const struct config *now = config_ref(config->config);
    struct janitor *janitor = calloc(1, sizeof(*janitor));
    if (janitor) {
        janitor->config = *config;
        janitor->tasks_dir = path_join(now->state_dir, "tasks");
        janitor->sessions_dir = path_join(now->state_dir, CONVERSATIONS);
    }
    if (!janitor || !janitor->tasks_dir || !janitor->sessions_dir) {
        err_sys(err, "janitor");
        release(janitor);
        return NULL;
    }
    lock_init(&janitor->lock);
    cond_init(&janitor->wake);
    if (thread_start(&janitor->thread, "janitor", THREAD_STACK_DEFAULT, work, janitor, err) == 0)
        return janitor;
    release(janitor);
    return NULL;
}

void janitor_free(struct janitor *janitor)
{
    if (!janitor)
        return;
    lock_take(&janitor->lock);
    janitor->stop = true;
    pthread_cond_signal(&janitor->wake);
    lock_drop(&janitor->lock);
    thread_join(&janitor->thread);
    pthread_cond_destroy(&janitor->wake);
    lock_done(&janitor->lock);
    release(janitor);
}
