/*
 * Sessions: boxes with shells that remember, and files.
 *
 * Theory of operation. A session is a directory of the state directory and, while it is awake, an
 * agent in it (runner/box):
 *
 *     sessions/ID/session.json     what it is: made, changed and removed with the directory
 *     sessions/ID/processes.json   its background processes, so that a restart knows what it lost
 *     sessions/ID/box/…            the session's own: workspace, tmp, home, the shells' states
 *     sessions/ID/upper            of one with a repository, where the host has overlays: the files
 *                                  that differ from it; all are seen at box/workspace by its tree
 *     snapshots/ID/…               copies of such: workspace (or upper), home, shells
 *
 * One thread, the hub, owns all traffic with agents: answers and events from their sockets, and the
 * output of commands, which comes through pipes that agents pass on. Handlers send requests and
 * wait for an answer (files), or leave a callback (commands, waits), so that no command holds a
 * handler's thread.
 *
 * An agent that dies takes its processes with it, never the session: the next request starts
 * another, which finds files and states as they were.
 *
 * Threads: any, unless said otherwise. Callbacks come on the hub's thread or on the caller's, with
 * no lock held; they must not block.
 */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "base/strlist.h"
#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/repo/repos.h"

#include <stdbool.h>
#include <stdint.h>

struct sessions;
struct exec;

struct sessions_config {
    struct config_in_force *config; /* borrowed, as all here */
    struct launcher *launcher;
    const struct walls *walls; /* of the agents' jails */
    struct repos *repos;
    const char *state_dir;
    const char *marker; /* "NAME=VALUE" in the environment of what is started */
    uid_t uid;          /* who sessions run as */
    gid_t gid;
};

/* Takes up the sessions that the directory holds. */
struct sessions *sessions_new(const struct sessions_config *config, struct err *err);
/* Ends all agents; whoever waits is answered. */
void sessions_stop(struct sessions *sessions);
void sessions_free(struct sessions *sessions);

/* Keeps them from being freed for as long as a thread of the caller's works with them: owes
 * sessions_let_go(). ERR_BUSY: they are ending. */
int sessions_hold(struct sessions *sessions, struct err *err);
void sessions_let_go(struct sessions *sessions);

struct session_wish {
    const char *id;            /* NULL: one is made */
    const struct strlist *env; /* "NAME=value" */
    int ttl_minutes;           /* 0: SESSION_TTL_MINUTES */
    int idle_minutes;          /* 0: never for being idle */
    double cpu;                /* limits; 0: as TASK_LIMITS says */
    int memory_mb, pids_max, disk_mb;
    const struct strlist *egress; /* as a request's; NULL or empty: as EGRESS says */
    const char *metadata;         /* JSON, or NULL */
    const struct repo_wish *repo; /* what /workspace begins with; or NULL. With own_files tasks can
                                   * work in the session */
    const char *from;             /* the snapshot that it begins as; or NULL */
};

/* Makes one and prints it. With a repository or a snapshot it takes its time. ERR_CONFLICT: the id
 * is taken. ERR_RATE: there are SESSIONS_MAX. */
int session_create(struct sessions *sessions, const struct session_wish *wish, struct buf *out,
                   struct err *err);
/* Removes it with all it holds. One that is not there is fine; *ret_there says whether it was. */
int session_delete(struct sessions *sessions, const char *id, bool *ret_there, struct err *err);
/* Whether there is one of that name; asking is no use of it. */
bool sessions_has(struct sessions *sessions, const char *id);
/* {"sessions":[…]} */
void sessions_print(struct sessions *sessions, struct buf *out);
int session_print(struct sessions *sessions, const char *id, struct buf *out, struct err *err);

/* --- tasks in the box ---------------------------------------------------------------------- */

/* A task that works with the session's files, in a jail of its own. As long as it is there the
 * session's time is not up. */
struct session_guest;
/* gone() comes when the session is deleted, with a lock held: it only wakes the task, which is to
 * leave soon. NULL with ERR_NOT_FOUND. */
struct session_guest *session_enter(struct sessions *sessions, const char *id,
                                    void (*gone)(void *arg), void *arg, struct err *err);
/* The directory with the session's own: workspace, home, tmp. Who looks below may meet links that
 * the session has put there. */
const char *session_guest_box(const struct session_guest *guest);
/* Whether gone() has come. */
bool session_guest_is_told(struct session_guest *guest);
void session_leave(struct session_guest *guest);
/* Whether a task can enter it. ERR_NOT_FOUND: there is none. ERR_CONFLICT: it is
 * layered. */
int session_check(struct sessions *sessions, const char *id, struct err *err);

