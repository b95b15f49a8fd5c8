/*
 * What a jail costs: programs started one after the other, each to its end, as milliseconds and as
 * ratios to a plain fork and exec of the same program in the same run. bwrap (when it is there)
 * builds a comparable layout: all namespaces but the network's, a read-only system, private /tmp,
 * /proc and /dev.
 *
 *   bench-jail [STARTS [KIND]]     KIND: only this one of ours, as the table names it, and alone:
 * for a profile
 */
#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "proc/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES 50000
#define SWARM 1000
#define ROUNDS 5 /* the best of which counts: the machine is not ours alone */

static struct launcher *launcher;

static void run_plain(char *const argv[])
{
    char *const env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        execve(argv[0], argv, env);
        _exit(127);
    }
    int status = 1;
    if (waitpid(pid, &status, 0) != pid || status)
        exit((fprintf(stderr, "'%s' failed\n", argv[0]), 1));
}

static void plain(void)
{
    run_plain((char *const[]){(char[]){"/bin/true"}, NULL});
}

/* The same program in namespaces of which nothing is used: what the kernel takes for them alone. */
static void run_in(unsigned long flags)
{
    pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    int status = 1;
    if (pid == 0) {
        execl("/bin/true", "/bin/true", (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        exit((perror("a namespace"), 1));
}

static void network_only(void)
{
    run_in(CLONE_NEWNET);
}

static void namespaces_only(void)
{
    run_in(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
           CLONE_NEWCGROUP);
}

static void bwrap(void)
{
    static const char *const words[] = {"/usr/bin/bwrap", "--unshare-user",
                                        "--unshare-pid",  "--unshare-ipc",
                                        "--unshare-uts",  "--unshare-cgroup",
                                        "--ro-bind",      "/usr",
                                        "/usr",           "--ro-bind",
                                        "/etc",           "/etc",
                                        "--symlink",      "usr/bin",
                                        "/bin",           "--symlink",
                                        "usr/lib",        "/lib",
                                        "--symlink",      "usr/lib64",
                                        "/lib64",         "--proc",
                                        "/proc",          "--dev",
                                        "/dev",           "--tmpfs",
                                        "/tmp",           "--die-with-parent",
                                        "/bin/true",      NULL};
    char *argv[COUNT_OF(words)];
    for (size_t i = 0; i < COUNT_OF(words); i++)
        argv[i] = (char *)(uintptr_t)words[i];
    run_plain(argv);
}

/* --- ours ---------------------------------------------------------------------------------- */

static struct plan *plan_of(enum jail_tier tier, enum jail_net net, const char *program)
{
    struct plan *plan = plan_new();
    strlist_add(&plan->argv, program);
    strlist_add(&plan->env, "PATH=/usr/bin:/bin");
    plan->cwd = strdup("/");
    plan->uid = geteuid() ? geteuid() : 65534;
    plan->gid = geteuid() ? getegid() : 65534;
    plan->jail.tier = tier;
    plan->jail.net = net;
    if (tier != JAIL_NONE) {
        plan->jail.memory_mb = 256;
        plan->jail.pids_max = 64;
    }
    return plan;
}

static void bind_path(struct plan *plan, const char *mode, const char *outside, const char *inside)
{
    strlist_add(&plan->jail.binds, mode);
    strlist_add(&plan->jail.binds, outside);
    strlist_add(&plan->jail.binds, inside);
}

static struct child *start(const struct plan *plan, int out)
{
    struct err err;
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, out < 0 ? null : out, null};
    struct child *child = launcher_spawn(launcher, plan, stdio, &err);
    if (!child)
        exit((fprintf(stderr, "%s\n", err.msg), 1));
    return child;
}

static void await_end(struct child *child)
{
    struct pollfd wait = {.fd = child_fd(child), .events = POLLIN};
    while (child_read(child) != CHILD_ENDED)
        poll(&wait, 1, 1000);
    child_free(child);
}

static void launch(enum jail_tier tier, enum jail_net net)
{
    AUTO(plan) struct plan *plan = plan_of(tier, net, "/bin/true");
    await_end(start(plan, -1));
}

static void none(void)
{
    launch(JAIL_NONE, JAIL_NET_HOST);
}

static void restricted(void)
{
    launch(JAIL_RESTRICTED, JAIL_NET_HOST);
}

static void full(void)
{
    launch(JAIL_FULL, JAIL_NET_HOST);
}

static void full_net(void)
{
    launch(JAIL_FULL, JAIL_NET_OWN);
}

/* --- an overlay as workspace ---------------------------------------------------------------- */

static char place[64]; /* lower, empty, upper, work, merged */
static const char *lower;

static void make_places(void)
{
    static const char *const names[] = {"lower", "empty", "upper", "work", "merged"};
    char path[128];
    snprintf(place, sizeof(place), "/tmp/bench-jail-XXXXXX");
    if (!mkdtemp(place) || chmod(place, 0755))
        exit((perror(place), 1));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", place, names[i]);
        mkdir(path, 0755);
    }
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof(path), "%s/lower/%d", place, i / 500);
        if (i % 500 == 0)
            mkdir(path, 0755);
        snprintf(path, sizeof(path), "%s/lower/%d/%d", place, i / 500, i);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            exit((perror(path), 1));
        close(fd);
    }
}

