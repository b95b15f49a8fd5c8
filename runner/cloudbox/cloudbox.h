/*
 * Sessions in the cloud, as the runner at home has them.
 *
 * Theory of operation. A cloud session is a session of runner/session whose commands do not run
 * here: its directory is a copy of what lies in the bucket (carry.h), by which its files are read
 * and written with the same code as any session's. A command is a task of kind "session" (visit.h)
 * in the cloud, so placing, following, cancelling and what a crash leaves are the tasks'.
 *
 *     exec ─▶ task ─▶ execution: pull, run, push ─▶ bucket
 *     files ─▶ pull ─▶ runner/session ─▶ push ─▶ bucket
 *
 * One of them at a time changes a session; the generation of state.json decides where that is not
 * enough. What this runner knows of a session is kept in cloud-sessions/ID.json: by it a restart
 * finds the command that still runs, and the objects of a session that is gone.
 *
 * Ownership: what cloudbox_new(), cloudbox_enter() and cloudexec_start() hand out is the caller's,
 * to be given back to cloudbox_free(), cloudbox_leave() and cloudexec_unref().
 *
 * Threads: any, unless said otherwise. Callbacks come on a task's thread or on the caller's, and
 * must not block.
 */
#ifndef CLOUDBOX_CLOUDBOX_H
#define CLOUDBOX_CLOUDBOX_H

#include "base/metric.h"
#include "runner/overflow/folder.h"
#include "runner/session/session.h"
#include "runner/task/engine.h"

struct cloudbox;

/* The bucket keeps what lies below sessions/ for 30 days (cli/cloud.h). */
#define CLOUDBOX_TTL_MINUTES_MAX (28 * 24 * 60)
#define CLOUDBOX_WAIT_MAX_S 3600

struct cloudbox_config {
    struct config_in_force *config; /* borrowed, as all here */
    const struct cloud *cloud;
    struct sessions *sessions;
    struct engine *engine;
    struct store *store;
    const char *state_dir;
    uid_t uid;
    gid_t gid;
};

/* Takes up what the last process knew. */
struct cloudbox *cloudbox_new(const struct cloudbox_config *config, struct err *err);
int cloudbox_start(struct cloudbox *cloudbox, struct err *err);
/* Whoever waits is answered; commands go on in the cloud. */
void cloudbox_stop(struct cloudbox *cloudbox);
void cloudbox_free(struct cloudbox *cloudbox);
/* A source of /metrics; arg is a struct cloudbox, or NULL: then there are no samples. */
void cloudbox_metrics(struct metric_page *page, void *arg);

/* --- sessions ------------------------------------------------------------------------------ */

/* Whether the session is one of the cloud's. Fine on NULL. */
bool cloudbox_has(struct cloudbox *cloudbox, const char *id);

/* To be called before session_create() of it; then cloudbox_publish() or cloudbox_drop() is owed.
 * ERR_CONFLICT: the id is taken. */
int cloudbox_announce(struct cloudbox *cloudbox, const char *id, const struct session_wish *wish,
                      struct err *err);
/* The session is made, with all it begins with: it goes into the bucket. ERR_CONFLICT: there lies
 * one of that name. */
int cloudbox_publish(struct cloudbox *cloudbox, const char *id, struct err *err);
/* The session is gone (or never was): its command is ended and its objects are removed, now or as
 * soon as the bucket can be reached. Nothing for one that is not the cloud's. */
void cloudbox_drop(struct cloudbox *cloudbox, const char *id);

/* Appends session_print()'s or sessions_print()'s answer with what is different in the cloud. */
void cloudbox_print(struct cloudbox *cloudbox, const struct buf *printed, struct buf *out);
/* As session_print(), for one of the cloud's: no shell is asked for its environment. */
int cloudbox_print_one(struct cloudbox *cloudbox, const char *id, struct buf *out, struct err *err);

/* --- files --------------------------------------------------------------------------------- */

/* Somebody who reads or changes the files of a session here. */
struct cloudbox_guest;

/* Has the files that the bucket has, before they are looked at here. *ret_guest is NULL for a
 * session that is not the cloud's: then there is nothing to do. With `changes` nobody else changes
 * them until cloudbox_leave(): ERR_CONFLICT while a command runs. Takes its time. */
int cloudbox_enter(struct cloudbox *cloudbox, const char *id, bool changes,
                   struct cloudbox_guest **ret_guest, struct err *err);
/* Stores what was changed, or with !keep takes it back. -1: it is not kept. Fine on NULL. */
int cloudbox_leave(struct cloudbox_guest *guest, bool keep, struct err *err);

/* --- commands: as exec_start() and its like (session.h) ------------------------------------- */

struct cloudexec;

struct cloudexec_wish {
    const char *text;
    const char *shell; /* NULL: "default" */
    const char *cwd;   /* or NULL */
    int64_t timeout_ms;
    int64_t wait_ms; /* how long it waits while another runs; 0: ERR_CONFLICT says which */
    const char *caller, *request_id;
};

struct cloudexec_watch {
    void (*changed)(void *arg);
    void (*done)(struct cloudexec *command, void *arg);
    void *arg;
};

struct cloudexec *cloudexec_start(struct cloudbox *cloudbox, const char *id,
                                  const struct cloudexec_wish *wish,
                                  const struct cloudexec_watch *watch, struct err *err);
void cloudexec_unref(struct cloudexec *command);
void cloudexec_kill(struct cloudexec *command);
bool cloudexec_exit(struct cloudexec *command, int *ret_exit);
bool cloudexec_failed(struct cloudexec *command, struct err *err);
void cloudexec_print(struct cloudexec *command, struct buf *out);
void cloudexec_print_end(struct cloudexec *command, struct buf *out);
size_t cloudexec_read(struct cloudexec *command, bool of_err, int64_t from, size_t max,
                      struct buf *out);
/* Ends what runs in that shell. ERR_NOT_FOUND: nothing does. */
int cloudbox_kill(struct cloudbox *cloudbox, const char *id, const char *shell, struct err *err);

#endif
