/*
 * Control groups: memory, processes and processor time of a tree.
 *
 * jail_probe() finds a directory in which groups can be made. On v2 its children must have the
 * controllers: our own group, when it was delegated to us and can be emptied, else one of ours at
 * the top. On v1 it is one below our own group for each controller. Groups are named after the
 * launcher that made them ("jail-PID-NAME"), so that a later launcher recognizes those of dead
 * ones.
 */
#include "jail/jail_private.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define FD_LOWEST 64
#define TEXT_MAX 65536
#define PREFIX "jail-"
#define PERIOD_US 100000

/* Where this process makes groups. On v2 only the first is used. */
static char *parents[GROUP_DIRS];
static const char *const controllers[GROUP_DIRS] = {"memory", "pids", "cpu"};
static const enum jail_feature features[GROUP_DIRS] = {JAIL_HAS_MEMORY, JAIL_HAS_PIDS,
                                                       JAIL_HAS_CPU};
static int version;       /* enum jail_groups */
static pid_t named_after; /* 0: this process */

void jail_name_after(pid_t pid)
{
    REQUIRE(pid > 0);
    named_after = pid;
}

static int write_at(const char *dir, const char *file, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

static int read_at(const char *dir, const char *file, struct buf *out)
{
    struct err ignored;
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s%s%s", dir, *file ? "/" : "", file);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : fd_read_all(fd, out, &ignored);
}

/* True when `word` is one of the words of `list`, which `between` separates. */
static bool has_word(const char *list, const char *word, const char *between)
{
    size_t len = strlen(word);
    while (*list) {
        size_t n = strcspn(list, between);
        if (n == len && strncmp(list, word, n) == 0)
            return true;
        list += n;
        list += strspn(list, between);
    }
    return false;
}

/* --- where groups can be made -------------------------------------------------------------- */

/* The directory of our own group: of the v1 controller, or of v2 when `controller` is NULL. Found
 * from what is mounted (mountinfo) and our position in it (cgroup). The caller frees it. */
static char *own_dir(const char *controller)
{
    AUTO(buf) struct buf mounts = BUF_INIT(1u << 20);
    AUTO(buf) struct buf groups = BUF_INIT(TEXT_MAX);
    char own[PATH_MAX] = "", *save = NULL;
    if (read_at("/proc/self/mountinfo", "", &mounts) || read_at("/proc/self/cgroup", "", &groups))
        return NULL;
    for (char *line = strtok_r(groups.data, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        if (controller ? has_word(names + 1, controller, ",") : names[1] == '\0')
            snprintf(own, sizeof(own), "%s", path);
    }
    for (char *line = strtok_r(mounts.data, "\n", &save); *own && line;
         line = strtok_r(NULL, "\n", &save)) {
        char root[1024], place[1024], type[64], options[1024];
        const char *tail = strstr(line, " - ");
        if (!tail || sscanf(line, "%*d %*d %*s %1023s %1023s", root, place) != 2 ||
            sscanf(tail, " - %63s %*s %1023s", type, options) != 2)
            continue;
        if (controller ? strcmp(type, "cgroup") != 0 || !has_word(options, controller, ",")
                       : strcmp(type, "cgroup2") != 0)
            continue;
        size_t shown = strcmp(root, "/") == 0 ? 0 : strlen(root);
        const char *below = strncmp(own, root, shown) == 0 ? own + shown : "";
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s%s", place, strcmp(below, "/") == 0 ? "" : below);
        return strdup(path);
    }
    return NULL;
}

/* Moves the processes of one of our groups into a group below it: v2 gives controllers only to
 * children of empty groups. */
static int empty_group(const char *dir)
{
    char below[PATH_MAX];
    AUTO(buf) struct buf pids = BUF_INIT(TEXT_MAX);
    char *save = NULL;
    snprintf(below, sizeof(below), "%s/runner", dir);
    if ((mkdir(below, 0755) && errno != EEXIST) || read_at(dir, "cgroup.procs", &pids))
        return -1;
    for (char *pid = pids.data ? strtok_r(pids.data, "\n", &save) : NULL; pid;
         pid = strtok_r(NULL, "\n", &save))
        if (write_at(below, "cgroup.procs", pid) && errno != ESRCH)
            return -1;
    return 0;
}

/* True when the group is ours alone: delegated by systemd, or the top of a container's. */
static bool is_delegated(const char *dir)
{
    char value[8];
    return getxattr(dir, "user.delegate", value, sizeof(value)) > 0 ||
           getxattr(dir, "trusted.delegate", value, sizeof(value)) > 0;
}

static bool in_container(void)
{
    AUTO(buf) struct buf own = BUF_INIT(TEXT_MAX);
    return read_at("/proc/self/cgroup", "", &own) == 0 && str_starts(buf_str(&own), "0::/\n") &&
           (access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0);
}

/* Turns the controllers on for the children of a v2 group; *ret_on says which of them are on.
 * Without the first the others stay off: a group that has processes of its own refuses memory, but
 * takes the others, and from then on its children can't have processes. */
static bool turn_on(const char *dir, unsigned *ret_on)
{
    AUTO(buf) struct buf on = BUF_INIT(4096);
    *ret_on = 0;
    for (int i = 0; i < GROUP_DIRS; i++) {
        char word[16];
        snprintf(word, sizeof(word), "+%s", controllers[i]);
        if (write_at(dir, "cgroup.subtree_control", word) && i == 0)
            return false;
    }
    if (read_at(dir, "cgroup.subtree_control", &on))
        return false;
    for (int i = 0; i < GROUP_DIRS; i++)
        if (has_word(buf_str(&on), controllers[i], " \n"))
            *ret_on |= 1u << i;
    return *ret_on & 1u;
}

/* Makes a group to find out whether that works, and lets nobody join it. */
static bool can_make(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/" PREFIX "probe-%d", dir, (int)getpid());
    if (mkdir(path, 0755))
        return false;
    rmdir(path);
    return true;
}

static bool try_v2(unsigned *ret_on)
{
    AUTO(str) char *own = own_dir(NULL);
    AUTO(str) char *top = NULL;
    if (!own)
        return false;
    size_t len = strlen(own);
    const char *leaf = len > 7 && strcmp(own + len - 7, "/runner") == 0 ? own + len - 7 : NULL;
    /* An earlier launcher of ours has already emptied it. */
    AUTO(str) char *dir = leaf ? strndup(own, (size_t)(leaf - own)) : strdup(own);
    if (dir && (leaf || is_delegated(dir) || in_container()) && can_make(dir) &&
        (turn_on(dir, ret_on) || (empty_group(dir) == 0 && turn_on(dir, ret_on)))) {
        parents[0] = STEAL_PTR(dir);
        return true;
    }
    /* At the top, where root may make groups. */
    top = strdup("/sys/fs/cgroup/claude-runner");
    if (geteuid() != 0 || !top || access("/sys/fs/cgroup/cgroup.controllers", F_OK) ||
        (mkdir(top, 0755) && errno != EEXIST) || !turn_on("/sys/fs/cgroup", ret_on) ||
        !turn_on(top, ret_on) || !can_make(top))
        return false;
    parents[0] = STEAL_PTR(top);
    return true;
}

static bool try_v1(unsigned *ret_on)
{
    *ret_on = 0;
    for (int i = 0; i < GROUP_DIRS; i++) {
        parents[i] = own_dir(controllers[i]);
        if (parents[i] && can_make(parents[i]))
            *ret_on |= 1u << i;
        else
            free(STEAL_PTR(parents[i]));
    }
    return *ret_on & 1u;
}

void groups_probe(struct jail_host *host)
{
    unsigned on = 0;
    for (int i = 0; i < GROUP_DIRS; i++)
        free(STEAL_PTR(parents[i]));
    version = try_v2(&on) ? JAIL_GROUPS_V2 : try_v1(&on) ? JAIL_GROUPS_V1 : JAIL_GROUPS_NONE;
    host->groups = version;
    for (int i = 0; i < GROUP_DIRS; i++) {
        host->has[features[i]] = version != JAIL_GROUPS_NONE && (on & (1u << i));
        if (!host->has[features[i]])
            snprintf(host->why[features[i]], sizeof(host->why[0]),
                     "no control group with '%s' can be made%s", controllers[i],
                     i == 0   ? "; memory is watched instead"
                     : i == 1 ? "; RLIMIT_NPROC instead"
                              : "");
    }
}

/* --- one tree's ---------------------------------------------------------------------------- */

void group_init(struct group *group)
{
    *group = (struct group){.memory_events = -1, .pids_events = -1, .kill = -1};
    for (int i = 0; i < GROUP_DIRS; i++)
        group->join[i] = -1;
}

void group_release(struct group *group)
{
    for (int i = 0; i < GROUP_DIRS; i++)
        fd_close(&group->join[i]);
    fd_close(&group->memory_events);
    fd_close(&group->pids_events);
    fd_close(&group->kill);
}

void group_free(struct group *group)
{
    group_release(group);
    for (int i = 0; i < GROUP_DIRS; i++)
        free(STEAL_PTR(group->dirs[i]));
}

static int open_high(const char *dir, const char *file, int flags)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    AUTO(fd) int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_LOWEST);
}

