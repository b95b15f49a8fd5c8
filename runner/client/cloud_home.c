#include "runner/client/cloud_home.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/path.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 60000
#define END_MS 5000
#define LOOK_MS 10
#define BEFORE_MS 30000 /* a runner whose client was killed ends by itself */
#define SHARED_TMP "/var/tmp"
#define LOG_MAX (64u << 20)

/* --- what it is told ----------------------------------------------------------------------- */

static char *env_file(void)
{
    AUTO(str) char *config = settings_path();
    char *slash = config ? strrchr(config, '/') : NULL;
    char *path = NULL;
    if (!slash)
        return NULL;
    *slash = '\0';
    path = path_join(config, "cloud.env");
    if (path && access(path, R_OK) == 0)
        return path;
    free(path);
    return NULL;
}

int cloud_home_check(struct err *err)
{
    AUTO(str) char *file = env_file();
    static const char *const wanted[][2] = {{"GCP_PROJECT_ID", "GCS_PROJECT_ID"},
                                            {"CLOUDRUN_JOB_NAME", NULL},
                                            {"GCS_LOGS_BUCKET", NULL},
                                            {"KMS_KEY_RING", NULL},
                                            {"KMS_KEY_NAME", NULL}};
    AUTO(buf) struct buf missing = BUF_INIT(1024);
    for (size_t i = 0; !file && i < COUNT_OF(wanted); i++) {
        const char *value = getenv(wanted[i][0]);
        if ((!value || !*value) && wanted[i][1])
            value = getenv(wanted[i][1]);
        if (!value || !*value)
            buf_addf(&missing, "%s%s", missing.len ? ", " : "", wanted[i][0]);
    }
    if (missing.len == 0)
        return 0;
    return err_set(err, ERR_CONFIG,
                   "--cloud needs %.160s in the environment or in "
                   "~/.config/claude-runner/cloud.env (`claude-runner cloud setup` prints them)",
                   buf_str(&missing));
}

/* Makes the runner's environment: ours, with changes for a runner that only this program uses. */
static void make_environment(const struct cloud_home *home, const char *secret, struct strlist *env)
{
    static const char *const ours[] = {"PORT=",
                                       "BIND=",
                                       "RUNNER_",
                                       "OVERFLOW",
                                       "CLAUDE_CONFIG_DIR=",
                                       "JAIL",
                                       "QUEUE_MAX=",
                                       "LOG_",
                                       "MAX_CONCURRENT_TASKS=",
                                       "DISK_MIN_FREE_MB=",
                                       "CF_ACCESS_",
                                       "ALERT_URL",
                                       "PYTHON_",
                                       "SPARE_CLIS=",
                                       "CLAUDE_RUNNER_"};
    for (char *const *at = environ; *at; at++) {
        bool left_out = false;
        for (size_t i = 0; i < COUNT_OF(ours); i++)
            left_out |= str_starts(*at, ours[i]);
        if (!left_out)
            strlist_add(env, *at);
    }
    strlist_add(env, "PORT=0");
    strlist_add(env, "BIND=127.0.0.1");
    strlist_addf(env, "RUNNER_SECRET=%s", secret);
    strlist_addf(env, "RUNNER_STATE_DIR=%s", home->dir);
    strlist_addf(env, "CLAUDE_CONFIG_DIR=%s/no-login", home->dir);
    strlist_add(env, "OVERFLOW=always");
    strlist_add(env, "JAIL=none"); /* No program of a task runs here. */
    strlist_add(env, "JAIL_MIN=none");
    strlist_add(env, "QUEUE_MAX=100000");
    strlist_add(env, "MAX_CONCURRENT_TASKS=1");
    strlist_add(env, "DISK_MIN_FREE_MB=1");
    strlist_add(env, "LOG_FORMAT=text");
    strlist_add(env, "LOG_LEVEL=info");
}

/* --- starting ------------------------------------------------------------------------------ */

static int start(struct cloud_home *home, const char *secret, const char *log, const char *file,
                 struct err *err)
{
    AUTO(strlist) struct strlist env = STRLIST_INIT;
    char us[16];
    char *argv[] = {(char[]){"claude-runner"},
                    (char[]){"attached"},
                    us,
                    file ? (char[]){"--env-file"} : NULL,
                    (char *)(uintptr_t)file,
                    NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    snprintf(us, sizeof(us), "%d", (int)getpid());
    make_environment(home, secret, &env);
    strlist_add(&env, "");
    if (env.failed)
        return err_sys(err, "--cloud");
    free(env.items[--env.count]);
    env.items[env.count] = NULL;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP); /* This program handles Ctrl-C. */
    errno = posix_spawn(&home->pid, "/proc/self/exe", &actions, &attributes, argv, env.items);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (errno == 0)
        return 0;
    home->pid = 0;
    return err_sys(err, "--cloud: cannot start");
}

/* Waits for the runner of a client that was killed: it may live a moment longer, and holds the lock
 * of the state until it has ended. */
static int await_the_one_before(const struct cloud_home *home, struct err *err)
{
    int64_t end = clock_mono_ms() + BEFORE_MS;
    AUTO(str) char *path = path_join(home->dir, "lock");
    for (bool said = false;;) {
        AUTO(fd) int lock = path ? file_lock(path, err) : err_sys(err, "a path");
        if (lock >= 0)
            return 0;
        if (err->code != ERR_CONFLICT)
            return -1;
        if (client_signals > 0 || clock_mono_ms() >= end)
            return err_set(err, ERR_CONFLICT, "--cloud: another runner is still at work in %.150s",
                           home->dir);
        if (!said)
            fprintf(stderr, "waiting for the runner of the client before to end\n");
        said = true;
        poll(NULL, 0, LOOK_MS);
    }
}

