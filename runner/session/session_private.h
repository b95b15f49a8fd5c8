/*
 * Sessions, their commands and the hub that follows them, shared by the files of this room. Private
 * to runner/session.
 *
 * Threads: any; `_locked` expects the lock of struct sessions held.
 * Ownership: sessions and commands are counted references; answers of agents are the caller's to
 * free; everything else belongs to its session.
 */
#ifndef SESSION_SESSION_PRIVATE_H
#define SESSION_SESSION_PRIVATE_H

#include "base/lock.h"
#include "base/thread.h"
#include "runner/box/message.h"
#include "runner/egress/gate.h"
#include "runner/session/session.h"
#include "runner/work/work.h"
#include "json/json.h"

#include <pthread.h>

#define CALL_MS 15000 /* time for an agent's answer, unless the work may take long */
#define WORK_MS 150000
#define KILL_MS 5000 /* a killed command must end within this time, else its agent is ended */
#define SPOOL_MEMORY (64u << 10)
#define OUTPUT_BYTES_MAX (INT64_C(16) << 20) /* of each stream of a command */
#define PROCESSES_MAX 1000                   /* processes that a session remembers */
#define HISTORY_MAX 50                       /* commands that a shell shows */
#define SHOWN_BYTES_MAX 65536                /* bytes of each */
#define COMMANDS_MAX 256                     /* commands of a session at once */

/* --- output (spool.c) ---------------------------------------------------------------------- */

/* Bytes that are written and read again: a few in memory, more in a file without a name. */
struct spool {
    struct buf head;
    int fd; /* -1 while all is in memory */
    int64_t size;
    bool truncated;
};
void spool_init(struct spool *spool);
void spool_done(struct spool *spool);
/* `dir`: directory for the file. */
void spool_add(struct spool *spool, const char *dir, const char *data, size_t len);
size_t spool_read(const struct spool *spool, int64_t from, size_t max, struct buf *out);

/* --- what the hub listens to (link.c) ------------------------------------------------------ */

enum source_kind { SOURCE_BELL, SOURCE_AGENT, SOURCE_TREE, SOURCE_OUT, SOURCE_ERR, SOURCE_PTY };

struct source {
    enum source_kind kind;
    int fd;
    struct session *session;
    struct exec *command;
    struct pty *pty;
    bool gone; /* freed at the end of the hub's turn */
    struct source *next_gone;
};

struct source *source_new_locked(struct sessions *sessions, enum source_kind kind, int fd);
/* Sets the events (EPOLLIN, EPOLLOUT) that the hub waits for; EPOLLIN at first. */
void source_wait_locked(struct sessions *sessions, struct source *source, uint32_t waits);
void source_end_locked(struct sessions *sessions, struct source *source);

/* --- commands (exec.c) ------------------------------------------------------------------ */

struct exec {
    struct sessions *sessions;
    struct session *session; /* holds a reference */
    struct exec *next;       /* of the session's list */
    int refs;                /* guarded by the lock */
    int64_t id;
    char shell[ID_SIZE];
    char *text;
    char ps1[256];
    bool background, trailing;
    struct spool out, err;
    struct source *sources[2];
    bool started, ended, told; /* told: done() has been or is being called */
    bool listed;
    int exit_code;
    char *cwd;
    pid_t pid; /* pid of its background process; 0: none */
    bool timed_out, killed;
    enum work_cause cause;
    int64_t timeout_ms, began_ms, took_ms;
    int64_t deadline_ms; /* mono: when it is killed, then when its agent is ended; 0: no limit */
    struct err failure;  /* code ERR_NONE: no failure */
    struct exec_watch watch;
};

void exec_started_locked(struct exec *command, int out, int err);
void exec_refused_locked(struct exec *command, const struct err *err);
/* `log`: a file with its output, or -1. */
void exec_ended_locked(struct exec *command, const struct json *event, int log);
void exec_lost_locked(struct exec *command);
void exec_bytes_locked(struct exec *command, struct source *source);
struct exec *exec_find_locked(struct session *session, int64_t id);
/* The next time limit, for the hub; and what is done when one has expired. */
int64_t execs_due_locked(struct sessions *sessions);
void execs_late_locked(struct sessions *sessions, int64_t now_ms);
void exec_ref_locked(struct exec *command);
void exec_unref_locked(struct exec *command);

/* --- processes (detached.c) ---------------------------------------------------------------- */

struct detached {
    pid_t pid;
    char *command;
    char shell[ID_SIZE];
    int64_t started_ms, ended_ms;
    bool running, lost, logged, input;
    bool exit_known;
    int exit_code;
    int64_t exec;
};

struct process_waiter {
    struct process_waiter *next;
    struct session *session;
    pid_t pid;    /* the process whose end is waited for, */
    int64_t exec; /* or the command */
    void (*fn)(void *arg);
    void *arg;
};

/* Hands waiters whose event has happened to the hub, which calls them. pid 0 and exec 0 mean all of
 * the session. */
