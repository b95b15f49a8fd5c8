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
#include "proc/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void launch(enum jail_tier tier, enum jail_net net)
{
    struct err err;
    AUTO(plan) struct plan *plan = plan_new();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, null, null};
    strlist_add(&plan->argv, "/bin/true");
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
    struct child *child = launcher_spawn(launcher, plan, stdio, &err);
    if (!child)
        exit((fprintf(stderr, "%s\n", err.msg), 1));
    struct pollfd wait = {.fd = child_fd(child), .events = POLLIN};
    while (child_read(child) != CHILD_ENDED)
        poll(&wait, 1, 1000);
    child_free(child);
    close(null);
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

int main(int argc, char **argv)
{
    struct err err;
    if (argc > 1 && strcmp(argv[1], "launch") == 0)
        return launch_serve();
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
        if (wrapped > 0)
            printf(" %5.2f x bwrap", ms / wrapped);
        printf("\n");
    }
    launcher_free(launcher);
    return 0;
}
