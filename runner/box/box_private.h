/*
 * What the files of the agent share: the agent is the process inside a session's jail that runs its
 * shells and serves its files. Private to runner/box.
 *
 * Threads: none; the agent has one thread.
 * Ownership: struct box owns its shells and jobs; returned texts and lists are the caller's to
 * free.
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
#include <sys/stat.h>
#include <sys/types.h>

#define SHELLS_MAX 64
#define PTYS_MAX 16
#define JOBS_MAX 1024  /* that are alive */
#define WORKERS_MAX 32 /* at once */
#define STATE_BYTES_MAX (64u << 20)
#define COMMAND_BYTES_MAX (1u << 20)
#define HEAD_BYTES 400 /* of a command, where it is only displayed */
#define PIPES_MAX 64   /* commands of a pipeline whose statuses are kept */
#define TAG_COUNT 512  /* number of values that coredump_filter can hold */
#define TAG_NONE 0x33  /* the kernel's default value: no tag */

/* A command that a shell is running. */
struct run {
    int64_t id;        /* the id that the runner gave it */
    int in, out, err;  /* the command's ends of its pipes; ours only until the shell has opened
                        * them */
    int in_write;      /* the other end of `in`, for a background process; else -1 */
    int command;       /* its text */
    int log;           /* file that a background process writes to; -1: it is none */
    char log_path[64]; /* of that file, until the process is known */
    bool background;   /* the whole command runs in the background (background:true) */
    int tag;
    bool killed;        /* a time limit or a caller has ended it */
    bool first;         /* nothing else was running when it began */
    bool crowd;         /* it was ended because it left no room for other processes */
    int64_t started_ms; /* real */
    char head[HEAD_BYTES];
};

/* What a command has left for the next one, apart from the state. */
struct after {
    int words;       /* of its own report: $?, $_, and PIPESTATUS's */
    bool known;      /* it has made that report */
    int status;      /* $? */
    bool lasts;      /* `last` is known, if from a command before it */
    struct buf last; /* $_ */
    int pipes[PIPES_MAX];
    size_t pipe_count;
    bool pipes_set, lines_set; /* PIPESTATUS and LINENO are variables that can be set */
};

struct shell {
    char name[ID_SIZE];
    pid_t pid;        /* 0: dead */
    int script;       /* pipe that it reads its script from */
    int report;       /* pipe that it reports to, our end */
    int report_write; /* the end of it that the shell opens */
    struct buf told;  /* the beginning of its next report */
    int patience_us;  /* how long the rest of that is left unread; 0: nothing is missing */
    struct buf kept;  /* its state as written last; empty when it was large */
    struct stat file; /* the file that this was written to */
    struct run *run;  /* NULL: idle */
    struct after after;
    struct buf farewell; /* the EXIT trap that reports its state at its end */
    bool armed;          /* that is its EXIT trap */
    bool trapped;        /* it has one of the caller's */
    bool verbose;        /* it prints what it reads */
    bool strayed;        /* `cwd` is not its state's: a command that was ended had gone there */
    unsigned disabled;   /* builtins, as box_disabled() has them */
    int status;          /* $? for the next command */
    pid_t bang;          /* last reported value of $! */
    int state;           /* file that it is reading its state from, or -1 */
    bool ready;          /* it has read its state */
    bool broken;         /* it could not start with its state: start without it */
    bool monitor;        /* it has job control on */
    bool traced;         /* it has a DEBUG trap */
    bool doomed;         /* its bash has been killed and is not buried yet */
    char *cwd;
};

/* A background process. */
struct job {
    struct job *next;
    pid_t pid;
    int pidfd;
    char shell[ID_SIZE];
    int64_t run; /* of the command that started it */
    bool whole;  /* all processes with its tag belong to it */
    int tag;
    int in_write; /* its standard input, or -1 */
    bool over;    /* it has ended, but its exit code is not known yet */
    bool asked;   /* its shell was asked for the exit code */
};

/* A child that works on files. */
struct worker {
    pid_t pid;
    int64_t id;
};

struct box {
    int control;
    int signals;
    int root;      /* directory at which callers' absolute paths begin */
    int states;    /* where shells' states are kept */
    char *outside; /* path of `root` when the shells see the host's own paths; NULL: it is "/" */
    pid_t self;
    struct strlist env;
    struct shell shells[SHELLS_MAX];
    size_t shell_count;
    struct job *jobs;
    size_t job_count;
    struct worker workers[WORKERS_MAX];
    pid_t ptys[PTYS_MAX]; /* of terminals; 0: free */
    bool alone;           /* its pid namespace holds nothing else but its init */
    int pids_max;         /* processes and threads that the session may have; 0: not known */
    bool strangers;       /* something may run that no command waits for */
    bool swept;           /* something that was left running has been ended to make room */
    int seen;             /* how many processes there were lately */
    int64_t look_ms;      /* when it is looked at its shells again, mono */
    int64_t crowd_ms;     /* when it is looked for a crowd again, mono */
    int tag;
};