static void overlaid(void)
{
    char merged[128], options[320];
    AUTO(plan) struct plan *plan = plan_of(JAIL_FULL, JAIL_NET_HOST, "/bin/true");
    snprintf(merged, sizeof(merged), "%s/merged", place);
    snprintf(options, sizeof(options), "lowerdir=%s/%s,upperdir=%s/upper,workdir=%s/work", place,
             lower, place, place);
    strlist_add(&plan->mounts, "overlay");
    strlist_add(&plan->mounts, merged);
    strlist_add(&plan->mounts, options);
    bind_path(plan, "rw", merged, "/workspace");
    await_end(start(plan, -1));
}

/* --- the end of many ------------------------------------------------------------------------ */

/* In the jail: so many descendants, each in a session of its own; says when they are there. */
static int swarm(int count)
{
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            setsid();
            for (;;)
                pause();
        }
    }
    (void)!write(STDOUT_FILENO, "!", 1);
    for (;;)
        pause();
}

/* Milliseconds from the kill to the news that nobody is left. */
static double kill_swarm(void)
{
    char byte, self[256] = "";
    int ends[2];
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || pipe2(ends, O_CLOEXEC))
        exit((perror("swarm"), 1));
    AUTO(plan) struct plan *plan = plan_of(JAIL_FULL, JAIL_NET_HOST, self);
    strlist_add(&plan->argv, "swarm");
    bind_path(plan, "ro", self, self);
    plan->jail.memory_mb = 2048;
    plan->jail.pids_max = SWARM + 100;
    struct child *child = start(plan, ends[1]);
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1)
        exit((fprintf(stderr, "no swarm\n"), 1));
    int64_t began = clock_mono_us();
    child_end(child, true);
    await_end(child);
    close(ends[0]);
    return (double)(clock_mono_us() - began) / 1000;
}

/* --- the table ------------------------------------------------------------------------------ */

static double measure(void (*one)(void), int starts)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t began = clock_mono_us();
        for (int i = 0; i < starts; i++)
            one();
        double ms = (double)(clock_mono_us() - began) / 1000 / starts;
        if (round == 0 || ms < best)
            best = ms;
    }
    return best;
}

static bool has_bwrap(void)
{
    return access("/usr/bin/bwrap", X_OK) == 0;
}

static void print_others(int starts)
{
    struct err err;
    double kills = 0;
    make_places();
    lower = "empty";
    double empty = measure(overlaid, starts);
    lower = "lower";
    double many = measure(overlaid, starts);
    printf("%-22s %7.2f ms, over an empty one %+.2f ms (aim <= 3)\n", "overlay, 50,000 files", many,
           many - empty);
    for (int i = 0; i < ROUNDS; i++) {
        double ms = kill_swarm();
        kills = i == 0 || ms < kills ? ms : kills;
    }
    printf("%-22s %7.2f ms (aim <= 100)\n", "kill of 1,000 sessions", kills);
    if (path_remove_tree(place, &err))
        fprintf(stderr, "%s\n", err.msg);
}

/* Namespaces are removed after the program's end, by threads of the kernel: that comes on top. */
static void print_floor(int starts, double base)
{
    const struct {
        const char *name;
        void (*one)(void);
    } kinds[] = {{"with a bare network", network_only}, {"with all namespaces", namespaces_only}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        double ms = measure(kinds[i].one, starts);
        printf("%-22s %7.2f ms %6.2f x fork and exec\n", kinds[i].name, ms, ms / base);
    }
}

int main(int argc, char **argv)
{
    struct err err;
    if (argc > 1 && strcmp(argv[1], "launch") == 0)
        return launch_serve();
    if (argc > 1 && strcmp(argv[1], "swarm") == 0)
        return swarm(SWARM);
    int starts = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 100;
    launcher = launcher_start(&err);
    if (!launcher)
        return fprintf(stderr, "%s\n", err.msg), 1;
    const struct jail_host *host = launcher_host(launcher);
    const char *only = argc > 2 ? argv[2] : NULL;
    double base = only ? 1 : measure(plain, starts);
    double wrapped = !only && has_bwrap() ? measure(bwrap, starts) : 0;
    printf("tier %s, cgroups %s, landlock %d\n", jail_tier_name((enum jail_tier)host->tier),
           jail_groups_name((enum jail_groups)host->groups), host->landlock);
    printf("%-22s %7.2f ms\n", "fork and exec", base);
    if (!only && geteuid() == 0)
        print_floor(starts, base);
    if (wrapped > 0)
        printf("%-22s %7.2f ms %6.2f x fork and exec\n", "bwrap", wrapped, wrapped / base);
    const struct {
        const char *name;
        void (*one)(void);
        enum jail_tier tier;
    } kinds[] = {{"launcher, none", none, JAIL_NONE},
                 {"launcher, restricted", restricted, JAIL_RESTRICTED},
                 {"launcher, full", full, JAIL_FULL},
                 {"launcher, full, own net", full_net, JAIL_FULL}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (host->tier < (int)kinds[i].tier || (only && strcmp(kinds[i].name + 10, only) != 0))
            continue;
        double ms = measure(kinds[i].one, starts);
        printf("%-22s %7.2f ms %6.2f x fork and exec", kinds[i].name, ms, ms / base);
        if (kinds[i].one == full)
            printf(" (aim <= 3)");
        if (wrapped > 0)
            printf(" %5.2f x bwrap%s", ms / wrapped, kinds[i].one == full ? " (aim <= 0.6)" : "");
        printf("\n");
    }
    if (!only && host->tier == JAIL_FULL)
        print_others(starts);
    launcher_free(launcher);
    return 0;
}
