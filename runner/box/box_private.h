/*
 * What the files of the agent share: the agent is the process inside a session's jail that runs its
 * shells and serves its files. Private to runner/box.
 *
 * Threads: none; the agent has one thread.
 */
#ifndef BOX_BOX_PRIVATE_H
#define BOX_BOX_PRIVATE_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/strlist.h"
#include "runner/box/message.h"
#include "json/json.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SHELLS_MAX 64
#define PTYS_MAX 16
#define JOBS_MAX 1024  /* that are alive */
#define WORKERS_MAX 32 /* at once */
#define STATE_BYTES_MAX (64u << 20)
#define COMMAND_BYTES_MAX (1u << 20)
#define HEAD_BYTES 400 /* of a command, where it is only shown */
#define TAG_COUNT 512  /* what coredump_filter can hold */
#define TAG_NONE 0x33  /* its value by default: nobody's tag */

/* A command that a shell is running. */
struct run {
    int64_t id;        /* the runner's */
    int in, out, err;  /* the command's ends; ours only until the shell has opened them */
    int in_write;      /* the other end of `in`, for a background process; else -1 */
    int command;       /* its text */
    int log;           /* where a background process writes; -1: it is none */
    char log_path[64]; /* of it, until the process is known */
    bool background;   /* all of it is (background:true) */
    int tag;
    bool killed;        /* a time limit, or somebody, has ended it */
    int64_t started_ms; /* real */
    char head[HEAD_BYTES];
};

struct shell {
    char name[ID_SIZE];
    pid_t pid;        /* 0: dead */
    int script;       /* what it reads */
    int report;       /* what it tells, our end */
    int report_write; /* the end that it opens */
    struct buf told;
    struct run *run; /* NULL: idle */
    int status;      /* $? for the next command */
    pid_t bang;      /* $! as last told */
    int state;       /* what it is reading its state from, or -1 */
    bool ready;      /* it has read that */
    bool broken;     /* it could not be started with its state: start without */
    bool monitor;    /* it has job control on */
    char *cwd;
};

/* A process in the background. */
struct job {
    struct job *next;
    pid_t pid;
    int pidfd;
    char shell[ID_SIZE];
    int64_t run; /* that started it */
    bool whole;  /* everything with its tag belongs to it */
    int tag;
    int in_write; /* its standard input, or -1 */
    bool over;    /* it has ended, its exit code is not known yet */
    bool asked;   /* its shell has been asked for it */
};

/* A child that works on files. */
struct worker {
    pid_t pid;
    int64_t id;
};

struct box {
    int control;
    int signals;
    int root;      /* what callers' absolute paths begin at */
    int states;    /* where shells' states are kept */
    char *outside; /* where `root` is when the shells see the host's own paths; NULL: it is "/" */
    pid_t self;
    struct strlist env;
    struct shell shells[SHELLS_MAX];
    size_t shell_count;
    struct job *jobs;
    size_t job_count;
    struct worker workers[WORKERS_MAX];
    pid_t ptys[PTYS_MAX]; /* of terminals; 0: free */
    int tag;
};

/* --- saying (box.c) ------------------------------------------------------------------------ */

/* Sends an answer or an event; what the runner does not take in time is lost with the session. */
void box_say(const struct box *box, const struct buf *text, const int *fds, size_t fd_count);
/* {"id":…,"error":code,"message":…} */
void box_say_error(const struct box *box, int64_t id, const struct err *err);
void box_say_ok(const struct box *box, int64_t id);
/* An empty file without a name; -1 with errno. In memory, but where the jail has none of those it
 * is with the shells' states. */
int box_file(const struct box *box);

/* --- walls (enclose.c) --------------------------------------------------------------------- */

/* Makes `dir`'s workspace, tmp and home the only places that can be written to, with the host's
 * programs beside them, and lets go of every privilege. -1: the host does not allow it. */
int box_enclose(const char *dir, struct err *err);

/* --- shells (shell.c) ---------------------------------------------------------------------- */

struct shell *box_shell_find(struct box *box, const char *name);
/* The shell of that name, made when there is none. */
struct shell *box_shell_take(struct box *box, const char *name, struct err *err);
/* Starts its bash, when that is dead. */
int box_shell_wake(struct box *box, struct shell *shell, struct err *err);
/* Gives it a line to read. */
int box_shell_write(struct shell *shell, const struct buf *line, struct err *err);
/* Something has come on its report. */
void box_shell_listen(struct box *box, struct shell *shell);
/* Its bash has ended. */
void box_shell_died(struct box *box, struct shell *shell, int wait_status);
/* Looks whether it reads on without having told anything: `set -n` and the like. */
void box_shell_look(struct box *box, struct shell *shell);
/* Appends text in single quotes. */
void box_add_quoted(struct buf *out, const char *text, size_t len);
/* Notes where it is now, as the kernel knows it. */
void box_note_cwd(struct shell *shell);
/* A path as callers see it. Fresh memory. */
char *box_shown_path(const struct box *box, const char *path);