static int limit(const char *dir, const char *file, bool optional, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    return write_at(dir, file, text) && !optional ? -1 : 0;
}

static int set_v2(const char *dir, const struct jail_policy *policy)
{
    char text[48];
    if (policy->memory_mb > 0) {
        if (limit(dir, "memory.max", false, (int64_t)policy->memory_mb << 20))
            return -1;
        (void)limit(dir, "memory.swap.max", true, 0);
        (void)limit(dir, "memory.oom.group", true, 1);
    }
    if (policy->pids_max > 0 && limit(dir, "pids.max", true, policy->pids_max))
        return -1;
    snprintf(text, sizeof(text), "%lld %d", (long long)policy->cpu_percent * PERIOD_US / 100,
             PERIOD_US);
    return policy->cpu_percent > 0 ? write_at(dir, "cpu.max", text) : 0;
}

static int set_v1(int which, const char *dir, const struct jail_policy *policy)
{
    int64_t bytes = (int64_t)policy->memory_mb << 20;
    if (which == 0 && policy->memory_mb > 0) {
        if (limit(dir, "memory.limit_in_bytes", false, bytes))
            return -1;
        (void)limit(dir, "memory.memsw.limit_in_bytes", true, bytes);
        (void)limit(dir, "memory.swappiness", true, 0);
        /* The queues of internet sockets are counted apart, and only when they have a limit. */
        (void)limit(dir, "memory.kmem.tcp.limit_in_bytes", true, bytes);
    }
    if (which == 1 && policy->pids_max > 0)
        return limit(dir, "pids.max", false, policy->pids_max);
    if (which == 2 && policy->cpu_percent > 0) {
        (void)limit(dir, "cpu.cfs_period_us", true, PERIOD_US);
        return limit(dir, "cpu.cfs_quota_us", false,
                     (int64_t)policy->cpu_percent * PERIOD_US / 100);
    }
    return 0;
}