/* --- messages (box.c) ---------------------------------------------------------------------- */

/* Sends an answer or an event. When the runner does not read it in time, the message is lost and
 * the session ends. */
void box_say(const struct box *box, const struct buf *text, const int *fds, size_t fd_count);
/* Answers {"id":…,"error":code,"message":…}. */
void box_say_error(const struct box *box, int64_t id, const struct err *err);
void box_say_ok(const struct box *box, int64_t id);
/* An empty file without a name; -1 with errno. In memory, but where the jail has none of those it
 * is with the shells' states. */
int box_file(const struct box *box);

/* --- walls (enclose.c) --------------------------------------------------------------------- */

/* Makes the workspace, tmp and home of `dir` the only writable places, with the host's programs
 * beside them, and drops every privilege. -1 when the host does not allow it. */
int box_enclose(const char *dir, struct err *err);

/* --- children (box.c) ---------------------------------------------------------------------- */

/* fork() that waits for a while when there is no room for another process, and then makes room. */
pid_t box_fork(struct box *box);
/* Looks who has ended: anybody's shell, process, terminal or worker may be another afterwards. */
void box_reap(struct box *box);

/* --- shells (shell.c) ---------------------------------------------------------------------- */

struct shell *box_shell_find(struct box *box, const char *name);
/* The shell of that name, which is made when it does not exist. The box owns it. */
struct shell *box_shell_take(struct box *box, const char *name, struct err *err);
/* Starts the shell's bash when it is dead. */
int box_shell_wake(struct box *box, struct shell *shell, struct err *err);
/* Its bash ends now, and runs no other command: the next one gets another. */
void box_shell_doom(struct shell *shell);
/* Makes sure that a shell can start a process. */
void box_try_room(struct box *box);
/* The state that it left, for reading; -1: none. Whatever else a command has put there is removed.
 */
int box_state_open(const struct box *box, const char *name);
/* Gives it a line to read. */
int box_shell_write(struct shell *shell, const struct buf *line, struct err *err);
/* Reads the shell's report. */
void box_shell_listen(struct box *box, struct shell *shell);
/* In a fresh child: becomes a bash in `place`, with these descriptors under these numbers, which
 * rise, and no others. Descriptor 0 is its terminal when it is one. */
struct bash_fd {
    int from, to;
};
_Noreturn void box_become_bash(const struct box *box, char *const argv[], const struct bash_fd *fds,
                               size_t count, const char *place);
/* Its bash has ended. */
void box_shell_died(struct box *box, struct shell *shell, int wait_status);
/* Finds a shell that reads on but reports nothing, as after `set -n`. */
void box_shell_look(struct box *box, struct shell *shell);
/* Notes the shell's current directory, as the kernel knows it. */
void box_note_cwd(struct shell *shell);
/* The path as callers see it. The caller frees it. */
char *box_shown_path(const struct box *box, const char *path);

/* The real path of one that callers see. The caller frees it. */
char *box_real_path(const struct box *box, const char *path);

/* --- what shells read (script.c, whole.c) --------------------------------------------------- */

/* Appends text in single quotes. */
void box_add_quoted(struct buf *out, const char *text, size_t len);
/* Appends a redirection from or to a descriptor of the agent. */
void box_add_fd(struct buf *line, const struct box *box, const char *how, int fd);
/* Appends the lines that run the shell's command (shell->run), whose text is in a file as well. In
 * the background the process gets its own group: job control is on while it starts. */
void box_add_command(struct buf *line, const struct box *box, struct shell *shell,
                     const struct buf *text, int command, const char *cwd);
/* Appends the line that reports how a command has ended, and the state. An empty line follows,
 * which is read once the one before it has run: see box_shell_look(). */
struct report {
    const char *status, *bang; /* words of the script */
    bool no_printf;            /* it may be disabled */
    bool end_job_control;
};
void box_add_report(struct buf *line, const struct box *box, const struct shell *shell,
                    const struct report *report);
/* Which of the builtins that lines of ours use are in the list of "enable -n". */
unsigned box_disabled(const char *list, size_t len, bool printf_is);
/* Appends the script of an EXIT trap that reports the state. It has no single quotes. */
void box_add_farewell(struct buf *text, const struct box *box, const struct shell *shell);
/* Appends the line that sets that trap. */
void box_add_arming(struct buf *line, const struct shell *shell);
/* True when bash would take nothing that follows in a line of its own for a part of this text. It
 * errs on the safe side only. */
