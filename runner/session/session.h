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
 * Ownership: the caller of sessions_new() frees it by sessions_free(); commands are counted
 * references, guests are freed by session_leave() and viewers by pty_leave().
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
    struct config_in_force *config; /* borrowed, as everything here */
    struct launcher *launcher;
    const struct walls *walls; /* jails of the agents */
    struct repos *repos;
    const char *state_dir;
    const char *marker; /* "NAME=VALUE" in the environment of everything that is started */
    uid_t uid;          /* user that sessions run as */
    gid_t gid;
};

/* Loads the sessions in the directory. The caller frees the result by sessions_free(). */
struct sessions *sessions_new(const struct sessions_config *config, struct err *err);
/* Ends all agents; waiting callers are answered. */
void sessions_stop(struct sessions *sessions);
void sessions_free(struct sessions *sessions);

/* Keeps the sessions from being freed while a thread of the caller works with them, until
 * sessions_let_go(). ERR_BUSY: they are ending. */
int sessions_hold(struct sessions *sessions, struct err *err);
void sessions_let_go(struct sessions *sessions);

struct session_wish {
    const char *id;            /* NULL: a new one is chosen */
    const struct strlist *env; /* "NAME=value" */
    int ttl_minutes;           /* 0: SESSION_TTL_MINUTES */
    int idle_minutes;          /* 0: it does not end for being idle */
    double cpu;                /* limits; 0: those of TASK_LIMITS */
    int memory_mb, pids_max, disk_mb;
    const struct strlist *egress; /* as in a request; NULL or empty: the setting EGRESS */
    const char *metadata;         /* JSON, or NULL */
    const struct repo_wish *repo; /* what /workspace begins with; or NULL. With own_files tasks can
                                   * work in the session */
    const char *from;             /* the snapshot that it begins with; or NULL */
};

/* Makes a session and prints it. Takes long with a repository or a snapshot. ERR_CONFLICT: the id
 * is taken. ERR_RATE: there are SESSIONS_MAX. */
int session_create(struct sessions *sessions, const struct session_wish *wish, struct buf *out,
                   struct err *err);
/* Removes a session with everything in it. A missing one is no error; *ret_there says whether it
 * existed. */
int session_delete(struct sessions *sessions, const char *id, bool *ret_there, struct err *err);
/* Whether there is one of that name; asking is no use of it. */
bool sessions_has(struct sessions *sessions, const char *id);
/* Print {"sessions":[…]}, and one session. */
void sessions_print(struct sessions *sessions, struct buf *out);
int session_print(struct sessions *sessions, const char *id, struct buf *out, struct err *err);

/* --- tasks in a session -------------------------------------------------------------------- */

/* A task that works with the session's files, in a jail of its own. The session does not expire
 * meanwhile. */
struct session_guest;
/* Enters a session; leave it by session_leave(). gone() is called when the session is deleted, with
 * a lock held: it only wakes the task, which must leave soon. NULL with ERR_NOT_FOUND. */
struct session_guest *session_enter(struct sessions *sessions, const char *id,
                                    void (*gone)(void *arg), void *arg, struct err *err);
/* The directory with the session's files: workspace, home, tmp. It may contain links that the
 * session has made. */
const char *session_guest_box(const struct session_guest *guest);
/* Whose these files are, when that is not the user of all sessions; else 0. The task's programs run
 * as that user. */
uid_t session_guest_user(const struct session_guest *guest);
/* True when gone() has been called. */
bool session_guest_is_told(struct session_guest *guest);
void session_leave(struct session_guest *guest);
/* Checks that a task can enter the session. ERR_NOT_FOUND: there is none. ERR_CONFLICT: it is
 * layered. */
int session_check(struct sessions *sessions, const char *id, struct err *err);

/* --- snapshots (snapshot.c) ----------------------------------------------------------------- */

struct snapshot_wish {
    const char *id;  /* NULL: a new one is chosen */
    int ttl_minutes; /* 0: thirty days */
    const char *metadata;
};

/* Copies a session's files, home and shells, and prints the snapshot. Of a workspace with a
 * repository it copies only the changes. Takes long. ERR_RATE: there are too many. */
int snapshot_create(struct sessions *sessions, const char *session,
                    const struct snapshot_wish *wish, struct buf *out, struct err *err);
