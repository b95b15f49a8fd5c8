/*
 * Untrusted Python, answered in milliseconds.
 *
 * Theory of operation. Zygotes (wire.h) hold warm libraries; each has a few children on standby,
 * cloned and jailed before anybody asks. A run takes one: the code goes to the child, its output
 * comes back by pipes, and its zygote says how it ended. What the child says itself is only
 * believed where nobody but its own caller could be misled.
 *
 *     python_run() ─▶ queue of its caller ─▶ slot ─▶ child on standby ─▶ ended ─▶ done()
 *
 * Slots are shared fairly: callers take turns, and one who has nothing running gets a slot of its
 * own even when others hold all of them. Nothing is started before the first run; zygotes that
 * nobody has used for a while are ended.
 *
 * A run leaves no row in the database. It is lost with the daemon; as its jail is its whole world,
 * a run whose zygote was killed is simply run again, once.
 *
 * Threads: every function from any. One thread of its own owns the descriptors' events; done() is
 * called on it, or on the thread of python_stop(), without a lock held.
 * Ownership: the caller of python_new() frees it by python_free(); python_run() takes over the
 * members of a request.
 */
#ifndef PYTHON_PYTHON_H
#define PYTHON_PYTHON_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "base/metric.h"
#include "base/strlist.h"
#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PYTHON_CODE_MAX 1000000      /* characters */
#define PYTHON_OUTPUT_MAX (1u << 20) /* bytes of stdout, and of stderr */
#define PYTHON_TIMEOUT_MAX 300
#define PYTHON_MEMORY_MIN 64
#define PYTHON_MEMORY_MAX 2048
#define PYTHON_TIMEOUT 30
#define PYTHON_MEMORY 512
#define PYTHON_QUEUE_MAX 1000
#define PYTHON_SESSIONS_MAX 50

struct python;

struct python_config {
    struct config_in_force *config; /* borrowed, as the next two */
    struct launcher *launcher;
    const char *state_dir;
    const char *program; /* path of claude-python; NULL: next to this program's own file */
    uid_t uid;           /* user that the code runs as when we are root */
    gid_t gid;
};

/* Starts only a thread. The caller frees the result by python_free(). */
struct python *python_new(const struct python_config *config, struct err *err);
/* Ends everything: done() is called for every waiting and running run. */
void python_stop(struct python *python);
/* Stops it as well, and frees it. */
void python_free(struct python *python);

/* --- runs ---------------------------------------------------------------------------------- */

enum python_status {
    PYTHON_SUCCESS,
    PYTHON_ERROR,
    PYTHON_TIMED_OUT,
    PYTHON_MEMORY_EXCEEDED,
    PYTHON_REJECTED,
    PYTHON_FAILED, /* it could not be run, because of `err` */
    PYTHON_STATUS_COUNT
};
const char *python_status_name(enum python_status status);

struct python_request {
    char *code;
    int timeout_s;
    int memory_mb;
    bool auto_print;      /* print the value of a last expression */
    bool result;          /* return its repr */
    bool extras;          /* return figures and files */
    char *input;          /* stdin; NULL: none */
    struct strlist files; /* pairs: name, base64 */
    bool has_files;
};
void python_request_done(struct python_request *request);
DEFINE_AUTO(python_request_fields, struct python_request *, python_request_done)

struct python_outcome {
    enum python_status status;
    struct err err;               /* PYTHON_FAILED */
    struct buf out, errors;       /* its output, up to PYTHON_OUTPUT_MAX each */
    char *result;                 /* or NULL */
    struct strlist images, files; /* triples: name, mime, base64 */
    struct python_refusal {
        char *reason, *message, *excerpt; /* all NULL unless PYTHON_REJECTED */
        int64_t line, column;
    } refusal;
    int64_t took_us;
    int64_t peak_kib; /* -1: unknown */
    int exit_code;    /* as a shell reports it; -1: none */
    bool truncated;   /* something did not fit */
};

/* Called once for each run. The engine owns `outcome`, which is freed after the call. */
typedef void python_done_fn(const struct python_outcome *outcome, void *arg);

/* Queues a run. Takes over the members of `request` (also on failure) and leaves it empty. After a
 * result other than 0, done() is called exactly once, possibly before this returns. `session` is
 * NULL for a run of its own. Returns a ticket for python_cancel(), or 0 with ERR_RATE when too many
 * runs wait, ERR_BUSY when Python cannot run, ERR_NOT_FOUND or ERR_CONFLICT for a session. */
uint64_t python_run(struct python *python, struct python_request *request, const char *caller,
                    const char *session, python_done_fn *done, void *arg, struct err *err);

/* Ends a run for which nobody waits any more. Its done() is called nevertheless. Does nothing for a
 * run that has ended. */
void python_cancel(struct python *python, uint64_t ticket);

/* --- sessions: a namespace that lasts between runs, in a jail of its own ------------------- */

struct python_session {
    char id[ID_SIZE];
    int memory_mb;
    int ttl_s;          /* it ends when it was unused for this long */
    int64_t created_ms; /* real */
    int64_t expires_ms; /* real */
    int64_t runs;
    int64_t restarts; /* how often its namespace was lost or reset */
    bool busy, fresh; /* fresh: its namespace is empty */
};

int python_session_new(struct python *python, const char *caller, int memory_mb, int ttl_s,
                       struct python_session *ret_session, struct err *err);
/* Reads one of this caller's sessions; ERR_NOT_FOUND. */
int python_session_get(struct python *python, const char *caller, const char *id,
                       struct python_session *ret_session, struct err *err);
/* Calls each() for every session of this caller. */
void python_session_each(struct python *python, const char *caller,
                         void (*each)(const struct python_session *session, void *arg), void *arg);
/* Raises KeyboardInterrupt in the session's running code, which is killed when that does not end
 * it. */
int python_session_interrupt(struct python *python, const char *caller, const char *id,
                             struct err *err);
int python_session_restart(struct python *python, const char *caller, const char *id,
                           struct err *err);
int python_session_end(struct python *python, const char *caller, const char *id, struct err *err);

/* --- looking ------------------------------------------------------------------------------- */

/* True when code can run here; else `why` says why not. */
bool python_is_available(const struct python *python, char why[160]);

/* Appends {"available":…,"version":…,"libraries":[…],"limits":{…}}: for GET / and /health.
 * `verbose` adds what is running. */
void python_print(struct python *python, bool verbose, struct buf *out);

/* Adds "max_timeout", "max_memory_mb" and "libraries", as in PyRunner's `GET /`. */
struct json_writer;
void python_print_pyrunner(const struct python *python, struct json_writer *w);

void python_metrics(struct metric_page *page, void *python);

#endif