bool box_is_whole(const char *text);

/* --- commands (commands.c) ---------------------------------------------------------------------
 */

/* {"op":"exec"} with the descriptor of the command's text, and one for its input. */
void box_run_start(struct box *box, int64_t id, const struct json *ask,
                   struct box_message *message);
/* Call when the shell has finished the command. bang: the last background process that it knows, or
 * 0. */
void box_run_ended(struct box *box, struct shell *shell, int status, pid_t bang);
/* {"op":"kill"}: ends everything that a command has started, except its background processes. */
void box_run_kill(struct box *box, int64_t id, const struct json *ask);

void box_job_signal(struct box *box, int64_t id, const struct json *ask);
void box_job_stdin(struct box *box, int64_t id, const struct json *ask,
                   struct box_message *message);
/* Call when the job has ended. `status`: from wait(), or -1 when only its shell knows it. */
void box_job_over(struct box *box, struct job *job, int status);
struct job *box_job_find(struct box *box, pid_t pid);
/* Asks an idle shell for the exit codes of its jobs. */
void box_jobs_ask(struct box *box, struct shell *shell);
/* Call when the bash that started jobs has died. */
void box_jobs_orphaned(struct box *box, const struct shell *shell);
/* Call with a shell's answer about a job. */
void box_job_told(struct box *box, pid_t pid, int status);

/* --- terminals (pty.c) --------------------------------------------------------------------- */

/* {"op":"pty"}: starts a bash on a new pty, with the state of the shell that it names; answers with
 * the other end of the pty. */
void box_pty_start(struct box *box, int64_t id, const struct json *ask);
/* True when the child was a terminal's. */
bool box_pty_died(struct box *box, pid_t pid, int wait_status);

/* --- processes (tags.c) -------------------------------------------------------------------- */

struct process {
    pid_t pid, parent, group;
    int threads;
    int tag; /* -1: unknown */
    bool stopped;
};

/* All processes below the agent. The caller frees the list. */
struct process *box_processes_list(const struct box *box, size_t *ret_count);
/* Find a tag that no process has, and give a process a tag. */
int box_tag_new(struct box *box);
void box_tag_set(pid_t pid, int tag);
/* Sends `sig` to everybody with the tag but `spare`; how many there were. Who is stopped already is
 * passed over by SIGSTOP. */
int box_tag_signal(const struct box *box, int tag, pid_t spare, int sig);
/* The same for a process, its group, and its descendants. */
int box_branch_signal(const struct box *box, pid_t pid, int sig);

/* True for the session's shells, terminals and workers themselves. */
bool box_is_ours(const struct box *box, pid_t pid);

/* --- crowds (crowd.c) ---------------------------------------------------------------------- */

/* Ends everybody with the tag, those that fork on included. */
void box_tag_end(struct box *box, int tag);
/* Where processes fill the session up to its limit, ends the commands that have most of them, until
 * a few more can start; `force`: one at least, because none could. `spared` (or NULL) is not ended.
 * True when anything was. Shells may be others afterwards, as after box_reap(). */
bool box_make_room(struct box *box, const struct run *spared, bool force);
/* Call now and then while commands run: one that fills the session must not keep the others out. */
void box_crowd_look(struct box *box);

/* --- files (worker.c and what it calls) ---------------------------------------------------- */

/* Parses a file: what is too long for a message. The caller frees the result. */
struct json *box_read_json(int fd, struct err *err);

/* Starts a worker for {"op":"file",…}. */
void box_worker_start(struct box *box, int64_t id, const struct json *ask,
                      struct box_message *message);
/* True when the child was a worker. */
bool box_worker_died(struct box *box, pid_t pid, int wait_status);

/* The job of a worker process, which ends by worker_done() or worker_fail(). */
struct work {
    struct box *box;
    int64_t id;
    const struct json *ask;
    int root;
};

/* Opens a caller's path below the root: absolute, or relative to /workspace. Links are followed
 * inside the root. -1 with err. */
int box_open_inside(const struct work *work, const char *path, int flags, mode_t mode,
                    struct err *err);
/* Opens the directory that holds a path; with `make` creates it and its parents. *ret_name points
 * into path. */
int box_open_parent(const struct work *work, const char *path, bool make, const char **ret_name,
                    struct err *err);
/* What went wrong with a path (errno), as a caller can use it; -1. */
int box_path_error(const char *path, struct err *err);
/* A caller's path, absolute and without "." and "..". NULL with err when it is none. */
char *box_clean_path(const char *path, struct err *err);

/* Answer with members (text of the form ",\"a\":1") and a descriptor; a long `body` is sent as a
 * file of its own. */
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
