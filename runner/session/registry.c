/* The sessions that exist: see session.h. */
#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/session/session_private.h"
#include "runner/walls/walls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAKERS_MS 25000
#define TIDY_EVERY_MS 15000
#define USED_EVERY_MS 60000 /* precision of the last use after a crash */

/* --- references ---------------------------------------------------------------------------- */

void session_unref_locked(struct session *session)
{
    REQUIRE(session->refs > 0);
    if (--session->refs > 0)
        return;
    shellviews_done(session);
    detached_done(session);
    base_done(session);
    strlist_wipe(&session->env);
    strlist_done(&session->egress);
    strlist_done(&session->denied);
    egress_gate_free(session->gate); /* Its thread takes no lock of ours. */
    if (session->lent)
        users_give(session->sessions->config.walls->users, session->user.uid);
    free(session->dir);
    free(session->metadata);
    free(session);
}

void session_unref(struct session *session)
{
    struct sessions *sessions = session->sessions;
    lock_take(&sessions->lock);
    session_unref_locked(session);
    lock_drop(&sessions->lock);
}

static struct session *find_locked(struct sessions *sessions, const char *id) HOLDS(sessions->lock);
static struct session *find_locked(struct sessions *sessions, const char *id)
{
    struct session *session = sessions->list;
    while (session && strcmp(session->id, id) != 0)
        session = session->next;
    return session;
}

struct session *session_take(struct sessions *sessions, const char *id, struct err *err)
{
    lock_take(&sessions->lock);
    struct session *session = find_locked(sessions, id);
    if (session) {
        session->refs++;
        session->used_ms = clock_real_ms();
    }
    lock_drop(&sessions->lock);
    if (!session)
        err_set(err, ERR_NOT_FOUND, "there is no session '%.64s'", id);
    return session;
}

bool sessions_has(struct sessions *sessions, const char *id)
{
    lock_take(&sessions->lock);
    bool has = find_locked(sessions, id) != NULL;
    lock_drop(&sessions->lock);
    return has;
}

int session_check(struct sessions *sessions, const char *id, struct err *err)
{
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session)
        return -1;
    return session->base ? err_set(err, ERR_CONFLICT,
                                   "the files of a session that was made with `layered` are seen "
                                   "by its own shells only: make it without")
                         : 0;
}

/* --- making -------------------------------------------------------------------------------- */

static struct session *session_new(struct sessions *sessions, const char *id)
{
    struct session *session = calloc(1, sizeof(*session));
    char *dir = path_join(sessions->dir, id);
    if (!session || !dir) {
        free(session);
        free(dir);
        return NULL;
    }
    session->sessions = sessions;
    session->refs = 1;
    session->control = -1;
    session->dir = dir;
    session->user = (struct owner){sessions->config.uid, sessions->config.gid};
    session->created_ms = session->used_ms = clock_real_ms();
    snprintf(session->id, sizeof(session->id), "%s", id);
    return session;
}

/* Its directories; what is below `box` is the session's user's. */
static const struct {
    const char *name;
    mode_t mode;
} dirs[] = {{"box", 0711},      {"box/workspace", 0755}, {"box/tmp", 01777},
            {"box/home", 0755}, {"box/home/user", 0755}, {"box/shells", 0700},
            {"box/root", 0755}};

static int own(const struct session *session, int fd)
{
    return geteuid() == 0 ? fchown(fd, session->user.uid, session->user.gid) : 0;
}

/* One of the directories in `box`: whatever stands in its place is removed, and its owner may use
 * it. */