/* The address on which the runner listens, which the caller frees; NULL before the runner has
 * logged it. */
static char *read_address(const char *log)
{
    struct err ignored;
    AUTO(buf) struct buf text = BUF_INIT(LOG_MAX);
    if (file_read(log, &text, &ignored))
        return NULL;
    const char *at = strstr(buf_str(&text), "listening on http://");
    at = at ? strchr(at, 'h') : NULL;
    return at ? str_copy(at, strcspn(at, " \",\r\n")) : NULL;
}

/* Reports why the runner did not start: the last line of its log. */
static int explain(struct cloud_home *home, const char *log, struct err *err)
{
    struct err ignored;
    AUTO(buf) struct buf text = BUF_INIT(LOG_MAX);
    home->pid = 0;
    file_read(log, &text, &ignored);
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    const char *line = text.len > 0 ? strrchr(text.data, '\n') : NULL;
    return err_set(err, ERR_CONFIG, "--cloud: %.200s",
                   line           ? line + 1
                   : text.len > 0 ? text.data
                                  : "its runner did not start");
}

static int await_address(struct cloud_home *home, const char *log, struct settings *to,
                         struct err *err)
{
    int64_t end = clock_mono_ms() + START_MS;
    int status;
    while (clock_mono_ms() < end && client_signals == 0) {
        free(to->url);
        to->url = read_address(log);
        if (to->url)
            return 0;
        if (waitpid(home->pid, &status, WNOHANG) == home->pid)
            return explain(home, log, err);
        poll(NULL, 0, LOOK_MS);
    }
    return err_set(err, ERR_TIMEOUT, "--cloud: its runner did not start in time (%.150s)", log);
}

/* A directory for root's runner: it tests launches as another user, who may not be able to enter
 * the results' directory. So its state is in a directory that everybody can enter, named after the
 * results'. */
static char *place_for_root(const char *real)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf name = BUF_INIT(256);
    crypto_sha256(real, strlen(real), digest);
    buf_adds(&name, SHARED_TMP "/claude-runner-cloud-");
    str_add_hex(&name, digest, 12);
    return buf_ok(&name) ? buf_steal(&name) : NULL;
}

/* Makes the directory, or uses an existing one that is ours and that nobody else can write to. */
static int take_up(const char *dir, mode_t mode, struct err *err)
{
    struct stat st;
    if (mkdir(dir, mode) == 0)
        return chmod(dir, mode) ? err_sys(err, "cannot make %.150s", dir) : 0;
    if (errno != EEXIST || lstat(dir, &st))
        return err_sys(err, "cannot make %.150s", dir);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
        return err_set(err, ERR_CONFLICT, "%.150s is somebody else's", dir);
    return 0;
}

static int make_dir(struct cloud_home *home, const char *dir, struct err *err)
{
    const char *base = getenv("TMPDIR");
    bool root = geteuid() == 0;
    base = root ? SHARED_TMP : base && *base ? base : "/tmp";
    home->ours = !dir;
    if (!dir) {
        home->dir = path_join(base, "claude-runner-cloud-XXXXXX");
        if (!home->dir || !mkdtemp(home->dir) || (root && chmod(home->dir, 0711)))
            return err_sys(err, "cannot make a temporary folder");
        return 0;
    }
    if (path_make_dirs(dir, 0777, err))
        return -1;
    AUTO(str) char *real = realpath(dir, NULL);
    home->dir = !real ? NULL : root ? place_for_root(real) : path_join(real, ".cloud");
    return home->dir ? take_up(home->dir, root ? 0711 : 0700, err) : err_sys(err, "%.150s", dir);
}

int cloud_home_open(struct cloud_home *home, const char *dir, struct settings *to, struct err *err)
{
    char secret[ID_UUID_SIZE];
    AUTO(str) char *file = env_file();
    const char *job = getenv("CLOUDRUN_JOB_NAME"), *project = getenv("GCP_PROJECT_ID");
    *home = (struct cloud_home){.pid = 0};
    id_uuid(secret);
    if (cloud_home_check(err) || make_dir(home, dir, err) || await_the_one_before(home, err))
        return -1;
    AUTO(str) char *log = path_join(home->dir, "log");
    snprintf(home->name, sizeof(home->name), "cloud:%.90s/%.90s", project ? project : "",
             job ? job : "");
    to->secret = strdup(secret);
    if (!log || !to->secret)
        return err_sys(err, "--cloud");
    unlink(log); /* Left by the previous runner. */
    return start(home, secret, log, file, err) || await_address(home, log, to, err) ? -1 : 0;
}

void cloud_home_close(struct cloud_home *home, bool over)
{
    struct err ignored;
    int status;
    int64_t end = clock_mono_ms() + END_MS;
    if (home->pid > 0) {
        kill(home->pid, over ? SIGTERM : SIGKILL); /* Its state survives the kill, and its tasks go
                                                    * on. */
        while (waitpid(home->pid, &status, WNOHANG) == 0 && clock_mono_ms() < end)
            poll(NULL, 0, LOOK_MS);
        kill(home->pid, SIGKILL);
        while (waitpid(home->pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    if (home->dir && (over || home->ours))
        path_remove_tree(home->dir, &ignored);
    free(home->dir);
    *home = (struct cloud_home){.pid = 0};
}
