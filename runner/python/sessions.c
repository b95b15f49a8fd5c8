/* Sessions: each has a child that is kept between runs. */
#include "runner/python/core.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"

#include <stdlib.h>
#include <string.h>

struct session *python_session_find(struct python *python, const char *caller, const char *id)
{
    for (struct session *session = python->sessions; session; session = session->next)
        if (!session->ending && strcmp(session->shown.id, id) == 0 &&
            strcmp(session->caller, caller) == 0)
            return session;
    return NULL;
}

static void session_free(struct session *session)
{
    free(session->caller);
    free(session);
}

void python_session_unlink(struct python *python, struct session *session)
{
    struct session **at = &python->sessions;
    while (*at != session)
        at = &(*at)->next;
    *at = session->next;
    python->session_count--;
    if (session->kid) {
        struct kid *kid = session->kid;
        kid->session = NULL;
        kid_kill(kid);
    }
    session_free(session);
}

void python_sessions_free(struct python *python)
{
    while (python->sessions) {
        struct session *session = python->sessions;
        python->sessions = session->next;
        session_free(session);
    }
}

void python_session_lost(struct session *session)
{
    session->kid = NULL;
    session->shown.restarts++;
}

static void touch(struct session *session)
{
    session->expires_ms = clock_mono_ms() + session->shown.ttl_s * INT64_C(1000);
    session->shown.expires_ms = clock_real_ms() + session->shown.ttl_s * INT64_C(1000);
}

void python_session_ran(struct session *session)
{
    touch(session);
}

void python_sessions_tick(struct python *python, int64_t now_ms)
{
    for (struct session *session = python->sessions, *next; session; session = next) {
        next = session->next;
        if (!session->run && (session->ending || now_ms > session->expires_ms))
            python_session_unlink(python, session);
    }
}

static void show(const struct session *session, struct python_session *ret_session)
{
    *ret_session = session->shown;
    ret_session->busy = session->run != NULL;
    ret_session->fresh = session->kid == NULL;
}

int python_session_new(struct python *python, const char *caller, int memory_mb, int ttl_s,
                       struct python_session *ret_session, struct err *err)
{
    if (python->why[0])
        return err_set(err, ERR_BUSY, "Python can't be run here: %s", python->why);
    struct session *session = calloc(1, sizeof(*session));
    char *name = strdup(caller);
    if (!session || !name) {
        free(session);
        free(name);
        return err_sys(err, "a Python session");
    }
    id_new(session->shown.id);
    session->caller = name;
    session->shown.memory_mb = memory_mb;
    session->shown.ttl_s = ttl_s;
    session->shown.created_ms = clock_real_ms();
    touch(session);
    lock_take(&python->lock);
    int rc = 0;
    if (python->stopping || python->session_count >= PYTHON_SESSIONS_MAX) {
        rc = err_set(err, ERR_RATE, "there are %d Python sessions already", python->session_count);
        session_free(session);
    } else {
        session->next = python->sessions;
        python->sessions = session;
        python->session_count++;
        show(session, ret_session);
    }
    lock_drop(&python->lock);
    python_wake(python); /* From now on a time limit runs. */
    return rc;
}

/* With the lock held: finds the session, or returns NULL with err. */
static struct session *require(struct python *python, const char *caller, const char *id,
                               struct err *err)
{
    struct session *session = python_session_find(python, caller, id);
    if (!session)
        err_set(err, ERR_NOT_FOUND, "there is no Python session '%.70s'", id);
    return session;
}

int python_session_get(struct python *python, const char *caller, const char *id,
                       struct python_session *ret_session, struct err *err)
{
    lock_take(&python->lock);
    struct session *session = require(python, caller, id, err);
    if (session)
        show(session, ret_session);
    lock_drop(&python->lock);
    return session ? 0 : -1;
}

void python_session_each(struct python *python, const char *caller,
                         void (*each)(const struct python_session *session, void *arg), void *arg)
{
    struct python_session shown;
    lock_take(&python->lock);
    for (const struct session *session = python->sessions; session; session = session->next) {
        if (session->ending || strcmp(session->caller, caller) != 0)
            continue;
        show(session, &shown);
        each(&shown, arg);
    }
    lock_drop(&python->lock);
}

int python_session_interrupt(struct python *python, const char *caller, const char *id,
                             struct err *err)
{
    lock_take(&python->lock);
    struct session *session = require(python, caller, id, err);
    if (session && session->run && session->run->kid) {
        kid_interrupt(session->run->kid);
        session->run->kill_ms = clock_mono_ms() + INTERRUPT_MS;
    }
    lock_drop(&python->lock);
    return session ? 0 : -1;
}

int python_session_restart(struct python *python, const char *caller, const char *id,
                           struct err *err)
{
    lock_take(&python->lock);
    struct session *session = require(python, caller, id, err);
    if (session && session->kid) {
        struct kid *kid = session->kid;
        if (!kid->run) { /* The next run need not wait for its end. */
            kid->session = NULL;
            python_session_lost(session);
        }
        kid_kill(kid);
    }
    lock_drop(&python->lock);
    return session ? 0 : -1;
}

int python_session_end(struct python *python, const char *caller, const char *id, struct err *err)
{
    REQUIRE(caller && id);
    lock_take(&python->lock);
    struct session *session = require(python, caller, id, err);
    if (session && session->run) {
        session->ending = true; /* It is freed once its run has ended. */
        if (session->run->kid)
            kid_kill(session->run->kid);
    } else if (session) {
        python_session_unlink(python, session);
    }
    lock_drop(&python->lock);
    python_wake(python);
    return session ? 0 : -1;
}
