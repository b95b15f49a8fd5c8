/*
 * The plan of a child process: program, arguments, environment, directory, user, jail. A plan is
 * plain data that the daemon sends to the launcher (plan_save, plan_load).
 *
 * Threads: no shared state. Ownership: the plan owns its strings and lists; plan_new() and
 * plan_load() return plans that the caller frees by plan_free().
 */
#ifndef PROC_PLAN_H
#define PROC_PLAN_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"
#include "jail/jail.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PLAN_BYTES_MAX (2u << 20)

/* argv[0] that means this program itself, wherever its file is and whoever runs it. */
#define PLAN_SELF "/proc/self/exe"

struct plan {
    struct strlist argv; /* argv[0] is the program's path */
    struct strlist env;
    char *cwd;             /* as the program sees it */
    char *below;           /* directory below cwd to start in, never outside of it; NULL: cwd */
    struct strlist mounts; /* three each: kind of file system, place, options, with paths outside.
                            * Only the tree sees them; the host needs JAIL_HAS_NAMESPACES */
    uid_t uid;             /* the user to become when the launcher can */
    gid_t gid;
    int kill_grace_ms;       /* between TERM and KILL when the tree is ended */
    int resumed;             /* 1: the program itself goes on at once when anybody has stopped it */
    struct jail_policy jail; /* its walls and limits; zero is none */
};

/* Every field, in the order in which it is sent: lists, texts (NULL is sent as ""), numbers with
 * the largest. */
#define PLAN_FIELDS(LIST, TEXT, NUMBER)     \
    LIST(argv)                              \
    LIST(env)                               \
    LIST(mounts)                            \
    TEXT(cwd)                               \
    TEXT(below)                             \
    NUMBER(uid, UINT32_MAX)                 \
    NUMBER(gid, UINT32_MAX)                 \
    NUMBER(kill_grace_ms, INT32_MAX)        \
    NUMBER(resumed, 1)                      \
    LIST(jail.binds)                        \
    LIST(jail.hidden)                       \
    LIST(jail.counted)                      \
    TEXT(jail.hostname)                     \
    NUMBER(jail.tier, JAIL_FULL)            \
    NUMBER(jail.net, JAIL_NET_PROXY)        \
    NUMBER(jail.filter, JAIL_FILTER_PYTHON) \
    NUMBER(jail.no_proc, 1)                 \
    NUMBER(jail.tmp_mb, INT32_MAX)          \
    NUMBER(jail.memory_mb, INT32_MAX)       \
    NUMBER(jail.pids_max, INT32_MAX)        \
    NUMBER(jail.cpu_percent, INT32_MAX)     \
    NUMBER(jail.disk_mb, INT32_MAX)         \
    NUMBER(jail.disk_more_mb, INT32_MAX)    \
    NUMBER(jail.file_mb, INT32_MAX)         \
    NUMBER(jail.files_max, INT32_MAX)

struct plan *plan_new(void);
void plan_free(struct plan *plan);
DEFINE_AUTO(plan, struct plan *, plan_free)

/* Writes and reads the format. plan_load() refuses incomplete and malformed data with ERR_INVALID
 * and the field's name. */
int plan_save(const struct plan *plan, struct buf *out, struct err *err);
struct plan *plan_load(const char *data, size_t len, struct err *err);

#endif
