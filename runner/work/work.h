/*
 * One way to run a program: launch it, follow its output, heed its clocks, end it.
 *
 * Theory of operation.
 *
 *     plan ──launcher──▶ program ──files, pipes──▶ take()          what it prints
 *                           ▲                        │
 *                           │                   work_began()       what that means
 *        TERM, grace, KILL  │                   work_answered()    for the clocks
 *                           │                        │
 *                         cause ◀── clocks, limits, the caller's wish
 *
 * work_run() launches the program and stays until its whole process tree has ended. On the way it
 * passes on what is printed, and looks at a table of causes (work.c): each says when it ends the
 * program. The first that comes true decides; the tree then gets TERM, the plan's grace and KILL.
 * When even init does not answer after that, the tree is given up (work_result.lost), so that no
 * caller waits for ever.
 *
 * A program that was told to end may still print: what it printed is passed on as long as somebody
 * wants it (after work_answered()), else for a few seconds, and work_result.dropped says when some
 * was not.
 *
 * Threads: any; one run is one thread's, and all callbacks run on it.
 * Ownership: everything in an order is borrowed until work_run() returns.
 */
#ifndef WORK_WORK_H
#define WORK_WORK_H

#include "base/err.h"
#include "proc/launch.h"
#include "runner/egress/gate.h"
#include "runner/work/tail.h"
#include "runner/work/users.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* X(name, reason on the wire, whether the sentence begins with the program's name, sentence): why a
 * program was ended. Without a reason, what the program said or how it ended decides. */
#define WORK_CAUSES(X)                                                                   \
    X(WORK_ENDED, "", true, "ended by itself")                                           \
    X(WORK_CANCEL, "cancelled", false, "the task was cancelled")                         \
    X(WORK_INTERRUPT, "interrupted", false, "the runner was stopped while the task ran") \
    X(WORK_TIMEOUT, "timeout", false, "the task did not end within its time limit")      \
    X(WORK_SILENT, "no_output", true, "printed nothing after it was started")            \
    X(WORK_IDLE, "idle_timeout", true, "printed nothing for too long")                   \
    X(WORK_GRACE, "", true, "did not end after its result")                              \
    X(WORK_FLOOD, "output_limit", true, "printed faster than can be stored")             \
    X(WORK_LIMIT, "output_limit", true, "printed more than is allowed")                  \
    X(WORK_MEMORY, "memory_exceeded", false,                                             \
      "the task used more memory than it may have (limits.memoryMb)")                    \
    X(WORK_DISK, "disk_exceeded", false,                                                 \
      "the task used more disk than it may have (limits.diskMb)")                        \
    X(WORK_PIDS, "pids_exceeded", false,                                                 \
      "the task wanted more processes than it may have (limits.pids)")                   \
    X(WORK_ABORT, "", false, "the task's events could not be stored")

enum work_cause {
#define WORK_CAUSE_ENUM(name, reason, named, sentence) name,
    WORK_CAUSES(WORK_CAUSE_ENUM)
#undef WORK_CAUSE_ENUM
};

const char *work_cause_reason(enum work_cause cause);
/* True for limits of the jail, which init enforces. */
bool work_cause_is_limit(enum work_cause cause);
/* The limit because of which a child was ended, or failed (`status`); WORK_ENDED for none. */
enum work_cause work_cause_of_limits(unsigned exceeded, int status);
/* Writes the sentence, about a program of that name, cut to `size` bytes including the NUL. */
void work_cause_say(enum work_cause cause, const char *program, char *text, size_t size);

struct work; /* a program that runs */

/* Who can end the program early; zeroed: nobody. */
struct work_stop {
    int wake_fd; /* readable when asked() may return something else; used only with asked() */
    enum work_cause (*asked)(struct work *work, void *arg); /* WORK_ENDED: go on */
    void *arg;
};

/* What a stream of the program is connected to. */
enum work_via {
    WORK_NULL, /* /dev/null */
    WORK_FD,   /* `fd`, as it is */
    WORK_TAIL, /* outputs: the file of `tail`, followed while the program appends to it */
    WORK_PIPE, /* a pipe: work_write(), take() */
};

