/*
 * Runs, children, zygotes and sessions, shared by the files of this room. Private to runner/python.
 *
 * Threads: any, with python's lock held.
 * Ownership: struct python owns everything here; pointers that a function returns are borrowed.
 */
#ifndef PYTHON_CORE_H
#define PYTHON_CORE_H

#include "base/lock.h"
#include "base/thread.h"
#include "runner/python/python.h"
#include "runner/python/python_wire.h"

#include <stdatomic.h>

#define KIDS_MAX 512
#define CALLERS_MAX 64
#define STANDBY_MIN 2 /* made at once */
#define STANDBY_MAX 8 /* of one level; the others are made while nobody asks for anything */
#define QUIET_MS 15   /* nobody does: no run has begun or ended for so long */
#define LATELY_MS 60000
#define START_FAILURES_MAX 3
#define LOSSES_MAX (2 * STANDBY_MAX) /* of one run: every child on standby may have been killed */
#define HOLD_MS 5000                 /* after too many failures nothing is started for this long */
#define IDLE_MS 900000               /* a zygote that was unused for this long is ended */
#define LOAD_MS 120000 /* a zygote that takes longer to import its libraries is given up */
#define END_MS                                                                               \
    10000                 /* a killed child must be gone after this time, else its zygote is \
                           * ended */
#define INTERRUPT_MS 2000 /* between an interrupt and a kill */
#define STOP_MS 100       /* between SIGTERM and a kill, when the time is up */
#define YOUNG_US 5000
#define TICK_MS 50 /* longest delay of a timer */

struct python;
struct kid;

/* The source of an event. */
enum source_kind { SOURCE_WAKE, SOURCE_ZYGOTE, SOURCE_CONTROL, SOURCE_OUT, SOURCE_ERR };
struct source {
    enum source_kind kind;
    void *owner; /* struct zygote or struct kid */
};

struct run {
    struct python *python; /* borrowed */
    uint64_t ticket;
    struct python_request request;
    char *caller;
    struct session *session; /* NULL: a run of its own */
    struct kid *kid;         /* while it runs */
    enum python_level level;
    int64_t started_us, deadline_ms,
        kill_ms; /* kill_ms: when an interrupted run is killed; 0: it was not interrupted */
    bool begun;  /* the child has reported that the code is about to run */
    bool fresh;  /* the child had run nothing before */
    bool timed_out, cancelled;
    int losses;                 /* children that it has lost */
    bool told_end, told_memory; /* reported by the child: frame E */
    int told_status;
    size_t frame_bytes;
    struct python_outcome outcome;
    python_done_fn *done;
    void *arg;
    struct run *next;
};

enum kid_state {
    KID_STARTING, /* asked for */
    KID_STANDBY,
    KID_LIMITING, /* it has a run, and its memory is being limited */
    KID_RUNNING,
    KID_IDLE,   /* a session's, between runs */
    KID_ENDING, /* killed */
};

/* A child process, as the daemon sees it. */
struct kid {
    struct python *python; /* borrowed */
    uint32_t id;
    enum python_level level;
    enum kid_state state;
    int control, out, err;
    struct source sources[3];
    struct run *run;         /* borrowed: in python->running */
    struct session *session; /* borrowed */
    struct buf in;           /* frames that have arrived */
    struct buf request;      /* bytes that are still to be sent */
    struct buf words;        /* printed before it had a run: says why it failed */
    int64_t end_by_ms;       /* of KID_ENDING */
    int64_t base_kib;        /* resident before it had a run: memory of the zygote */
    struct kid *next;
};

enum zygote_state { ZYGOTE_OFF, ZYGOTE_LOADING, ZYGOTE_READY };
struct zygote {
    struct python *python; /* borrowed */
    enum python_level level;
    enum zygote_state state;
    int control;
    struct source source;
    int64_t load_by_ms, used_ms;
    int64_t ran_ms; /* when a child of it was last given a run; 0: never */
    char missing[200];
};

struct session {
    struct python_session shown;
    char *caller;
    struct kid *kid;    /* NULL: fresh */
    struct run *run;    /* NULL: idle */
    int64_t expires_ms; /* mono */
    bool ending;        /* freed once its run has ended */
    struct session *next;
};

/* One caller's waiting runs, and how many of its runs have slots. */
struct caller {
    char *name;
    struct run *first, **last;
    int running;
};