/* Print {"snapshots":[…]}, and one snapshot. */
void snapshots_print(struct sessions *sessions, struct buf *out);
int snapshot_print(struct sessions *sessions, const char *id, struct buf *out, struct err *err);
/* Removes a snapshot. A missing one is no error. ERR_CONFLICT: a session is being made from it. */
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
    void (*changed)(void *arg); /* there is more output, or its end; may be called with a lock held,
                                 * so it only wakes a thread */
    void (*done)(struct exec *command, void *arg); /* called once: the command has ended, or could
                                                    * not start */
    void *arg;
};

/* Starts a command; done() is called later, or at once. The caller gets a reference, which it drops
 * by exec_unref(). NULL: it was not accepted, and done() is not called. */
struct exec *exec_start(struct sessions *sessions, const char *id, const struct exec_wish *wish,
                        const struct exec_watch *watch, struct err *err);
void exec_unref(struct exec *command);
/* Ends the command and everything that it has started. */
void exec_kill(struct exec *command);
/* After done(): true, with the reason, when it could not be started. */
bool exec_failed(const struct exec *command, struct err *err);
/* After done(): print the whole answer, or the answer without the output. */
void exec_print(struct exec *command, struct buf *out);
void exec_print_end(struct exec *command, struct buf *out);
/* Appends output from an offset, `max` bytes at most. Returns how many. */
size_t exec_read(struct exec *command, bool of_err, int64_t from, size_t max, struct buf *out);

/* --- background processes ------------------------------------------------------------------ */

/* Print {"processes":[…]} of one shell or all (NULL), and one process. */
int detached_list(struct sessions *sessions, const char *id, const char *shell, struct buf *out,
                  struct err *err);
int detached_print(struct sessions *sessions, const char *id, pid_t pid, struct buf *out,
                   bool *ret_running, struct err *err);
/* Calls fn once the process does not run any more, possibly at once. */
int detached_watch(struct sessions *sessions, const char *id, pid_t pid, void (*fn)(void *arg),
                   void *arg, struct err *err);
/* Ends a watch. True when fn will not be called. */
bool detached_unwatch(struct sessions *sessions, void *arg);
/* As detached_watch(), for a foreground command; detached_unwatch() ends it. */
int exec_watch_end(struct exec *command, void (*fn)(void *arg), void *arg, struct err *err);
/* The command's exit code; false while it runs. */
bool exec_exit(struct exec *command, int *ret_exit);
/* Opens the file that a process writes to. -1 with ERR_NOT_FOUND when there is none (its output
 * went with its command's). */
int detached_log(struct sessions *sessions, const char *id, pid_t pid, struct err *err);
int detached_input(struct sessions *sessions, const char *id, pid_t pid, const char *text,
                   bool enter, bool end, struct err *err);
int detached_signal(struct sessions *sessions, const char *id, pid_t pid, int sig, struct err *err);
/* Sends TERM, and KILL after three seconds. *ret_running: whether it was running. */
int detached_end(struct sessions *sessions, const char *id, pid_t pid, bool *ret_running,
                 struct err *err);
/* Signals all running processes whose command contains the pattern, of one shell or all; *ret_pids
 * lists them. */
int detached_end_all(struct sessions *sessions, const char *id, const char *pattern,
                     const char *shell, int sig, struct buf *ret_pids, int *ret_count,
                     struct err *err);

/* Calls fn five times a second until sessions_untick(): for reading a file whose growth nothing
 * reports. Called with a lock held, so it only wakes a thread. */
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
/* What a shell's wait, stdin and kill refer to: a command in the foreground (a reference for the
 * caller), else its newest background process, else its last command, which has ended. */
struct shellview_now {
    struct exec *command; /* or NULL */
    pid_t pid;            /* or 0 */
    bool ended;           /* with the exit code */
    int exit_code;
};
int shellview_current(struct sessions *sessions, const char *id, const char *name,
                      struct shellview_now *ret_now, struct err *err);

/* --- terminals (pty.c) --------------------------------------------------------------------- */

#define PTY_SIZE_MAX 1000
#define PTY_WRITE_MAX (16u << 10)

struct pty_viewer;

