#include "runner/overflow/warm.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/result.h"
#include "runner/request/request.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_MAX 1000

/* An execution that stays. */
struct warm {
    struct warm *next;
    char session[ID_SIZE], task[ID_SIZE];
    char execution[512], job[RUN_NAME_SIZE];
    int64_t until_ms; /* mono: then it has gone */
    int64_t life_ms;  /* mono: then Cloud Run ends it */
};

void warm_name(const char *session, const char *task, char ret_name[FOLDER_NAME_SIZE])
{
    char what[ID_SIZE + 16];
    snprintf(what, sizeof(what), "next/%s.json", task);
    folder_name(session, what, ret_name);
}

void warm_print(const struct warm_note *note, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    if (note->closed) {
        json_add_bool(&w, "closed", true);
    } else {
        json_add_text(&w, "taskId", note->task);
        json_add_int(&w, "attempt", note->attempt);
    }
    json_close(&w);
}

int warm_parse(const char *text, size_t len, struct warm_note *ret_note, struct err *err)
{
    int64_t attempt;
    struct err why;
    struct warm_note note = {0};
    AUTO(json) struct json *root = json_parse(text, len, &why);
    const char *task = json_text(json_get(root, "taskId"));
    json_bool(json_get(root, "closed"), &note.closed);
    if (!note.closed &&
        (!task || !id_is_valid(task) || json_int(json_get(root, "attempt"), &attempt) ||
         attempt < 0 || attempt > INT_MAX))
        return err_set(err, ERR_UPSTREAM, "what is next for the session is no task");
    if (!note.closed) {
        snprintf(note.task, sizeof(note.task), "%s", task);
        note.attempt = (int)attempt;
    }
    *ret_note = note;
    return 0;
}

/* --- at home ------------------------------------------------------------------------------- */

/* The session's, taken off the list with all whose time is over. */
static struct warm *take(struct overflow *overflow, const char *session)
{
    struct warm *found = NULL;
    int64_t now = clock_mono_ms();
    lock_take(&overflow->lock);
    for (struct warm **at = &overflow->warm; *at;) {
        struct warm *warm = *at;
        bool its = strcmp(warm->session, session) == 0, over = now >= warm->until_ms;
        if (!its && !over) {
            at = &warm->next;
            continue;
        }
        *at = warm->next;
        overflow->warm_count--;
        if (its && !over && !found)
            found = warm;
        else
            free(warm);
    }
    lock_drop(&overflow->lock);
    return found;
}

void warm_keep(const struct cloud_task *task, const struct folder_result *result)
{
    struct overflow *overflow = task->overflow;
    const char *session = task->request->in_session;
    int64_t now = clock_mono_ms();
    if (!session || result->idle_ms <= 0 || !task->placement.execution[0])
        return;
    free(take(overflow, session));
    struct warm *warm = calloc(1, sizeof(*warm));
    if (!warm)
        return;
    snprintf(warm->session, sizeof(warm->session), "%s", session);
    snprintf(warm->task, sizeof(warm->task), "%s", task->id);
    snprintf(warm->execution, sizeof(warm->execution), "%s", task->placement.execution);
    snprintf(warm->job, sizeof(warm->job), "%s", task->job);
    warm->until_ms = now + result->idle_ms;
    warm->life_ms = now + result->left_ms;
    lock_take(&overflow->lock);
    bool room = overflow->warm_count < KEPT_MAX;
    if (room) {
        warm->next = overflow->warm;
        overflow->warm = warm;
        overflow->warm_count++;
    }
    lock_drop(&overflow->lock);
    if (!room)
        free(warm);
}

static int write_note(struct cloud_task *task, const struct warm *warm, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(WARM_NOTE_BYTES_MAX);
    struct warm_note note = {.attempt = task->placement.attempt};
    const struct storage_at at = {task->cloud->bucket, name, "application/json", STORAGE_ABSENT};
    snprintf(note.task, sizeof(note.task), "%s", task->id);
    warm_name(warm->session, warm->task, name);
    warm_print(&note, &text);
    return storage_put(task->cloud->google, &at, text.data, text.len, NULL, err);
}

/* A note that may have been written is no danger: the claim decides who runs the task. */
int warm_give(struct cloud_task *task)
{
    struct err err;
    struct overflow *overflow = task->overflow;
    const char *session = task->request->in_session;
    struct warm *warm = session ? take(overflow, session) : NULL;
    if (!warm)
        return 0;
    bool fits = strcmp(warm->job, task->job) == 0 &&
                warm->life_ms - clock_mono_ms() > task->request->timeout_ms;
    int rc = fits ? write_note(task, warm, &err) : -1;
    if (rc == 0)
        snprintf(task->placement.execution, sizeof(task->placement.execution), "%s",
                 warm->execution);
    else if (fits)
        log_info("overflow", "no warm execution: %s", err.msg);
    lock_take(&overflow->lock);
    overflow->status.reused += rc == 0;
    lock_drop(&overflow->lock);
    free(warm);
    return rc == 0;
}

void warm_forget_all(struct overflow *overflow)
{
    struct warm *warm;
    while ((warm = overflow->warm)) {
        overflow->warm = warm->next;
        free(warm);
    }
}