/* v1 requires that the limit of memory and swap together is never below that of memory. */
static int limit_v1(const char *dir, int64_t bytes)
{
    if (limit(dir, "memory.limit_in_bytes", false, bytes) == 0) {
        (void)limit(dir, "memory.memsw.limit_in_bytes", true, bytes);
        return 0;
    }
    (void)limit(dir, "memory.memsw.limit_in_bytes", true, bytes);
    return limit(dir, "memory.limit_in_bytes", false, bytes);
}

int group_limit_memory(const struct group *group, int memory_mb)
{
    int64_t bytes = (int64_t)memory_mb << 20;
    if (group->memory_events < 0) /* Without the file, jail_look() counts. */
        return 0;
    return version == JAIL_GROUPS_V2 ? limit(group->dirs[0], "memory.max", false, bytes)
                                     : limit_v1(group->dirs[0], bytes);
}

static bool is_wanted(int which, const struct jail_policy *policy)
{
    return which == 0   ? policy->memory_mb > 0
           : which == 1 ? policy->pids_max > 0
                        : policy->cpu_percent > 0;
}

/* Appends the launcher's pid and the name within it. */
static void add_name(const char *name, char *out, size_t size)
{
    snprintf(out, size, PREFIX "%d-%s", (int)(named_after ? named_after : getpid()), name);
}

static int make(struct group *group, const char *parent, const char *name, int *ret_at)
{
    char path[PATH_MAX], own[128];
    int at = group->dir_count;
    add_name(name, own, sizeof(own));
    snprintf(path, sizeof(path), "%s/%s", parent, own);
    if (mkdir(path, 0755) && (errno != EEXIST || rmdir(path) || mkdir(path, 0755)))
        return -1;
    group->dirs[at] = strdup(path);
    group->dir_count++;
    if (!group->dirs[at])
        return -1;
    /* By "tasks" who has one thread moves without the lock that all forks take, and that waits for
     * every processor: some ten milliseconds when nobody has moved for a while. */
    group->join[at] =
        open_high(path, version == JAIL_GROUPS_V1 ? "tasks" : "cgroup.procs", O_WRONLY);
    *ret_at = at;
    return group->join[at] < 0 ? -1 : 0;
}

