#include "runner/overflow/prompt.h"

#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/thread.h"
#include "google/secret.h"
#include "runner/request/request.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STACK_BYTES (256u << 10)
#define FIRST_MS 5000 /* The service does not wait longer for an unreachable Secret Manager. */

struct prompt_watch {
    struct google *google;
    char *name;
    char *path;
    int64_t every_ms;
    struct thread thread;
    struct lock lock; /* guards the fields below */
    pthread_cond_t wake;
    bool stop;
    bool asked;  /* was asked at least once */
    bool failed; /* the last time failed */

    /* The thread's own: the file's content, as far as known, and the last message. */
    bool known;
    char version[SECRET_VERSION_SIZE];
    uint32_t crc;
    char trouble[240];
};

/* --- asking -------------------------------------------------------------------------------- */

static void tell(struct prompt_watch *watch, const char *trouble)
{
    if (strcmp(watch->trouble, trouble) == 0)
        return;
    snprintf(watch->trouble, sizeof(watch->trouble), "%s", trouble);
    if (*trouble)
        log_error("config", "SYSTEM_PROMPT_SECRET: %s; %s", trouble,
                  prompt_watch_has_text(watch) ? "the last good text stays in force"
                                               : "tasks run without it until it can be read");
}

static int fetch(struct prompt_watch *watch, struct err *err)
{
    char version[SECRET_VERSION_SIZE];
    AUTO(buf_wipe) struct buf text = BUF_INIT(SECRET_BYTES_MAX);
    if (google_secret(watch->google, watch->name, &text, version, err))
        return -1;
    const char *data = buf_str(&text);
    uint32_t crc = google_crc32c(0, data, text.len);
    if (watch->known && strcmp(version, watch->version) == 0 && crc == watch->crc)
        return 0;
    if (strlen(data) != text.len || !str_is_utf8(data, text.len) || str_is_blank(data, text.len) ||
        text.len > REQUEST_ARG_MAX)
        return err_set(err, ERR_INVALID, "version %s is not UTF-8 text, or blank", version);
    if (file_replace(watch->path, data, text.len, 0600, err))
        return -1;
    watch->known = true;
    watch->crc = crc;
    snprintf(watch->version, sizeof(watch->version), "%s", version);
    log_info("config", "system prompt is version %s of '%s'", version, watch->name);
    return 0;
}

static void *work(void *arg)
{
    struct err err;
    struct prompt_watch *watch = arg;
    lock_take(&watch->lock);
    while (!watch->stop) {
        lock_drop(&watch->lock);
        bool failed = fetch(watch, &err) != 0;
        tell(watch, failed ? err.msg : "");
        lock_take(&watch->lock);
        watch->failed = failed;
        watch->asked = true;
        pthread_cond_broadcast(&watch->wake);
        if (!watch->stop)
            (void)lock_wait(&watch->wake, &watch->lock, watch->every_ms);
    }
    lock_drop(&watch->lock);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

static int name_parts(struct prompt_watch *watch, const struct config *config, struct err *err)
{
    const char *project =
        config->gcp_project_id ? config->gcp_project_id : google_project(watch->google);
    if (config->system_prompt_file)
        return err_set(err, ERR_CONFIG, "SYSTEM_PROMPT_FILE and SYSTEM_PROMPT_SECRET are both set");
    if (!project && !str_starts(config->system_prompt_secret, "projects/"))
        return err_set(err, ERR_CONFIG, "SYSTEM_PROMPT_SECRET: GCP_PROJECT_ID is not set");
    watch->name = cloud_full_name(config->system_prompt_secret, project, "secrets");
    watch->path = path_join(config->state_dir, "system-prompt");
    watch->every_ms = (int64_t)config->system_prompt_poll_seconds * 1000;
    return watch->name && watch->path ? 0 : err_sys(err, "system prompt");
}

static int start(struct prompt_watch *watch, struct err *err)
{
    if (thread_start(&watch->thread, "system-prompt", STACK_BYTES, work, watch, err))
        return -1;
    lock_take(&watch->lock);
    if (!watch->asked)
        (void)lock_wait(&watch->wake, &watch->lock, FIRST_MS);
    lock_drop(&watch->lock);
    return 0;
}

struct prompt_watch *prompt_watch_start(const struct config *config, struct err *err)
{
    struct prompt_watch *watch = calloc(1, sizeof(*watch));
    if (!watch) {
        err_sys(err, "system prompt");
        return NULL;
    }
    lock_init(&watch->lock);
    cond_init(&watch->wake);
    watch->google = cloud_google(config, err);
    if (!watch->google || name_parts(watch, config, err) || start(watch, err)) {
        prompt_watch_stop(watch);
        return NULL;
    }
    return watch;
}

void prompt_watch_stop(struct prompt_watch *watch)
{
    if (!watch)
        return;
    lock_take(&watch->lock);
    watch->stop = true;
    pthread_cond_broadcast(&watch->wake);
    lock_drop(&watch->lock);
    thread_join(&watch->thread);
    google_free(watch->google);
    pthread_cond_destroy(&watch->wake);
    lock_done(&watch->lock);
    free(watch->name);
    free(watch->path);
    free(watch);
}

const char *prompt_watch_path(const struct prompt_watch *watch)
{
    return watch->path;
}

bool prompt_watch_has_text(const struct prompt_watch *watch)
{
    return access(watch->path, F_OK) == 0;
}

bool prompt_watch_fails(struct prompt_watch *watch)
{
    lock_take(&watch->lock);
    bool failed = watch->failed;
    lock_drop(&watch->lock);
    return failed;
}
