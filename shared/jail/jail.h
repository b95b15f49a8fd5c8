/*
 * The kernel's walls around a program: who it is, what it sees, and how much it may use.
 *
 * Theory of operation.
 *
 *     policy ──jail_new()──▶ plan                       pure: what shall be, as a list of steps
 *       jail_open(plan)                                 makes the control groups
 *       clone(jail_clone_flags(plan))
 *         ├─ parent: jail_parent(plan, pid)             writes the id maps where the child can't
 *         └─ child:  jail_build(plan)                   ids, mounts, the new root
 *                    jail_shut(plan)                    limits, user, capabilities, system calls
 *                    exec, or code that is not trusted
 *       jail_look(plan)                                 which limits were met
 *       jail_close(plan)                                removes the control groups
 *
 * jail_build() and jail_shut() may run in one process (the program is pid 1 itself) or in two (an
 * init builds, its child shuts): a control group holds whoever called jail_shut() and what descends
 * from it, so an init stays outside of it and can count. Nobody but the process that called
 * jail_shut() is confined.
 *
 * Tiers, strongest first; a plan has exactly the tier that its policy names, or jail_new() refuses.
 *   full        namespaces (user, mount, pid, ipc, uts, cgroup, and net when asked for), a root of
 *               its own, system-call filter, no capabilities, limits
 *   restricted  Landlock, system-call filter, no capabilities, limits; the host's own paths
 *   none        no walls
 * In every tier the process tree is held together by a pid namespace where the host has them.
 *
 * There are two ways to the namespaces. A launcher that has CAP_SYS_ADMIN builds them as root and
 * enters a user namespace last (jail_shut), so what is inside owns none of them. Others clone into
 * a user namespace first; then jail_parent() writes the maps when the launcher is root, else the
 * child does.
 *
 * Threads: one at a time; the calling process has no other threads when it clones.
 * Ownership: the caller of jail_new() frees the plan by jail_free().
 */
#ifndef JAIL_JAIL_H
#define JAIL_JAIL_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum jail_tier { JAIL_NONE, JAIL_RESTRICTED, JAIL_FULL };
/* "none", "restricted" or "full". */
const char *jail_tier_name(enum jail_tier tier);

/* The network. */
enum jail_net {
    JAIL_NET_HOST, /* that of the launcher */
    JAIL_NET_OWN,  /* a namespace with nothing but its own loopback; tier full only */
    /* The same, and every TCP connection except to its own loopback, and every query to a name
     * server, arrives at sockets that the jail hands out (jail_gate). There is no other way out of
     * the namespace. IPv4 only. */
    JAIL_NET_GATE,
    /* The same where the kernel cannot redirect (no nf_tables): only what programs send to the
     * sockets themselves arrives there, the TCP one being a proxy at JAIL_PROXY_PORT of every
     * address of the jail. Everything else is unreachable at once. */
    JAIL_NET_PROXY,
};

/* The gate's sockets, both on port 53 of the jail's loopback (but see JAIL_NET_PROXY). A
 * connection's SO_ORIGINAL_DST says where it wanted to go. */
enum jail_gate_socket { JAIL_GATE_TCP, JAIL_GATE_NAMES, JAIL_GATE_SOCKETS };
/* The name server that a jail with a gate uses. */
#define JAIL_GATE_SERVER "192.0.2.1"

/* Of JAIL_NET_PROXY: the port, which no program in the jail may bind, and addresses that the jail
 * has beside its loopback. */
#define JAIL_PROXY_PORT 880
#define JAIL_PROXY_ADDRESSES     \
    {                            \
        "192.0.2.1", "192.0.2.3" \
    }

/* Which system calls are denied: see filter.c. */
enum jail_filter { JAIL_FILTER_TASK, JAIL_FILTER_PYTHON };

/* --- the policy ---------------------------------------------------------------------------- */

