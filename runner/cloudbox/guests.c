/* Who reads or changes the files of a cloud session at home: see cloudbox.h. */
#include "base/clock.h"
#include "base/log.h"
#include "runner/cloudbox/cloudbox_private.h"

#include <stdlib.h>

#define GUESTS_MAX 4  /* at once: each holds a worker of HTTP's while its files travel */
#define TURN_MS 60000 /* to wait for others with the same session */
#define LOOK_MS 1000

struct cloudbox_guest {
    struct cloudbox *cloudbox;
    struct cloudsession *session; /* holds a reference */
    bool changes;
    struct box_state state;
    struct manifest before;
};

/* The session's directory is its caller's alone. */
static int take_turn(struct cloudbox *cloudbox, struct cloudsession *session, bool changes,
                     struct err *err)
{
    int64_t until = clock_mono_ms() + TURN_MS;
    int rc = 0;
    lock_take(&cloudbox->lock);
    while ((session->busy || cloudbox->guests >= GUESTS_MAX) && !session->gone &&
           !cloudbox->stopping && clock_mono_ms() < until)
        lock_wait(&cloudbox->changed, &cloudbox->lock, LOOK_MS);
    if (session->gone)
        rc = err_set(err, ERR_NOT_FOUND, "session '%s' has been removed", session->id);
    else if (session->busy || cloudbox->guests >= GUESTS_MAX || cloudbox->stopping)
        rc = err_set(err, ERR_BUSY, "others work with files of cloud sessions");
    else if (changes && session->running)
        rc = err_set(err, ERR_CONFLICT,
                     "session '%s' is busy: it runs '%.100s' in the cloud, and its files can be "
                     "changed once that has ended",
                     session->id, session->running->text);
    if (rc == 0) {
        session->busy = true;
        session->edited = changes;
        cloudbox->guests++;
    }
    lock_drop(&cloudbox->lock);
    return rc;
}

static void end_turn(struct cloudbox *cloudbox, struct cloudsession *session)
{
    lock_take(&cloudbox->lock);
    session->busy = session->edited = false;
    cloudbox->guests--;
    pthread_cond_broadcast(&cloudbox->changed);
    lock_drop(&cloudbox->lock);
    turns_next(cloudbox, session);
    cloudsession_unref(cloudbox, session);
}

static void guest_free(struct cloudbox_guest *guest)
{
    box_state_done(&guest->state);
    manifest_done(&guest->before);
    free(guest);
}

static int pull(struct cloudbox_guest *guest, struct err *err)
{
    struct carry_count count = {0};
    struct cloudbox *cloudbox = guest->cloudbox;
    const struct carry_place place = cloudsession_place(cloudbox, guest->session);
    if (carry_pull(&place, &guest->state, &count, err)) {
        if (err->code == ERR_NOT_FOUND)
            err_set(err, ERR_UPSTREAM, "session '%s' is not in the bucket any more",
                    guest->session->id);
        return cloudsession_blame(err);
    }
    lock_take(&cloudbox->lock);
    cloudbox->pulled_bytes += count.bytes;
    lock_drop(&cloudbox->lock);
    return guest->changes ? carry_begin(&place, &guest->before, err) : 0;
}

int cloudbox_enter(struct cloudbox *cloudbox, const char *id, bool changes,
                   struct cloudbox_guest **ret_guest, struct err *err)
{
    *ret_guest = NULL;
    if (!cloudbox_has(cloudbox, id))
        return 0;
    struct cloudsession *session = cloudsession_take(cloudbox, id, err);
    struct cloudbox_guest *guest = session ? calloc(1, sizeof(*guest)) : NULL;
    if (!guest) {
        if (session)
            cloudsession_unref(cloudbox, session);
        return session ? err_sys(err, "session") : -1;
    }
    guest->cloudbox = cloudbox;
    guest->session = session;
    guest->changes = changes;
    if (take_turn(cloudbox, session, changes, err)) {
        cloudsession_unref(cloudbox, session);
        guest_free(guest);
        return -1;
    }
    if (pull(guest, err)) {
        end_turn(cloudbox, session);
        guest_free(guest);
        return -1;
    }
    *ret_guest = guest;
    return 0;
}

static int push(struct cloudbox_guest *guest, struct err *err)
{
    struct carry_count count = {0};
    struct cloudbox *cloudbox = guest->cloudbox;
    const struct carry_place place = cloudsession_place(cloudbox, guest->session);
    int rc = carry_push(&place, &guest->before, &guest->state, &count, err);
    lock_take(&cloudbox->lock);
    cloudbox->pushed_bytes += count.bytes;
    cloudbox->conflicts += rc && err->code == ERR_MISMATCH;
    lock_drop(&cloudbox->lock);
    if (rc == 0)
        return 0;
    carry_forget(&place);
    if (err->code == ERR_MISMATCH)
        return err_set(err, ERR_CONFLICT,
                       "session '%s' was changed elsewhere meanwhile: this change is not kept",
                       guest->session->id);
    err_wrap(err, "the change is not kept");
    return cloudsession_blame(err);
}

int cloudbox_leave(struct cloudbox_guest *guest, bool keep, struct err *err)
{
    if (!guest)
        return 0;
    int rc = guest->changes && keep ? push(guest, err) : 0;
    end_turn(guest->cloudbox, guest->session);
    guest_free(guest);
    return rc;
}