void waiters_wake_locked(struct session *session, pid_t pid, int64_t exec);
void detached_started_locked(struct session *session, const struct json *event);
void detached_exited_locked(struct session *session, const struct json *event);
void detached_lost_locked(struct session *session);
/* Adds the member `processes`: all that are known, ended ones too. */
void detached_list_locked(const struct session *session, struct json_writer *w);
void detached_load(struct session *session);
void detached_done(struct session *session);

/* --- shells (view.c) ----------------------------------------------------------------------- */

struct shown {
    char *ps1, *command, *output;
    pid_t pid; /* of the background process that it has started; 0: none */
};

struct view {
    struct view *next;
    char name[ID_SIZE];
    char *cwd;
    struct exec *running; /* not a reference */
    pid_t pid;            /* of the newest background process */
    bool ended;           /* a command has, with that exit code */
    int exit_code;
    struct shown history[HISTORY_MAX];
    size_t count;
};

struct view *shellview_find_locked(struct session *session, const char *name);
struct view *shellview_take_locked(struct session *session, const char *name);
void shellview_add_locked(struct view *view, const struct exec *command);
void shellviews_done(struct session *session);

/* --- terminals (pty.c) --------------------------------------------------------------------- */

struct pty;
void pty_bytes_locked(struct pty *pty);
void pty_exited_locked(struct session *session, const struct json *event);
/* Ends terminals whose time is over. Returns when the next one is due. */
int64_t ptys_late_locked(struct sessions *sessions, int64_t now_ms);
void ptys_lost_locked(struct session *session);
bool ptys_watched_locked(const struct session *session);
void ptys_print_locked(const struct session *session, struct json_writer *w);

/* --- tasks in a session (guest.c) ---------------------------------------------------------- */

struct session_guest {
    struct session_guest *next;
    struct session *session; /* holds a reference */
    char *box;
    bool told; /* it was told that the session is being deleted */
    void (*gone)(void *arg);
    void *arg;
};

/* Tells guests that the session is being deleted, and waits a limited time until they have left.
 * NOT_CHECKED, because clang does not know a lock of a struct that is declared later. */
void guests_tell_locked(struct session *session) NOT_CHECKED;

/* Where sessions have users of their own, takes one for the rest of the session's life, and gives
 * it the session's files. Call while session->waking is the caller's. Returns 0 or -1. */
int session_take_user(struct session *session, struct err *err);

/* --- sessions (registry.c, record.c, listing.c, agent.c) ----------------------------------- */

struct session {
    struct session *next;
    struct sessions *sessions;
    int refs; /* guarded by the lock */
    bool deleted;
    char id[ID_SIZE];
    char *dir;
    struct strlist env;
    int ttl_minutes, idle_minutes;
    double cpu;
    int memory_mb, pids_max, disk_mb;
    int pids_now; /* the limit that its tree was started with */
    struct strlist egress;
    struct egress_gate *gate; /* gate of its network, from its first start on; or NULL */
    struct strlist denied;    /* connections that the gate has refused, as JSON */
    char *metadata;
    int64_t created_ms, used_ms, used_written_ms;

    bool making;                 /* its files are not complete yet: its agent must not start */
    struct workspace *workspace; /* that /workspace is based on; NULL: none */
    char *base;                  /* record of that workspace, JSON; or NULL */
    char *repo;                  /* what callers see of it, JSON; or NULL */
    char *from;                  /* the snapshot that it began with; or NULL */
    char *trouble;               /* why its agent cannot start; NULL: it can */
    int mounted;                 /* counts its mounts */
    struct owner user;           /* of what is below `box`, and of its processes */
    bool lent, given;            /* `user` is one of walls->users; its files are that user's */

    bool waking;
    struct child *child;
    int control; /* -1: asleep */
    bool enclosed;
    struct source *source, *tree; /* of its messages, and of its process tree's end */
    int64_t ending_ms; /* it has died: how long the end of its tree is waited for, mono; 0: not */
    unsigned met;      /* limits that the last tree has met, enum jail_exceeded */

    struct exec *commands;
    size_t command_count;
    struct detached *processes;
    size_t process_count;
    struct view *views;
    struct pty *ptys;
    size_t pty_count;
    struct session_guest *guests;
    bool pty_opening; /* a thread is opening a terminal */
};

/* A request to an agent, for whose answer a thread waits. */
struct call {
    struct call *next;
    int64_t id;
    struct session *session;
    bool answered, lost;
    char *later; /* a second answer that came before the first was taken; or NULL */
    char *text;  /* the answer */
    int fd;      /* descriptor in the answer, or -1 */
};

struct snapshot {
    struct snapshot *next;
    char id[ID_SIZE], session[ID_SIZE];
    char *dir;
    struct workspace *workspace; /* workspace that it is based on, held for it; NULL: none */
    char *base, *repo;           /* as in struct session */
    char *metadata;
    struct strlist env;
    int64_t created_ms, expires_ms, took_ms;
    int64_t bytes, entries;
    bool shared;
    bool making;
    int used; /* number of sessions that are being made from it */
};