/* --- snapshots (snapshot.c) ----------------------------------------------------------------- */

struct snapshot_wish {
    const char *id;  /* NULL: one is made */
    int ttl_minutes; /* 0: thirty days */
    const char *metadata;
};

/* Copies what a session is: its files, home and shells, and prints the snapshot. Of a workspace
 * with a repository only what differs from that. Takes its time. ERR_RATE: there are too many. */
int snapshot_create(struct sessions *sessions, const char *session,
                    const struct snapshot_wish *wish, struct buf *out, struct err *err);
/* {"snapshots":[…]}; one. */
void snapshots_print(struct sessions *sessions, struct buf *out);
int snapshot_print(struct sessions *sessions, const char *id, struct buf *out, struct err *err);
/* One that is not there is fine. ERR_CONFLICT: a session is being made of it. */
int snapshot_delete(struct sessions *sessions, const char *id, bool *ret_there, struct err *err);

/* --- commands ------------------------------------------------------------------------------ */

struct exec_wish {
    const char *text;
    const char *shell; /* NULL: "default" */
    const char *cwd;   /* or NULL */
    const char *input; /* its standard input, or NULL for none */
    bool background;
    int64_t timeout_ms;
};

struct exec_watch {
    void (*changed)(void *arg); /* there is more output, or its end; may come with a lock held: it
                                   only wakes somebody */
    void (*done)(struct exec *command, void *arg); /* once: it has ended, or could not start */
    void *arg;
};

/* Has it started; done() comes later, or at once. NULL: it was not accepted, and done() does not
 * come. The caller owes exec_unref(). */
struct exec *exec_start(struct sessions *sessions, const char *id, const struct exec_wish *wish,
                        const struct exec_watch *watch, struct err *err);
void exec_unref(struct exec *command);
/* Ends it with all it has started. */
void exec_kill(struct exec *command);
/* After done(): whether it could not be started, and why. */
bool exec_failed(const struct exec *command, struct err *err);
/* After done(): the whole answer; or the same without the output. */
void exec_print(struct exec *command, struct buf *out);
void exec_print_end(struct exec *command, struct buf *out);
/* Appends output from an offset on, `max` bytes at most; how many. */
size_t exec_read(struct exec *command, bool of_err, int64_t from, size_t max, struct buf *out);

/* --- processes in the background ----------------------------------------------------------- */

/* {"processes":[…]}, of one shell or all (NULL). */
int detached_list(struct sessions *sessions, const char *id, const char *shell, struct buf *out,
                  struct err *err);
int detached_print(struct sessions *sessions, const char *id, pid_t pid, struct buf *out,
                   bool *ret_running, struct err *err);
/* Calls fn once it does not run any more, maybe at once. */
int detached_watch(struct sessions *sessions, const char *id, pid_t pid, void (*fn)(void *arg),
                   void *arg, struct err *err);
/* True: it was forgotten, fn does not come. */
bool detached_unwatch(struct sessions *sessions, void *arg);
/* The same for a command in front; detached_unwatch() takes it back. */
int exec_watch_end(struct exec *command, void (*fn)(void *arg), void *arg, struct err *err);
/* Its exit code; false while it runs. */
bool exec_exit(struct exec *command, int *ret_exit);
/* Where it writes. -1 with ERR_NOT_FOUND: nowhere (its output went with its command's). */
int detached_log(struct sessions *sessions, const char *id, pid_t pid, struct err *err);
int detached_input(struct sessions *sessions, const char *id, pid_t pid, const char *text,
                   bool enter, bool end, struct err *err);
int detached_signal(struct sessions *sessions, const char *id, pid_t pid, int sig, struct err *err);
/* TERM, three seconds, KILL. *ret_running: whether it ran. */
int detached_end(struct sessions *sessions, const char *id, pid_t pid, bool *ret_running,
                 struct err *err);
/* All that run and whose command holds the pattern, of one shell or all: their pids. */
int detached_end_all(struct sessions *sessions, const char *id, const char *pattern,
                     const char *shell, int sig, struct buf *ret_pids, int *ret_count,
                     struct err *err);

/* Calls fn again and again, five times a second, until sessions_untick(): for who looks at a file
 * that tells nobody when it grows. With a lock held: it only wakes somebody. */
int sessions_tick(struct sessions *sessions, void (*fn)(void *arg), void *arg, struct err *err);
void sessions_untick(struct sessions *sessions, void *arg);

/* --- shells -------------------------------------------------------------------------------- */

int shellview_print(struct sessions *sessions, const char *id, const char *name, bool console,
                    struct buf *out, struct err *err);