struct pty_wish {
    const char *shell; /* its name, and the shell with whose state it begins */
    int cols, rows;    /* 1..PTY_SIZE_MAX, of a new one */
};

/* Both may be called with a lock held, on any thread: they only wake a thread. */
struct pty_watch {
    void (*changed)(void *arg); /* there is something to read */
    void (*drained)(void *arg); /* input is accepted again after pty_write() returned false */
    void *arg;
};

struct pty_state {
    pid_t pid;
    int cols, rows;
    bool fresh;     /* it was started for this viewer */
    int64_t replay; /* how many of the first bytes were printed earlier */
};

/* What pty_read() reports besides the bytes. */
struct pty_news {
    int64_t skipped; /* earlier bytes that this viewer missed because it was too slow */
    bool more;
    bool resized; /* another viewer changed the size */
    int cols, rows;
    bool over; /* these are the last bytes */
    bool lost; /* it ended with its session */
    int exit_code;
};

/* Opens the terminal of that name for a viewer; starts it where there is none. The caller ends the
 * viewer by pty_leave(). Waits for the agent. ERR_RATE: too many. */
int pty_open(struct sessions *sessions, const char *id, const struct pty_wish *wish,
             const struct pty_watch *watch, struct pty_viewer **ret_viewer,
             struct pty_state *ret_state, struct err *err);
/* Frees the viewer; no callback is called after it. The terminal goes on. */
void pty_leave(struct pty_viewer *viewer);
/* Appends the next bytes, `max` at most. Returns how many. */
size_t pty_read(struct pty_viewer *viewer, size_t max, struct buf *out, struct pty_news *ret_news);
/* Types PTY_WRITE_MAX bytes at most. False: they were taken, but no more may be sent before
 * drained(). */
bool pty_write(struct pty_viewer *viewer, const char *data, size_t len);
void pty_resize(struct pty_viewer *viewer, int cols, int rows);
/* Ends the terminal, as closing its window would. */
void pty_hang_up(struct pty_viewer *viewer);

/* --- files --------------------------------------------------------------------------------- */

/* Opens a regular file for reading; -1 with err. The caller closes it. */
int session_open(struct sessions *sessions, const char *id, const char *path, struct err *err);

/* A file that is being written. */
struct session_write {
    int fd;
    char *path;     /* its destination, or what the end of the write needs */
    char fresh[80]; /* "" for an append */
    bool existed;
};
void session_write_done(struct session_write *write);
struct file_wish {
    const char *path;
    bool append;
    const char *if_match, *if_none_match; /* or NULL */
    int mode;                             /* -1: unchanged, or 0644 */
};
int session_write_open(struct sessions *sessions, const char *id, const struct file_wish *wish,
                       struct session_write *ret_write, struct err *err);
/* Ends a write: commit moves the file to its destination and prints {"path","size","etag",…};
 * discard removes it. */
int session_write_commit(struct sessions *sessions, const char *id, const struct file_wish *wish,
                         struct session_write *write, struct buf *out, struct err *err);
void session_write_discard(struct sessions *sessions, const char *id, struct session_write *write);

int session_remove(struct sessions *sessions, const char *id, const struct file_wish *wish,
                   bool *ret_there, struct err *err);
/* Runs "list", "search", "find" or "replace", and prints its JSON. `ask` has the members of the
 * request (",\"path\":…"). */
int session_work(struct sessions *sessions, const char *id, const char *work, const struct buf *ask,
                 struct buf *out, struct err *err);
/* Takes the next bytes; first it is called once with none, when there will be some. A result other
 * than 0 ends the work. */
typedef int session_take_fn(const char *piece, size_t len, void *arg);
/* Passes on the archive of a file or directory. -1 before take() was called: it cannot be packed;
 * after that: the archive is not whole. */
int session_pack(struct sessions *sessions, const char *id, const char *path, session_take_fn *take,
                 void *arg, struct err *err);
/* Unpacks the archive that `next` (as http_read()) returns, and prints {"bytes","entries"}.
 * `single`: an archive of one file becomes that file. */
int session_unpack(struct sessions *sessions, const char *id, const char *path, bool single,
                   ssize_t (*next)(char *to, size_t max, void *arg, struct err *err), void *arg,
                   struct buf *out, struct err *err);

#endif