struct ticker {
    struct ticker *next;
    void (*fn)(void *arg);
    void *arg;
};

struct sessions {
    struct sessions_config config;
    char *dir;
    struct lock lock; /* guards everything below, and all sessions and commands */
    pthread_cond_t changed;
    pthread_cond_t stopped; /* `stopping` is set */
    struct session *list;
    size_t count;
    struct call *calls;
    struct process_waiter *waiters;
    struct process_waiter *woken; /* waiters whose fn() must be called */
    struct ticker *tickers;
    int64_t ticked_ms;
    int64_t next_id;
    int wakers;    /* number of threads that start agents */
    bool closing;  /* no more agents are started */
    bool stopping; /* the hub must end */
    char *snapshots_dir;
    struct snapshot *snapshots;
    size_t snapshot_count;
    int makers;          /* number of threads that make sessions and snapshots */
    size_t ptys_exiting; /* terminals whose shell has ended, but which are not over */
    int epoll, bell;
    bool attending;         /* the hub is not asleep: it sees what is due before it waits again */
    struct source *ringing; /* the bell's source */
    struct thread hub;
    struct thread tidier; /* thread that removes expired sessions */
    struct source *gone;
    struct exec **due; /* commands whose done() must be called */
    size_t due_count, due_room;
};

/* session_take() returns a reference that the caller drops by session_unref(), or NULL with
 * ERR_NOT_FOUND. */
void session_find_shells(struct session *session);
struct session *session_take(struct sessions *sessions, const char *id, struct err *err);
void session_unref_locked(struct session *session);
void session_unref(struct session *session);
static inline void auto_session(struct session **session)
{
    if (*session)
        session_unref(*session);
}
/* Makes sure that the session's agent runs. */
int session_wake(struct session *session, struct err *err);
/* Its agent has died: what is left of its tree is ended, and once that is over, and has told which
 * limits it had met, the session has lost it. Nobody wakes it meanwhile. */
void session_dies_locked(struct session *session);
/* Its tree has told something. */
void session_tree_locked(struct session *session);
/* The end of a tree that is waited for no longer, mono; and what is to be done then. */
int64_t sessions_ending_locked(const struct sessions *sessions);
void sessions_ended_locked(struct sessions *sessions, int64_t now_ms);
/* It has no agent any more: everything that waits for it is told. */
void session_lost_locked(struct session *session);
/* Writes its record. */
int session_save(struct session *session, struct err *err);
/* Reads it into a session that is new. */
int session_load(struct session *session, struct err *err);
/* Makes good what commands have done to the directories of its box. Nothing runs in it. */
int session_mend_dirs(const struct session *session, struct err *err);

/* --- what a workspace begins with (base.c, snapshot.c) --------------------------------------- */

/* Puts the wish's repository or snapshot into a new session. */
int base_fill(struct session *session, const struct session_wish *wish, struct err *err);
/* Restores the workspace from session->base; when that fails, session->trouble says why. */
void base_load(struct session *session);
/* Adds the workspace's mounts to the agent's plan. */
int base_show(struct session *session, const char *box, struct plan *plan, struct err *err);
void base_done(struct session *session);
/* True when the making of `session` (NULL: of a snapshot) must give up. */
bool base_is_stopped(struct sessions *sessions, const struct session *session);

int snapshots_load(struct sessions *sessions, struct err *err);
void snapshots_tidy(struct sessions *sessions, int64_t now_ms);
void snapshots_free(struct sessions *sessions);
/* Copies a snapshot into a new session. */
int snapshot_unfold(struct session *session, const char *id, struct err *err);

/* --- requests (link.c) --------------------------------------------------------------------- */

int hub_start(struct sessions *sessions, struct err *err);
void hub_stop(struct sessions *sessions);
/* Wakes the hub. Called with the lock held. */
void hub_ring(const struct sessions *sessions);
/* Makes the hub, or the thread that releases the lock next, call done() of this command. */
void hub_finish_locked(struct exec *command);

/* Sends `{"id":N` + members + `}` without waiting. */
int link_send_locked(struct session *session, int64_t id, const struct buf *members, const int *fds,
                     size_t fd_count, struct err *err);
/* As link_send_locked(), and waits for the answer, which the caller frees; *ret_fd is -1 or a
 * descriptor that the caller closes. */
struct json *link_call(struct session *session, const struct buf *members, const int *fds,
                       size_t fd_count, int timeout_ms, int *ret_fd, struct err *err);
/* link_call() in steps, for work with several answers; the caller ends it by link_forget(). */
int link_begin(struct session *session, const struct buf *members, const int *fds, size_t fd_count,
               struct call *call, struct err *err);
struct json *link_await(struct session *session, struct call *call, int timeout_ms, int *ret_fd,
                        struct err *err);
void link_forget(struct session *session, struct call *call);
/* Makes a file without a name that holds the text, positioned at its beginning. Returns a
 * descriptor that the caller closes, or -1. */
int link_text_file(const char *text, size_t len, struct err *err);

#endif