/* The other way round. */
char *box_real_path(const struct box *box, const char *path);

/* --- commands (commands.c) ---------------------------------------------------------------------
 */

/* {"op":"exec"} with the command's descriptor, and one for its input. */
void box_run_start(struct box *box, int64_t id, const struct json *ask,
                   struct box_message *message);
/* The shell is through with it. bang: the last background process it knows, 0 for none. */
void box_run_ended(struct box *box, struct shell *shell, int status, pid_t bang);
/* {"op":"kill"}: everything that a command has started, but for the background. */
void box_run_kill(struct box *box, int64_t id, const struct json *ask);

void box_job_signal(struct box *box, int64_t id, const struct json *ask);
void box_job_stdin(struct box *box, int64_t id, const struct json *ask,
                   struct box_message *message);
/* It has ended. `status`: of wait(), or -1 when its shell knows it. */
void box_job_over(struct box *box, struct job *job, int status);
struct job *box_job_find(struct box *box, pid_t pid);
/* An idle shell is asked for the exit codes of its jobs. */
void box_jobs_ask(struct box *box, struct shell *shell);
/* Its bash has died. */
void box_jobs_orphaned(struct box *box, const struct shell *shell);
/* It has answered. */
void box_job_told(struct box *box, pid_t pid, int status);

/* --- terminals (pty.c) --------------------------------------------------------------------- */

/* {"op":"pty"}: a bash on a new pty, like the shell that it names; answers with the pty's end. */
void box_pty_start(struct box *box, int64_t id, const struct json *ask);
/* True when the child was one. */
bool box_pty_died(struct box *box, pid_t pid, int wait_status);

/* --- processes (tags.c) -------------------------------------------------------------------- */

struct process {
    pid_t pid, parent;
    int tag; /* -1: unknown */
};

/* Everybody below the agent; free() it. */
struct process *box_processes_list(const struct box *box, size_t *ret_count);
/* A tag that nobody carries; and giving one. */
int box_tag_new(struct box *box);
void box_tag_set(pid_t pid, int tag);
/* Sends `sig` to everybody with the tag but `spare`; how many there were. */
int box_tag_signal(const struct box *box, int tag, pid_t spare, int sig);
/* The same for a process, its group, and its descendants. */
int box_branch_signal(const struct box *box, pid_t pid, int sig);

/* --- files (worker.c and what it calls) ---------------------------------------------------- */

/* Starts a worker for {"op":"file",…}. */
void box_worker_start(struct box *box, int64_t id, const struct json *ask,
                      struct box_message *message);
/* True when the child was one. */
bool box_worker_died(struct box *box, pid_t pid, int wait_status);

/* What a worker works with; it ends by worker_done() or worker_fail(). */
struct work {
    struct box *box;
    int64_t id;
    const struct json *ask;
    int root;
};

/* Opens below the root, by a caller's path: absolute, or relative to /workspace. Links are followed
 * inside of the root. -1 with err. */
int box_open_inside(const struct work *work, const char *path, int flags, mode_t mode,
                    struct err *err);
/* The directory that holds a path, made with its parents when `make`; *ret_name points into path.
 */
int box_open_parent(const struct work *work, const char *path, bool make, const char **ret_name,
                    struct err *err);
/* A caller's path, absolute and without "." and "..". NULL with err when it is none. */
char *box_clean_path(const char *path, struct err *err);

/* Answers with members (",\"a\":1" form inside text) and descriptors; with `body`, a long one that
 * goes into a file of its own. */
void box_work_answer(const struct work *work, const struct buf *members, int fd);
void box_work_body(const struct work *work, const struct buf *body);

int box_file_open(const struct work *work, struct err *err);
int box_file_create(const struct work *work, struct err *err);
int box_file_commit(const struct work *work, struct err *err);
int box_file_discard(const struct work *work, struct err *err);
int box_file_remove(const struct work *work, struct err *err);
int box_file_list(const struct work *work, struct err *err);
int box_text_search(const struct work *work, struct err *err);
int box_text_find(const struct work *work, struct err *err);
int box_text_replace(const struct work *work, struct err *err);
int box_archive_pack(const struct work *work, struct err *err);
int box_archive_unpack(const struct work *work, struct err *err);
int box_shell_env(const struct work *work, struct err *err);

#endif