/* What a program may see and use. All zero is tier none without any limit. */
struct jail_policy {
    int tier;   /* enum jail_tier */
    int net;    /* enum jail_net */
    int filter; /* enum jail_filter */
    /* Three each: mode, path outside, path inside. Mode is "ro" or "rw", with '?' after it when a
     * missing path is to be skipped; "ln" makes the path inside a link to the path outside, unless
     * something is there. In tier restricted nothing moves: both paths are the same.
     * The system (/usr, what of /etc programs need, /dev, /proc) is always there. */
    struct strlist binds;
    /* Paths outside that must not show through a read-only part of the system (tier full). */
    struct strlist hidden;
    /* Directories outside whose disk usage counts, summed, towards disk_mb. */
    struct strlist counted;
    char *hostname;  /* NULL: "jail" */
    int no_proc;     /* no /proc (tier full) */
    int bare;        /* of the system only what a program that starts no others needs (tier full) */
    int tmp_mb;      /* size of the private /tmp and /dev/shm; 0: 64 */
    int memory_mb;   /* of the tree; 0: no limit, as below */
    int pids_max;    /* processes and threads of the tree */
    int cpu_percent; /* 100 is one core */
    int disk_mb;     /* of the counted directories */
    /* What a tree may add to counted directories that hold more than disk_mb when it begins: so
     * that somebody can be let in to make room. 0: nobody can. */
    int disk_more_mb;
    int file_mb;   /* of one file */
    int files_max; /* open files of a process; 0: 4096 */
};
void jail_policy_done(struct jail_policy *policy);

/* --- the host ------------------------------------------------------------------------------ */

enum jail_groups { JAIL_GROUPS_NONE, JAIL_GROUPS_V1, JAIL_GROUPS_V2 };
const char *jail_groups_name(enum jail_groups groups);

/* What the walls need from the host, and what may therefore be missing. */
#define JAIL_FEATURES(X)                                                    \
    X(JAIL_HAS_NAMESPACES, "namespaces") /* pid and mount: trees, mounts */ \
    X(JAIL_HAS_ROOT, "root")             /* mount, pivot_root, /proc */     \
    X(JAIL_HAS_NET, "net")               /* a network namespace */          \
    X(JAIL_HAS_GATE, "gate")             /* nf_tables in it */              \
    X(JAIL_HAS_PROXY, "proxy")           /* addresses and ports in it */    \
    X(JAIL_HAS_USER, "user")             /* another user than ours */       \
    X(JAIL_HAS_FILTER, "seccomp")                                           \
    X(JAIL_HAS_LANDLOCK, "landlock")                                        \
    X(JAIL_HAS_MEMORY, "memory") /* control groups: memory, pids, cpu */    \
    X(JAIL_HAS_PIDS, "pids")                                                \
    X(JAIL_HAS_CPU, "cpu")

enum jail_feature {
#define JAIL_ENUM(name, word) name,
    JAIL_FEATURES(JAIL_ENUM)
#undef JAIL_ENUM
        JAIL_FEATURE_COUNT
};
const char *jail_feature_name(enum jail_feature feature);

/* Plain data, filled by jail_probe() and copied as it is. */
struct jail_host {
    int tier;  /* the strongest that works here */
    bool root; /* namespaces are made as root, without a user namespace first */
    uid_t uid; /* the launcher's own */
    gid_t gid;
    int groups;   /* enum jail_groups */
    bool no_view; /* tier restricted can't make the host's root read-only */
    int landlock; /* ABI, 0: none */
    bool has[JAIL_FEATURE_COUNT];
    char why[JAIL_FEATURE_COUNT][96]; /* why a feature is missing; empty where it is there */
    char why_tier[160];               /* why the tier is not full; empty when it is */
};

/* Finds out by trying: starts a program in each tier. The process must have no threads, and may be
 * moved into a control group of its own. */
void jail_probe(struct jail_host *ret_host);

/* --- the plan ------------------------------------------------------------------------------ */

struct jail;

/* Makes the plan and touches nothing else. ERR_INVALID for a policy that is contradictory, with the
 * field's name; ERR_BUSY when the host cannot give the tier or the network. The user is ignored
 * when the launcher cannot become another user. `policy` and `host` are copied. The caller frees
 * the plan by jail_free(). */
