#include "runner/python/inside/walls.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/path.h"
#include "base/strlist.h"
#include "jail/jail.h"
#include "runner/python/inside/children.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 64
#define SCRATCH_MB 64
#define FILES_MAX 256

struct walls {
    struct jail *jail;
    char *scratch; /* NULL: the jail's own /tmp */
};

static struct jail_host host;
static struct jail_policy policy;
static uid_t inside_uid;
static gid_t inside_gid;

static int find_tier(const char *name, struct err *err)
{
    policy.tier = host.tier;
    if (strcmp(name, "auto") == 0)
        return 0;
    for (int tier = JAIL_NONE; tier <= JAIL_FULL; tier++)
        if (strcmp(name, jail_tier_name((enum jail_tier)tier)) == 0) {
            policy.tier = tier;
            return 0;
        }
    return err_set(err, ERR_INVALID, "there is no tier '%s'", name);
}

/* Leaves the network. Children cannot open a socket anyway; where it is possible all of them share
 * one empty network namespace, because making one for each is the most expensive part of a jail. */
static void leave_network(void)
{
    policy.net = JAIL_NET_HOST;
    if (policy.tier != JAIL_FULL || unshare(CLONE_NEWNET) == 0)
        return;
    if (host.has[JAIL_HAS_NET])
        policy.net = JAIL_NET_OWN;
}

int walls_prepare(const char *tier, uid_t uid, gid_t gid, struct err *err)
{
    jail_probe(&host);
    inside_uid = uid;
    inside_gid = gid;
    if (find_tier(tier, err))
        return -1;
    leave_network();
    policy.filter = JAIL_FILTER_PYTHON;
    policy.no_proc = policy.tier == JAIL_FULL;
    policy.bare = 1;
    policy.tmp_mb = SCRATCH_MB;
    policy.file_mb = SCRATCH_MB;
    policy.pids_max = THREADS_MAX;
    policy.files_max = FILES_MAX;
    return 0;
}

/* Makes a directory below the zygote's own, for children that see the host's paths. */
static int make_scratch(struct walls *walls, const char *name, struct err *err)
{
    const char *base = getenv("MPLCONFIGDIR");
    strlist_done(&policy.binds);
    policy.binds = (struct strlist){0};
    walls->scratch = base ? path_join(base, name) : NULL;
    if (!walls->scratch || path_make_dirs(walls->scratch, 0700, err) ||
        (geteuid() == 0 && path_own(walls->scratch, inside_uid, inside_gid, err)))
        return walls->scratch ? -1 : err_sys(err, "scratch directory");
    strlist_add(&policy.binds, "rw");
    strlist_add(&policy.binds, walls->scratch);
    return strlist_add(&policy.binds, walls->scratch) ? err_sys(err, "scratch directory") : 0;
}

const char *walls_scratch(const struct walls *walls)
{
    return walls->scratch ? walls->scratch : "/tmp";
}

struct walls *walls_open(const char *name, int memory_mb, struct err *err)
{
    struct walls *walls = calloc(1, sizeof(*walls));
    if (!walls) {
        err_sys(err, "walls");
        return NULL;
    }
    policy.memory_mb = memory_mb;
    if (policy.tier == JAIL_FULL || make_scratch(walls, name, err) == 0)
        walls->jail = jail_new(&policy, &host, inside_uid, inside_gid, err);
    if (!walls->jail || jail_open(walls->jail, name, err)) {
        walls_free(walls);
        return NULL;
    }
    return walls;
}

void walls_free(struct walls *walls)
{
    struct err ignored;
    if (!walls)
        return;
    if (walls->jail)
        jail_close(walls->jail);
    jail_free(walls->jail);
    if (walls->scratch)
        path_remove_tree(walls->scratch, &ignored);
    free(walls->scratch);
    free(walls);
}

pid_t walls_clone(struct walls *walls)
{
    return (pid_t)clone_process(jail_clone_flags(walls->jail));
}

int walls_parent(struct walls *walls, pid_t pid, struct err *err)
{
    return jail_parent(walls->jail, pid, err);
}

int walls_enter(struct walls *walls, struct err *err)
{
    return jail_build(walls->jail, NULL, err) || jail_shut(walls->jail, err) ? -1 : 0;
}

int walls_limit(struct walls *walls, int memory_mb, struct err *err)
{
    REQUIRE(memory_mb > 0);
    return jail_limit_memory(walls->jail, memory_mb, err);
}

unsigned walls_look(struct walls *walls)
{
    return jail_look(walls->jail, 0, NULL);
}

bool walls_count_memory(void)
{
    return host.has[JAIL_HAS_MEMORY];
}