static int open_v2(struct jail *jail, const char *name)
{
    struct group *group = &jail->group;
    int at;
    if (make(group, parents[0], name, &at) || set_v2(group->dirs[at], &jail->policy))
        return -1;
    group->memory_events = open_high(group->dirs[at], "memory.events", O_RDONLY);
    group->pids_events = open_high(group->dirs[at], "pids.events", O_RDONLY);
    group->kill = open_high(group->dirs[at], "cgroup.kill", O_WRONLY);
    return 0;
}

static int open_v1(struct jail *jail, const char *name)
{
    struct group *group = &jail->group;
    for (int i = 0; i < GROUP_DIRS; i++) {
        int at;
        if (!parents[i] || !is_wanted(i, &jail->policy))
            continue;
        if (make(group, parents[i], name, &at) || set_v1(i, group->dirs[at], &jail->policy))
            return -1;
        if (i == 0)
            group->memory_events = open_high(group->dirs[at], "memory.oom_control", O_RDONLY);
        if (i == 1)
            group->pids_events = open_high(group->dirs[at], "pids.events", O_RDONLY);
    }
    return 0;
}

int group_open(struct jail *jail, const char *name, struct err *err)
{
    bool any = false;
    for (int i = 0; i < GROUP_DIRS; i++)
        any |= is_wanted(i, &jail->policy);
    if (!any || version == JAIL_GROUPS_NONE)
        return 0;
    if (version == JAIL_GROUPS_V2 ? open_v2(jail, name) : open_v1(jail, name)) {
        jail_fail(err, "control group");
        group_remove(&jail->group);
        return -1;
    }
    return 0;
}

int group_join(const struct jail *jail, struct err *err)
{
    for (int i = 0; i < jail->group.dir_count; i++)
        if (write(jail->group.join[i], "0", 1) != 1)
            return jail_fail(err, "joining the control group");
    return 0;
}

/* The number after `word` in a file of "word number" lines; 0 when there is none. */
static int64_t read_count(int fd, const char *word)
{
    char text[512];
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
    size_t len = strlen(word);
    text[n > 0 ? n : 0] = '\0';
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, word, len) == 0 && line[len] == ' ')
            return strtoll(line + len, NULL, 10);
    }
    return 0;
}

unsigned group_look(const struct group *group)
{
    unsigned met = 0;
    if (read_count(group->memory_events, "oom_kill") > 0)
        met |= JAIL_MEMORY;
    if (read_count(group->pids_events, "max") > 0)
        met |= JAIL_PIDS;
    return met;
}

bool group_kill(const struct group *group)
{
    return group->kill >= 0 && write(group->kill, "1", 1) == 1;
}

void group_remove(struct group *group)
{
    for (int i = 0; i < group->dir_count; i++)
        if (group->dirs[i])
            rmdir(group->dirs[i]);
    group->dir_count = 0;
}

/* --- what a crash has left ----------------------------------------------------------------- */

/* A group of a launcher that has ended: kills the processes in it, which have lost their
 * launcher. */
static void sweep_group(const char *dir)
{
    AUTO(buf) struct buf pids = BUF_INIT(TEXT_MAX);
    char *save = NULL;
    if (read_at(dir, "cgroup.procs", &pids) == 0 && pids.data)
        for (char *pid = strtok_r(pids.data, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save))
            kill((pid_t)strtol(pid, NULL, 10), SIGKILL);
    rmdir(dir);
}

static void sweep_parent(const char *parent)
{
    DIR *dir = opendir(parent);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char path[PATH_MAX];
        if (!str_starts(entry->d_name, PREFIX))
            continue;
        pid_t pid = (pid_t)strtol(entry->d_name + sizeof(PREFIX) - 1, NULL, 10);
        if (pid <= 0 || pid == getpid() || kill(pid, 0) == 0 || errno == EPERM)
            continue;
        snprintf(path, sizeof(path), "%s/%s", parent, entry->d_name);
        sweep_group(path);
    }
    if (dir)
        closedir(dir);
}

void jail_sweep(void)
{
    for (int i = 0; i < GROUP_DIRS; i++)
        if (parents[i])
            sweep_parent(parents[i]);
}