struct jail *jail_new(const struct jail_policy *policy, const struct jail_host *host, uid_t uid,
                      gid_t gid, struct err *err);
void jail_free(struct jail *jail);
DEFINE_AUTO(jail, struct jail *, jail_free)

/* Appends one line per step, for tests and for people. */
void jail_print(const struct jail *jail, struct buf *out);

/* For clone(), without a signal; after jail_open(). */
unsigned long jail_clone_flags(const struct jail *jail);

/* True when the tree is in a pid namespace: it dies with its first process. */
bool jail_holds_tree(const struct jail *jail);

/* Call before clone(). Makes the control groups; `name` is unique among the running jails. Opens
 * descriptors, all close-on-exec and not below 64, which the child inherits by clone(). */
int jail_open(struct jail *jail, const char *name, struct err *err);

/* Groups are named after the process that makes them, so that others recognize those of dead ones.
 * A process in a pid namespace of its own passes here its number outside, or that of a process that
 * outlives it. */
void jail_name_after(pid_t pid);

/* Call in the parent, right after clone(). When it fails, kill the child. */
int jail_parent(struct jail *jail, pid_t pid, struct err *err);

/* Call in the child, first. Errors of this one and of jail_shut(): err->sys is errno, err->msg the
 * step. `mounts` (or NULL) are visible to the tree only, three strings each: kind of file system,
 * place, options, with paths outside; they are made before the binds, which can show them
 * inside. */
int jail_build(struct jail *jail, const struct strlist *mounts, struct err *err);

/* Call in the child after jail_build(). Returns the JAIL_GATE_SOCKETS listening sockets of
 * JAIL_NET_GATE or JAIL_NET_PROXY, or NULL without a gate. The caller passes them to the process
 * that serves them and closes them here. */
const int *jail_gate(const struct jail *jail);

/* Call in the process that is to be confined, last before exec. Leaves signals and descriptors
 * unchanged. */
int jail_shut(struct jail *jail, struct err *err);

/* --- limits -------------------------------------------------------------------------------- */

/* Limits that were met. */
enum jail_exceeded { JAIL_MEMORY = 1, JAIL_PIDS = 2, JAIL_DISK = 4 };

/* When a look is ended early: as soon as `fd` is readable or closed by its peer (-1: never), or at
 * `until_ms` (clock_mono_ms(); INT64_MAX: never). */
struct jail_stop {
    int fd;
    int64_t until_ms;
};

/* The limits that have been met so far, as bits. `root` is the pid whose descendants are the tree:
 * without control groups their memory is summed up. Call in the process that called jail_open(), or
 * in a clone of it. A look takes as long as the tree makes it; one that `stop` ended (NULL: none
 * is) tells what it has found and begins anew the next time. */
unsigned jail_look(struct jail *jail, pid_t root, const struct jail_stop *stop);

/* How often jail_look() should be called while the tree runs; -1: never needed. */
int jail_look_every_ms(const struct jail *jail);

/* Changes the memory limit of a tree that has one, also while it runs. */
int jail_limit_memory(struct jail *jail, int memory_mb, struct err *err);

/* Kills everything in the control group (the caller is not in it). False when there is no group
 * that can do so. */
bool jail_kill(struct jail *jail);

/* Call in the parent after clone(). Closes its copies of the descriptors; keeps the groups. */
void jail_release(struct jail *jail);

/* Call when nothing runs in the jail any more. Removes the control groups. */
void jail_close(struct jail *jail);

/* Removes control groups of launchers that have ended. */
void jail_sweep(void);

/* From now on no socket of that user's, in the network that we are in, reaches TCP at a link-local
 * address (169.254.0.0/16: the metadata server of a cloud), but for names. The user's programs in
 * user namespaces count. Takes CAP_NET_ADMIN and nf_tables; lasts as long as the network. */
int jail_fence(uid_t uid, struct err *err);

#endif