struct work_input {
    enum work_via via; /* not WORK_TAIL */
    int fd;
};

/* Receives a piece of the output. */
typedef void work_take_fn(struct work *work, const char *data, size_t len, void *arg);

struct work_output {
    enum work_via via;
    int fd;
    struct tail *tail;  /* opened by the caller, who also frees it; work_run() closes its
                         * write_fd */
    work_take_fn *take; /* of a tail or pipe. NULL: nobody reads it */
    int64_t keep_bytes; /* of a tail that nobody reads: only its last bytes stay on the disk */
    int64_t max_bytes;  /* WORK_LIMIT when it prints more; 0: no limit. Checked after each read,
                         * else once a second: for a file set plan.file_mb_max as well */
};

/* Zeroed: none. */
struct work_limits {
    int64_t until_ms;      /* mono: WORK_TIMEOUT at this time, unless it has answered */
    int64_t first_ms;      /* WORK_SILENT this long after its launch, unless it has begun */
    int64_t idle_ms;       /* WORK_IDLE this long after it last printed, unless it has answered */
    int64_t grace_ms;      /* WORK_GRACE this long after it has answered (0: at once) */
    int64_t backlog_bytes; /* WORK_FLOOD when tails have more unread bytes than this */
};

struct work_order {
    struct launcher *launcher;
    const struct plan *plan;
    /* When both are set and the plan has no mounts, the program runs as a user of its own out of
     * `users`. While it runs, that user owns what the plan's user owns in the directory `given`. */
    struct users *users;
    const char *given;
    uid_t as; /* not 0: the user that the caller has taken for it, instead of one out of `users` */
    struct egress_gate *gate; /* serves the jail's network when the plan has JAIL_NET_GATE */
    struct work_input in;
    struct work_output out, errors;
    struct work_limits limits;
    struct work_stop stop;
    bool at_once; /* end it by KILL, without TERM and grace */
    /* Called on every round, after the present output was passed on. Returns the ms after which it
     * must be called again, or -1. NULL: not called. */
    int64_t (*look)(struct work *work, void *arg);
    void *arg; /* argument of take() and look() */
};

struct work_result {
    enum work_cause cause; /* WORK_ENDED: it ended by itself */
    int status;            /* wait() status of the program; -1: unknown, init was killed or lost */
    bool answered;         /* work_answered() was called before the program was told to end */
    bool lost;             /* init did not answer to the end; its processes may still run */
    bool dropped;          /* it printed more than was passed on */
    int64_t peak_kib;      /* of memory */
    int leftover;          /* processes that outlived the program and were ended */
};

/* Runs a program to its end. Returns 0 with the result once its tree has ended or was given up; -1
 * with *err when it could not be launched (the result is unchanged then). */
int work_run(const struct work_order *order, struct work_result *ret_result, struct err *err);

/* The exit code that a shell would report: 128 and the signal for a program that was killed. */
int work_exit_code(int status);

/* --- for the callbacks --------------------------------------------------------------------- */

/* The program has shown that it works: WORK_SILENT is off. */
void work_began(struct work *work);
/* The program has given its result: from now on only the grace time counts. */
void work_answered(struct work *work);
/* Tells the program to end; the first cause counts. WORK_ABORT kills at once. */
void work_end(struct work *work, enum work_cause cause);
bool work_is_ending(const struct work *work);
/* Writes to its standard input (WORK_PIPE) without waiting. Returns how many bytes were taken, or
 * -1 with errno. The caller must repeat for data larger than a pipe's buffer. */
ssize_t work_write(struct work *work, const char *data, size_t len);
/* The pid of its init, as this process sees it. */
pid_t work_pid(const struct work *work);

/* --- helpers for orders -------------------------------------------------------------------- */

/* Makes a file in memory, without a name, that holds `data`: for a standard input that leaves no
 * trace. Returns a descriptor that the caller closes, or -1. */
int work_memory_file(const char *name, const void *data, size_t len, struct err *err);

#endif
