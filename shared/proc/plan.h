/*
 * What a child process shall be: program, arguments, environment, place, owner, descriptors.
 * The plan is plain data that crosses from the daemon to the launcher (plan_save, plan_load).
 *
 * Threads: no shared state. Ownership: the plan owns its strings and lists; not the descriptors.
 */
#ifndef PROC_PLAN_H
#define PROC_PLAN_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PLAN_BYTES_MAX (2u << 20)

/* argv[0] for this program itself, wherever it is and whoever is to run it. */
#define PLAN_SELF "/proc/self/exe"

struct plan {
    struct strlist argv; /* argv[0] is the program's path */
    struct strlist env;
    char *cwd;
    char *below;           /* directory below cwd to start in, never outside of it; NULL: cwd */
    struct strlist mounts; /* three each: kind of file system, place, options. Seen by the tree
                              only; needs walls other than PROC_SWEEP */
    uid_t uid;             /* whom to become when the launcher is root */
    gid_t gid;
    int kill_grace_ms; /* between TERM and KILL when the tree is ended */
    int pids_max;      /* RLIMIT_NPROC; 0 leaves it */
    int file_mb_max;   /* RLIMIT_FSIZE; 0 leaves it */
};

struct plan *plan_new(void);
void plan_free(struct plan *plan);
DEFINE_AUTO(plan, struct plan *, plan_free)

int plan_save(const struct plan *plan, struct buf *out, struct err *err);
struct plan *plan_load(const char *data, size_t len, struct err *err);

#endif
