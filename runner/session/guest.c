/* Tasks that work with a session's files, beside its shells and in a jail of their own. */
#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/path.h"
#include "runner/session/session_private.h"
#include "runner/walls/walls.h"

#include <stdlib.h>

#define LEAVE_MS 30000 /* A guest that was told to leave has ended its programs by then. */

/* Where sessions have users of their own, a session has its own from its first start on. */
static struct session *take_with_user(struct sessions *sessions, const char *id, struct err *err)
{
    struct session *session = session_take(sessions, id, err);
    if (!session || !sessions->config.walls->session_users || session_wake(session, err) == 0)
        return session;
    session_unref(session);
    return NULL;
}

struct session_guest *session_enter(struct sessions *sessions, const char *id,
                                    void (*gone)(void *arg), void *arg, struct err *err)
{
    struct session *session = take_with_user(sessions, id, err);
    struct session_guest *guest = session ? calloc(1, sizeof(*guest)) : NULL;
    char *box = session ? path_join(session->dir, "box") : NULL;
    if (!guest || !box) {
        if (session) {
            err_sys(err, "session");
            session_unref(session);
        }
        free(guest);
        free(box);
        return NULL;
    }
    *guest = (struct session_guest){.session = session, .box = box, .gone = gone, .arg = arg};
    lock_take(&sessions->lock);
    guest->told = session->deleted;
    guest->next = session->guests;
    session->guests = guest;
    lock_drop(&sessions->lock);
    return guest;
}

const char *session_guest_box(const struct session_guest *guest)
{
    return guest->box;
}

uid_t session_guest_user(const struct session_guest *guest)
{
    return guest->session->lent ? guest->session->user.uid : 0;
}

bool session_guest_is_told(struct session_guest *guest)
{
    struct sessions *sessions = guest->session->sessions;
    lock_take(&sessions->lock);
    bool told = guest->told;
    lock_drop(&sessions->lock);
    return told;
}

void session_leave(struct session_guest *guest)
{
    if (!guest)
        return;
    struct session *session = guest->session;
    struct sessions *sessions = session->sessions;
    lock_take(&sessions->lock);
    struct session_guest **at = &session->guests;
    while (*at != guest)
        at = &(*at)->next;
    *at = guest->next;
    session->used_ms = clock_real_ms();
    pthread_cond_broadcast(&sessions->changed);
    session_unref_locked(session);
    lock_drop(&sessions->lock);
    free(guest->box);
    free(guest);
}

void guests_tell_locked(struct session *session)
{
    int64_t until = clock_mono_ms() + LEAVE_MS, now;
    for (struct session_guest *at = session->guests; at; at = at->next) {
        at->told = true;
        at->gone(at->arg);
    }
    while (session->guests && (now = clock_mono_ms()) < until)
        lock_wait(&session->sessions->changed, &session->sessions->lock, until - now);
}