static int mend_dir(const struct session *session, int box, const char *name, mode_t mode)
{
    struct stat st;
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if (fstatat(box, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
        return (st.st_mode & 0700) == 0700 ? 0 : fchmodat(box, name, st.st_mode | 0700, 0);
    unlinkat(box, name, 0);
    if (mkdirat(box, name, mode))
        return -1;
    AUTO(fd) int fd = openat(box, name, flags);
    return fd < 0 || own(session, fd) || fchmod(fd, mode) ? -1 : 0;
}

int session_mend_dirs(const struct session *session, struct err *err)
{
    AUTO(str) char *path = path_join(session->dir, "box");
    AUTO(fd)
    int box = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    /* Where we are root nobody else can replace what is in it; its user still reads it. */
    if (box < 0 || (geteuid() == 0 && fchown(box, 0, 0)) ||
        fchmod(box, geteuid() == 0 ? 0755 : dirs[0].mode))
        return err_sys(err, "the session's directory");
    for (size_t i = 1; i < COUNT_OF(dirs); i++) {
        const char *name = dirs[i].name + strlen("box/");
        if (!strchr(name, '/') && mend_dir(session, box, name, dirs[i].mode))
            return err_sys(err, "the session's directory '%s'", name);
    }
    return 0;
}

static int make_dirs(const struct session *session, struct err *err)
{
    const struct sessions_config *config = &session->sessions->config;
    if (mkdir(session->dir, 0711))
        return errno == EEXIST
                   ? err_set(err, ERR_CONFLICT, "there is a session '%s' already", session->id)
                   : err_sys(err, "cannot make a session");
    for (size_t i = 0; i < COUNT_OF(dirs); i++) {
        AUTO(str) char *path = path_join(session->dir, dirs[i].name);
        if (!path || mkdir(path, dirs[i].mode) || chmod(path, dirs[i].mode))
            return err_sys(err, "cannot make a session");
        if (geteuid() == 0 && path_own(path, config->uid, config->gid, err))
            return -1;
    }
    return 0;
}

static int copy_wish(struct session *session, const struct session_wish *wish, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(session->sessions->config.config);
    session->ttl_minutes = wish->ttl_minutes > 0 ? wish->ttl_minutes : config->session_ttl_minutes;
    session->idle_minutes = wish->idle_minutes;
    session->pids_max = wish->pids_max;
    session->disk_mb = wish->disk_mb;
    session->memory_mb = wish->memory_mb;
    session->cpu = wish->cpu;
    for (size_t i = 0; wish->env && i < wish->env->count; i++)
        strlist_add(&session->env, wish->env->items[i]);
    for (size_t i = 0; wish->egress && i < wish->egress->count; i++)
        strlist_add(&session->egress, wish->egress->items[i]);
    if (wish->metadata)
        session->metadata = strdup(wish->metadata);
    if (session->env.failed || session->egress.failed || (wish->metadata && !session->metadata))
        return err_sys(err, "session");
    return 0;
}

/* Adds the session to the list: from now on its id is taken. */
static int enter(struct sessions *sessions, struct session *session, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(sessions->config.config);
    int max = config->sessions_max;
    lock_take(&sessions->lock);
    bool taken = find_locked(sessions, session->id) != NULL;
    bool full = sessions->count >= (size_t)max;
    if (!taken && !full && !sessions->closing) {
        session->next = sessions->list;
        sessions->list = session;
        sessions->count++;
        sessions->makers++;
        session->making = true;
        session->refs++; /* its maker's reference */
    }
    bool closing = sessions->closing;
    lock_drop(&sessions->lock);
    if (closing)
        return err_set(err, ERR_BUSY, "the service is shutting down");
    if (taken)
        return err_set(err, ERR_CONFLICT, "there is a session '%s' already", session->id);
    return full ? err_set(err, ERR_RATE, "there are %d sessions already (SESSIONS_MAX)", max) : 0;
}

/* Removes the session from the list. False when it was not there any more. */
static bool leave_locked(struct sessions *sessions, struct session *session) HOLDS(sessions->lock);
static bool leave_locked(struct sessions *sessions, struct session *session)
{
    struct session **at = &sessions->list;
    while (*at && *at != session)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = session->next;
    sessions->count--;
    session->deleted = true;
    return true;
}

/* --- removing ------------------------------------------------------------------------------ */

/* Ends its processes and removes its directory. The directory is renamed first, so that the rest of
 * an interrupted removal is not a session. */
static int erase(struct sessions *sessions, const struct session *session, struct err *err)
{
    char fresh[ID_SIZE], gone[ID_SIZE + 8];
    id_new(fresh);
    snprintf(gone, sizeof(gone), ".gone-%s", fresh);
    AUTO(str) char *to = path_join(sessions->dir, gone);
    if (!to || (rename(session->dir, to) && errno != ENOENT))
        return err_sys(err, "cannot remove the session");
    return path_remove_tree(to, err);
}

int session_delete(struct sessions *sessions, const char *id, bool *ret_there, struct err *err)
{
    lock_take(&sessions->lock);
    struct session *session = find_locked(sessions, id);
    *ret_there = session && leave_locked(sessions, session);
    if (session) {
        while (session->waking || session->making)
            lock_wait(&sessions->changed, &sessions->lock, 1000);
        guests_tell_locked(session);
        session_lost_locked(session);
        hub_ring(sessions);
    }
    lock_drop(&sessions->lock);
    if (!session)
        return 0;
    int rc = erase(sessions, session, err);
    session_unref(session);
    return rc;
}

static void *wake_run(void *arg)
{
    struct session *session = arg;
    struct sessions *sessions = session->sessions;
    struct err err;
    if (session_wake(session, &err))
        log_warn("session", "%s", err.msg); /* A caller's request reports it as well. */
    lock_take(&sessions->lock);
    session_unref_locked(session);
    sessions->wakers--;
    pthread_cond_broadcast(&sessions->changed);
    lock_drop(&sessions->lock);
    return NULL;
}

/* Starts the agent in the background, so that the maker need not wait for it. */
static void wake_soon(struct session *session)
{
    struct sessions *sessions = session->sessions;
    struct err ignored;
    lock_take(&sessions->lock);
    session->refs++;
    sessions->wakers++;
    lock_drop(&sessions->lock);
    if (thread_start_detached("session-wake", THREAD_STACK_SMALL, wake_run, session, &ignored) == 0)
        return;
    lock_take(&sessions->lock);
    sessions->wakers--;
    session_unref_locked(session);
    lock_drop(&sessions->lock);
}

int session_create(struct sessions *sessions, const struct session_wish *wish, struct buf *out,
                   struct err *err)
{
    char id[ID_SIZE];
    bool ignored;
    struct err later;
    if (wish->id)
        snprintf(id, sizeof(id), "%s", wish->id);
    else
        id_new(id);
    struct session *session = session_new(sessions, id);
    if (!session)
        return err_sys(err, "session");
    if (copy_wish(session, wish, err) || enter(sessions, session, err)) {
        session_unref(session);
        return -1;
    }
    int rc = make_dirs(session, err) || base_fill(session, wish, err) || session_save(session, err);
    if (rc == 0 && wish->from)
        session_find_shells(session);
    lock_take(&sessions->lock);
    if (session->deleted && rc == 0)
        rc = err_set(err, ERR_CONFLICT, "session '%s' has been removed while it was made", id);
    session->making = false;
    sessions->makers--;
    pthread_cond_broadcast(&sessions->changed);
    lock_drop(&sessions->lock);
    bool deleted = session->deleted;
    if (rc == 0)
        wake_soon(session);
    else if (!deleted)
        session_delete(sessions, id, &ignored, &later);
    session_unref(session);
    return rc ? -1 : session_print(sessions, id, out, err);
}

/* --- what was there before ----------------------------------------------------------------- */

/* The directory of a shell, from the first line of its state: "\\builtin cd -- 'PATH'". NULL when
 * there is none. The session's user can write the file. The caller frees the path. */
static char *read_cwd(const struct session *session, const char *dir, const char *name)
{
    static const char head[] = "\\builtin cd -- '";
    char text[4608] = "";
    AUTO(str) char *path = path_join(dir, name);
    AUTO(str) char *box = path_join(session->dir, "box");
    AUTO(buf) struct buf cwd = BUF_INIT(sizeof(text));
    AUTO(fd) int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
    if (n <= 0 || !box || !str_starts(text, head))
        return NULL;
    for (const char *at = text + sizeof(head) - 1; *at && *at != '\n'; at++) {
        if (*at == '\'' && strncmp(at, "'\\''", 4) != 0)
            break;
        buf_addc(&cwd, *at);
        at += *at == '\'' ? 3 : 0;
    }
    size_t skip = str_starts(buf_str(&cwd), box) ? strlen(box) : 0;
    const char *shown = buf_str(&cwd) + skip;
    return *shown == '/' && str_is_utf8(shown, strlen(shown)) ? strdup(shown) : NULL;
}

/* Finds shells that have saved a state. */
void session_find_shells(struct session *session)
{
    struct dirent *entry;
    AUTO(str) char *path = path_join(session->dir, "box/shells");
    DIR *dir = path ? opendir(path) : NULL;
    lock_take(&session->sessions->lock);
    while (dir && (entry = readdir(dir))) {
        struct view *view =
            id_is_valid(entry->d_name) ? shellview_take_locked(session, entry->d_name) : NULL;
        if (view && !view->cwd)
            view->cwd = read_cwd(session, path, entry->d_name);
    }
    lock_drop(&session->sessions->lock);
    if (dir)
        closedir(dir);
}

/* Another RUNNER_USER than when it was made (an older container's): its files follow. */
static void take_over(const struct session *session)
{
    struct err err;
    struct stat st;
    const struct sessions_config *config = &session->sessions->config;
    AUTO(str) char *box = path_join(session->dir, "box");
    AUTO(str) char *home = path_join(session->dir, "box/home");
    if (!box || !home || geteuid() != 0 || lstat(home, &st) || st.st_uid == config->uid)
        return;
    if (users_hand_over(box, (struct owner){st.st_uid, st.st_gid},
                        (struct owner){config->uid, config->gid}, &err))
        log_warn("session", "%s: %s", session->id, err.msg);
}

static void take_up(struct sessions *sessions, const char *id)
{
    struct err err;
    struct session *session = session_new(sessions, id);
    if (!session)
        return;
    if (session_load(session, &err)) {
        log_warn("session", "the session '%s' cannot be read and is passed over: %s", id, err.msg);
        session_unref_locked(session);
        return;
    }
    take_over(session);
    base_load(session);
    session_find_shells(session);
    detached_load(session);
    session->next = sessions->list;
    sessions->list = session;
    sessions->count++;
}

static int take_up_all(struct sessions *sessions, struct err *err)
{
    struct dirent *entry;
    struct err ignored;
    DIR *dir = opendir(sessions->dir);
    if (!dir)
        return err_sys(err, "sessions");
    while ((entry = readdir(dir))) {
        AUTO(str) char *path = path_join(sessions->dir, entry->d_name);
        if (path && str_starts(entry->d_name, ".gone-"))
            path_remove_tree(path, &ignored);
        else if (id_is_valid(entry->d_name))
            take_up(sessions, entry->d_name);
    }
    closedir(dir);
    return 0;
}

/* --- time ---------------------------------------------------------------------------------- */

static bool is_over_locked(const struct session *session, int64_t now_ms)
{
    if (session->guests)
        return false;
    if (now_ms >= session->created_ms + session->ttl_minutes * INT64_C(60000))
        return true;
    return session->idle_minutes > 0 && session->command_count == 0 &&
           !ptys_watched_locked(session) &&
           now_ms >= session->used_ms + session->idle_minutes * INT64_C(60000);
}

static void tidy(struct sessions *sessions)
{
    struct err err;
    bool there;
    int64_t now_ms = clock_real_ms();
    AUTO(strlist) struct strlist over = STRLIST_INIT;
    snapshots_tidy(sessions, now_ms);
    lock_take(&sessions->lock);
    for (struct session *at = sessions->list; at; at = at->next) {
        if (is_over_locked(at, now_ms))
            strlist_add(&over, at->id);
        else if (at->used_ms - at->used_written_ms > USED_EVERY_MS && session_save(at, &err))
            log_warn("session", "%s", err.msg);
    }
    lock_drop(&sessions->lock);
    for (size_t i = 0; i < over.count; i++) {
        log_info("session", "the time of session '%s' is up", over.items[i]);
        if (session_delete(sessions, over.items[i], &there, &err))
            log_warn("session", "%s", err.msg);
    }
}

static void *tidy_run(void *arg)
{
    struct sessions *sessions = arg;
    bool stopping = false;
    while (!stopping) {
        int64_t until = clock_mono_ms() + TIDY_EVERY_MS, now;
        tidy(sessions);
        lock_take(&sessions->lock);
        while (!(stopping = sessions->stopping) && (now = clock_mono_ms()) < until)
            lock_wait(&sessions->stopped, &sessions->lock, until - now);
        lock_drop(&sessions->lock);
    }
    return NULL;
}

/* --- all of them --------------------------------------------------------------------------- */

struct sessions *sessions_new(const struct sessions_config *config, struct err *err)
{
    struct sessions *sessions = calloc(1, sizeof(*sessions));
    if (!sessions) {
        err_sys(err, "sessions");
        return NULL;
    }
    sessions->config = *config;
    sessions->epoll = sessions->bell = -1;
    lock_init(&sessions->lock);
    cond_init(&sessions->changed);
    cond_init(&sessions->stopped);
    sessions->dir = path_join(config->state_dir, "sessions");
    if (sessions->dir && path_make_dirs(sessions->dir, 0711, err) == 0 &&
        snapshots_load(sessions, err) == 0 && take_up_all(sessions, err) == 0 &&
        hub_start(sessions, err) == 0 &&
        thread_start(&sessions->tidier, "sessions-tidy", THREAD_STACK_DEFAULT, tidy_run, sessions,
                     err) == 0)
        return sessions;
    sessions_free(sessions);
    return NULL;
}

int sessions_hold(struct sessions *sessions, struct err *err)
{
    lock_take(&sessions->lock);
    bool closing = sessions->closing;
    sessions->makers += !closing;
    lock_drop(&sessions->lock);
    return closing ? err_set(err, ERR_BUSY, "the service is shutting down") : 0;
}

void sessions_let_go(struct sessions *sessions)
{
    lock_take(&sessions->lock);
    sessions->makers--;
    pthread_cond_broadcast(&sessions->changed);
    lock_drop(&sessions->lock);
}

void sessions_stop(struct sessions *sessions)
{
    struct err ignored;
    if (!sessions)
        return;
    lock_take(&sessions->lock);
    sessions->closing = true;
    for (struct session *at = sessions->list; at; at = at->next) {
        session_lost_locked(at);
        if (at->used_ms != at->used_written_ms)
            session_save(at, &ignored);
    }
    while (sessions->wakers + sessions->makers > 0 &&
           lock_wait(&sessions->changed, &sessions->lock, WAKERS_MS))
        continue;
    for (struct session *at = sessions->list; at; at = at->next)
        session_lost_locked(at); /* Sessions that have just been woken. */
    lock_drop(&sessions->lock);
    hub_stop(sessions);
}

void sessions_free(struct sessions *sessions)
{
    if (!sessions)
        return;
    sessions_stop(sessions);
    lock_take(&sessions->lock);
    while (sessions->list) {
        struct session *session = sessions->list;
        leave_locked(sessions, session);
        session_unref_locked(session);
    }
    lock_drop(&sessions->lock);
    snapshots_free(sessions);
    for (struct source *source; (source = sessions->gone);) {
        sessions->gone = source->next_gone;
        free(source);
    }
    fd_close(&sessions->epoll);
    fd_close(&sessions->bell);
    pthread_cond_destroy(&sessions->changed);
    pthread_cond_destroy(&sessions->stopped);
    lock_done(&sessions->lock);
    free(sessions->ringing);
    free(sessions->due);
    free(sessions->dir);
    free(sessions);
}