/* A command that ran elsewhere, as one of the shell's history. */
struct shellview_note {
    const char *shell, *text, *cwd;
    const char *output, *errors;
};
int shellview_note(struct sessions *sessions, const char *id, const struct shellview_note *note,
                   struct err *err);
/* The process that a shell's wait, stdin and kill mean: its newest in the background. 0 when a
 * command runs in front (*ret_command, to be let go of) or there is none. */
int shellview_current(struct sessions *sessions, const char *id, const char *name, pid_t *ret_pid,
                      struct exec **ret_command, struct err *err);

/* --- terminals (pty.c) --------------------------------------------------------------------- */

#define PTY_SIZE_MAX 1000
#define PTY_WRITE_MAX (16u << 10)

struct pty_viewer;

struct pty_wish {
    const char *shell; /* whose state it begins with, and its name */
    int cols, rows;    /* 1..PTY_SIZE_MAX, of one that is made */
};

/* Both may come with a lock held, from any thread: they only wake somebody. */
struct pty_watch {
    void (*changed)(void *arg); /* there is something to read */
    void (*drained)(void *arg); /* after pty_write() has said no: go on */
    void *arg;
};

struct pty_state {
    pid_t pid;
    int cols, rows;
    bool fresh;     /* it was made for this viewer */
    int64_t replay; /* how much of what comes first was written before */
};

/* What pty_read() tells beside the bytes. */
struct pty_news {
    int64_t skipped; /* bytes before these that the viewer was too slow for */
    bool more;
    bool resized; /* by somebody else */
    int cols, rows;
    bool over; /* nothing comes after these bytes */
    bool lost; /* it has ended with its session */
    int exit_code;
};

/* Opens the terminal of that name, making one where there is none, for somebody who looks at it.
 * pty_leave() is owed. Waits for the agent. ERR_RATE: too many. */
int pty_open(struct sessions *sessions, const char *id, const struct pty_wish *wish,
             const struct pty_watch *watch, struct pty_viewer **ret_viewer,
             struct pty_state *ret_state, struct err *err);
/* No callback is called after it, and the terminal goes on. */
void pty_leave(struct pty_viewer *viewer);
/* Appends what comes next, `max` bytes at most; how many. */
size_t pty_read(struct pty_viewer *viewer, size_t max, struct buf *out, struct pty_news *ret_news);
/* Types PTY_WRITE_MAX bytes at most. False: taken, but no more before drained(). */
bool pty_write(struct pty_viewer *viewer, const char *data, size_t len);
void pty_resize(struct pty_viewer *viewer, int cols, int rows);
/* Ends the terminal, as closing its window would. */
void pty_hang_up(struct pty_viewer *viewer);

/* --- files --------------------------------------------------------------------------------- */

/* A regular file, opened for reading, or -1. */
int session_open(struct sessions *sessions, const char *id, const char *path, struct err *err);

/* A file that is being written. */
struct session_write {
    int fd;
    char *path;     /* where it goes, or what is needed to end it */
    char fresh[80]; /* "" for an append */
    bool existed;
};
void session_write_done(struct session_write *write);
struct file_wish {
    const char *path;
    bool append;
    const char *if_match, *if_none_match; /* or NULL */
    int mode;                             /* -1: as it was, or 0644 */
};
int session_write_open(struct sessions *sessions, const char *id, const struct file_wish *wish,
                       struct session_write *ret_write, struct err *err);
/* Puts it in place and prints {"path","size","etag",…}; or throws it away. */
int session_write_commit(struct sessions *sessions, const char *id, const struct file_wish *wish,
                         struct session_write *write, struct buf *out, struct err *err);
void session_write_discard(struct sessions *sessions, const char *id, struct session_write *write);

int session_remove(struct sessions *sessions, const char *id, const struct file_wish *wish,
                   bool *ret_there, struct err *err);
/* Work that answers with JSON: "list", "search", "find", "replace". `ask` is members for it
 * (",\"path\":…"). */
int session_work(struct sessions *sessions, const char *id, const char *work, const struct buf *ask,
                 struct buf *out, struct err *err);
/* Where a packed directory can be read from. */
int session_pack(struct sessions *sessions, const char *id, const char *path, struct err *err);
/* Unpacks what comes from `next` (as http_read()) and prints {"bytes","entries"}. `single`: an
 * archive of one file becomes that file. */
int session_unpack(struct sessions *sessions, const char *id, const char *path, bool single,
                   ssize_t (*next)(char *to, size_t max, void *arg, struct err *err), void *arg,
                   struct buf *out, struct err *err);

#endif
