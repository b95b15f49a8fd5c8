/*
 * Cloud sessions at home, shared by cloudbox.c, record.c, listing.c, guests.c and
 * turns.c. Private to runner/cloudbox.
 *
 * Ownership: sessions and commands are counted; cloudsession_take() hands out a reference.
 *
 * Threads: `_locked` expects the lock of struct cloudbox. No I/O is done under it.
 */
#ifndef CLOUDBOX_CLOUDBOX_PRIVATE_H
#define CLOUDBOX_CLOUDBOX_PRIVATE_H

#include "base/lock.h"
#include "base/thread.h"
#include "runner/cloudbox/carry.h"
#include "runner/cloudbox/cloudbox.h"

#define QUEUE_MAX 100 /* commands that wait for one session */
#define RECORD_BYTES_MAX (8u << 20)

struct cloudexec {
    struct engine_watch watch; /* first: the engine's callbacks get this */
    struct cloudbox *cloudbox;
    struct cloudsession *session; /* holds a reference */
    struct cloudexec *next;       /* in the queue */
    int refs;                     /* under the lock */
    char task[ID_SIZE];
    char shell[ID_SIZE];
    char *text, *cwd, *caller;
    char request_id[80];
    int64_t timeout_ms;
    int64_t wait_until_ms; /* mono */
    bool ended;
    bool cancel;  /* somebody wants it to end */
    bool asked;   /* the engine has been told so */
    bool watched; /* ended() will come */
    struct session_guest *guest;
    struct cloudexec_watch told;
    struct err failure; /* code ERR_NONE: none */
    int exit_code;
    char *end;    /* the answer without output, JSON */
    char *answer; /* the whole answer, JSON */

    struct lock reading; /* of what follows */
    int fd;              /* its events; -1: not opened yet */
    int64_t at;
    struct buf said[2];
};

struct cloudsession {
    struct cloudsession *next;
    int refs; /* under the lock */
    char id[ID_SIZE];
    char *dir; /* of runner/session */
    bool making;
    bool stale;                /* state.json says more than what is known here */
    bool gone;                 /* its objects are to be removed */
    bool foreign;              /* what lies in the bucket is another runner's */
    int64_t used_ms;           /* mono: when its last command ended */
    bool busy;                 /* somebody works with its directory */
    bool edited;               /* and changes it */
    struct cloudexec *running; /* holds a reference */
    struct cloudexec *queue;
    size_t queued;
    char *env; /* its own variables: a JSON object */
    double cpu;
    int memory_mb, pids_max, disk_mb;
    char *cwd, *exported, *shells; /* as state.json had them last */
    char task[ID_SIZE];            /* of the command that runs, as the record has it */
    char *command;
};

struct cloudbox {
    struct cloudbox_config config;
    char *dir;
    struct lock lock; /* of everything below and of all sessions */
    pthread_cond_t changed;
    struct cloudsession *list;
    size_t guests; /* that work with a directory */
    bool stopping;
    bool restless; /* the keeper has something to do */
    int64_t commands, conflicts, pulled_bytes, pushed_bytes;
    struct thread keeper;
};

struct cloudsession *cloudsession_find_locked(struct cloudbox *cloudbox, const char *id);
/* A reference, or NULL with ERR_NOT_FOUND; one that is being made, or is gone, is not found. */
struct cloudsession *cloudsession_take(struct cloudbox *cloudbox, const char *id, struct err *err);
void cloudsession_unref(struct cloudbox *cloudbox, struct cloudsession *session);
void cloudsession_unref_locked(struct cloudsession *session);

/* record.c: a new one with its directories' names only, and one reference; or NULL. */
struct cloudsession *cloudsession_new(const struct cloudbox *cloudbox, const char *id);
/* For the last reference, and for one that nobody else has seen. */
void cloudsession_free(struct cloudsession *session);
/* The caller frees it; NULL without memory. */
char *cloudsession_record_path(const struct cloudbox *cloudbox, const char *id);
/* Lists all that have a record. One that was being made is gone. */
int cloudsessions_take_up(struct cloudbox *cloudbox, struct err *err);
/* Writes what is known of it. */
int cloudsession_save(struct cloudbox *cloudbox, struct cloudsession *session, struct err *err);
/* Takes what state.json says. */
void cloudsession_learn(struct cloudbox *cloudbox, struct cloudsession *session, const char *cwd,
                        const char *exported, const char *shells);
struct carry_place cloudsession_place(const struct cloudbox *cloudbox,
                                      const struct cloudsession *session);

/* What Google refuses is no fault of the caller's: ERR_FORBIDDEN and its like become ERR_UPSTREAM.
 * Returns -1. */
int cloudsession_blame(struct err *err);

/* turns.c: what the keeper does for commands; when it has to come again (mono). */
int64_t turns_look(struct cloudbox *cloudbox, int64_t now_ms);
/* The command that the last process left running. */
void turns_adopt(struct cloudbox *cloudbox, struct cloudsession *session);
/* Those that wait can't begin any more. Takes the list off the session. */
void turns_fail_queue(struct cloudbox *cloudbox, struct cloudsession *session,
                      const struct err *why);
/* One that waits begins, when nobody is in its way. */
void turns_next(struct cloudbox *cloudbox, struct cloudsession *session);

#endif
