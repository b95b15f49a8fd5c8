/*
 * The steps that build a jail, shared by the files of this room. Private to shared/jail.
 *
 * Threads: none; a jail is built by a process with one thread, between clone() and exec().
 */
#ifndef JAIL_PRIVATE_H
#define JAIL_PRIVATE_H

#include "jail/jail.h"

#include <stddef.h>
#include <sys/types.h>

/* --- the plan as data ---------------------------------------------------------------------- */

#define GROUP_DIRS 3

enum step_kind {
    STEP_DIR,    /* to */
    STEP_LINK,   /* from is the link's text */
    STEP_FILE,   /* from is the content */
    STEP_TMPFS,  /* from are the options */
    STEP_BIND,   /* from outside, to inside, with what is mounted below */
    STEP_DEVICE, /* the same of one device node */
    STEP_PROC,
    STEP_PTS,
};

struct step {
    enum step_kind kind;
    char *from;
    char *to; /* inside, without the leading '/' */
    bool read_only;
    bool optional; /* skipped where `from` is missing */
    bool common;   /* the same in many jails: see template.c */
};

/* Control groups of one tree. */
struct group {
    char *dirs[GROUP_DIRS]; /* one on v2; memory, pids, cpu on v1 */
    int join[GROUP_DIRS];   /* where who is to be in them writes */
    int memory_events, pids_events, kill;
    int dir_count;
};

/* Disk usage when it was last measured. */
struct disk {
    int fds[8]; /* the counted directories */
    int count;
    int64_t used_bytes, free_bytes; /* when they were last summed up */
    int64_t limit_bytes;            /* above that of the policy while there was more at the start */
    int64_t until_ms;               /* mono: the sum is good until then */
    bool known;
};

struct jail {
    enum jail_tier tier;
    enum jail_net net;
    enum jail_filter filter;
    struct jail_host host;
    bool namespaces;  /* pid and mount */
    bool user_first;  /* clone into a user namespace */
    bool maps_itself; /* the child writes its id maps */
    bool becomes;     /* jail_shut() changes the user */
    uid_t uid;
    gid_t gid;
    struct jail_policy policy; /* a copy */
    struct step *steps;
    size_t step_count, step_room;
    int handshake[2]; /* the child waits until the parent has written the maps */
    struct group group;
    struct disk disk;
    int gate[JAIL_GATE_SOCKETS]; /* in the child, once built */
    int template_ns;             /* borrowed: a namespace with the common steps; -1: none */
};

/* Fills err with errno and the step; -1. */
int jail_fail(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- the parts ----------------------------------------------------------------------------- */

/* root.c: assembles the new root and makes it the root. */
int root_build(const struct jail *jail, struct err *err);
/* root.c: makes the host's root read-only except for the binds, and covers what must be private. */
int root_cover(const struct jail *jail, struct err *err);
/* Makes a file system that is mounted nowhere. Returns its descriptor. */
int mount_detached(const char *type);
/* root.c. Makes a template's root in a new mount namespace. */
int root_make_template(const struct jail *jail, struct err *err);
/* root.c. Enters a copy of the template, and adds the jail's own mounts. */
int root_join(const struct jail *jail, struct err *err);
/* root.c. True for a bind that becomes a link. */
bool root_makes_link(const struct step *step);

/* template.c. Sets jail->template_ns when there is a template for this plan. */
void template_prepare(struct jail *jail);
/* In the child: closes the inherited templates, except the one that this jail needs (NULL: all). */
void template_forget(const struct jail *jail);

/* net.c: the gate of JAIL_NET_GATE and JAIL_NET_PROXY, in a fresh network namespace. */
int jail_net_build(struct jail *jail, struct err *err);

/* filter.c: denies system calls from now on. */
int filter_prepare(const struct jail *jail, struct err *err); /* compiles it, once per process */
int filter_apply(const struct jail *jail, struct err *err);

/* landlock.c */
int landlock_abi(void);
int landlock_apply(const struct jail *jail, struct err *err);

/* group.c */
void group_init(struct group *group);
void group_release(struct group *group);
void group_free(struct group *group);
void groups_probe(struct jail_host *host);
int group_open(struct jail *jail, const char *name, struct err *err);
int group_join(const struct jail *jail, struct err *err);
int group_limit_memory(const struct group *group, int memory_mb);
unsigned group_look(const struct group *group);
bool group_kill(const struct group *group);
void group_remove(struct group *group);

/* look.c: counts where there are no control groups. */
int counted_open(struct jail *jail, struct err *err);

/* What programs need to run, where the host has it; both end with NULL. */
extern const char *const system_paths[];
extern const char *const system_devices[];

#endif