struct python {
    struct python_config config;
    char *program;
    char why[160]; /* why it is not available; "" when it is */
    struct lock lock;
    struct thread thread;
    bool stopping;
    int epoll, event;
    struct source wake;
    struct zygote zygotes[LEVEL_COUNT];
    struct child *root; /* the tree of all zygotes */
    bool wants_root;    /* start it, without the lock */
    int64_t busy_ms;    /* when a run has last begun or ended */
    int failures;       /* starts that failed in a row */
    int64_t hold_until_ms;
    struct err last_failure;
    struct kid *kids;
    int kid_count;
    uint32_t last_id;
    uint64_t last_ticket;
    struct caller callers[CALLERS_MAX];
    int turn; /* index of the caller to serve first */
    struct run *running;
    int running_count, queued_count;
    struct run *finished; /* runs whose done() must be called without the lock */
    struct session *sessions;
    int session_count;
    struct { /* for /metrics */
        _Atomic int64_t ended[PYTHON_STATUS_COUNT];
        _Atomic int64_t cancelled, again, trees;
        struct histogram took, waited;
    } numbers;
};

/* engine.c */
void python_wake(struct python *python);
int python_watch(struct python *python, int fd, struct source *source, unsigned events);

/* zygotes.c */
void zygotes_init(struct python *python);
/* Requests this level: it will be started. */
void zygote_want(struct python *python, enum python_level level);
/* Starts the process tree; call without the lock. */
void zygotes_start(struct python *python);
void zygote_event(struct zygote *zygote);
int zygote_send(struct zygote *zygote, const struct zygote_wire *wire, const int *fds, int count,
                struct err *err);
/* Ends the whole tree; running code is run again, or fails. */
void zygotes_end(struct python *python, const char *why);
void zygotes_tick(struct python *python, int64_t now_ms);
/* Counts a failed start; after too many in a row waiting runs fail, too. */
void zygotes_failed(struct python *python, const struct err *err);

/* kids.c */
/* Calls kids_fill() for every level, except while a young run may end sooner than a fork. */
void kids_refill(struct python *python);
/* Has as many children on standby as this level needs at least. */
void kids_fill(struct python *python, enum python_level level);
/* Whether some level that was used lately is to have more of them, once it is quiet. */
bool kids_lack(const struct python *python);
/* Starts one of those when it is quiet. */
void kids_stock(struct python *python, int64_t now_ms);
struct kid *kid_standby(struct python *python, enum python_level level);
struct kid *kid_find(struct python *python, uint32_t id);
/* Gives a run to a child on standby, or to its session's child. */
void kid_begin(struct kid *kid, struct run *run);
void kid_send_request(struct kid *kid);
void kid_event(struct kid *kid, enum source_kind kind, unsigned events);
/* Reads the output that is there. */
void kid_drain(struct kid *kid);
void kid_kill(struct kid *kid);
void kid_interrupt(struct kid *kid);
/* As kid_kill(), after a moment in which the child can print its rest. */
void kid_stop(struct kid *kid);
void kid_ended(struct kid *kid, const struct zygote_wire *wire);
void kid_free(struct kid *kid);
void kids_tick(struct python *python, int64_t now_ms);
int kids_count(const struct python *python, enum python_level level, enum kid_state state);

/* runs.c */
enum python_level python_run_level(const char *code);
void runs_dispatch(struct python *python);
/* Ends a run whose outcome is complete, good or bad. */
void python_run_finish(struct run *run);
void python_run_fail(struct run *run, const struct err *err);
/* Handles a run whose child was lost without the run's fault. */
void python_run_lost(struct run *run);
void runs_tick(struct python *python, int64_t now_ms);
void runs_fail_all(struct python *python, const struct err *err, bool running_too);
void python_run_free(struct run *run);
void python_run_print_request(const struct run *run, const struct config *config, struct buf *out);

/* frames.c: handles one frame of a child. */
void python_run_take_frame(struct run *run, char letter, const char *body, size_t len);
/* Fills in the outcome from the end of the child. */
void python_run_conclude(struct run *run, int wait_status, unsigned exceeded, int64_t peak_kib);
void python_outcome_done(struct python_outcome *outcome);

/* sessions.c */
struct session *python_session_find(struct python *python, const char *caller, const char *id);
void python_session_unlink(struct python *python, struct session *session);
void python_sessions_tick(struct python *python, int64_t now_ms);
void python_sessions_free(struct python *python);
/* Call when the session's child is gone. */
void python_session_lost(struct session *session);
void python_session_ran(struct session *session);

#endif
