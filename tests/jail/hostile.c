/*
 * Hostile programs in jails: `jail-hostile SITUATION TIER` runs every case of cases.h in one jail
 * after the other, as a task would run it, and looks at its canaries after each.
 *
 * The house around them: a directory with secrets, a process of the tasks' own user, listeners, and
 * shared memory. It stands outside of what the policy shows.
 */
#include "testbase.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cases.h"
#include "proc/launch.h"
#include "proc/tree.h"
#include "situation.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOKEN "canary-7f3a91c2"
#define PRECIOUS "precious\n"
#define CASE_MS 1500 /* then it is ended: some never end by themselves */
#define MARK "HOSTILE_MARK=1"

static struct house {
    char *dir, *run, *secret, *mine, *precious, *socket, *shm_file;
    char abstract[32];
    int listeners[3]; /* unix, abstract, TCP */
    int port, shm;
    pid_t outsider;
    uid_t uid;
} house;

static struct launcher *launcher;
static const struct situation *situation;
static enum jail_tier tier;

/* --- the house ----------------------------------------------------------------------------- */

static void give(const char *path)
{
    assert_int_equal(chown(path, house.uid, geteuid() ? (gid_t)-1 : house.uid), 0);
}

static int listen_at(const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0 && bind(fd, address, len) == 0 && listen(fd, 16) == 0);
    return fd;
}

static void open_listeners(void)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX}, abstract = {.sun_family = AF_UNIX};
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(tcp);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s", house.socket);
    snprintf(house.abstract, sizeof(house.abstract), "hostile-%d", (int)getpid());
    memcpy(abstract.sun_path + 1, house.abstract, strlen(house.abstract));
    house.listeners[0] = listen_at((struct sockaddr *)&local, sizeof(local));
    assert_int_equal(chmod(house.socket, 0777), 0);
    house.listeners[1] =
        listen_at((struct sockaddr *)&abstract,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(house.abstract)));
    house.listeners[2] = listen_at((struct sockaddr *)&tcp, sizeof(tcp));
    assert_int_equal(getsockname(house.listeners[2], (struct sockaddr *)&tcp, &len), 0);
    house.port = ntohs(tcp.sin_port);
}

/* A process of the user that tasks run as, with a secret in its environment. */
static pid_t start_outsider(void)
{
    char *const argv[] = {(char[]){"sleep"}, (char[]){"10000"}, NULL};
    char *const env[] = {(char[]){"SECRET=" TOKEN}, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && (setgid(house.uid) || setuid(house.uid)))
            _exit(126);
        execve("/bin/sleep", argv, env);
        _exit(127);
    }
    return pid;
}

static void build_house(void)
{
    house.uid = geteuid() == 0 ? NOBODY : geteuid();
    house.dir = tmp_dir_new();
    assert_int_equal(chmod(house.dir, 0777), 0);
    house.run = textf("%s/run", house.dir);
    house.secret = textf("%s/secret", house.dir);
    house.mine = textf("%s/mine", house.dir);
    house.precious = textf("%s/precious", house.dir);
    house.socket = textf("%s/socket", house.dir);
    house.shm_file = textf("/dev/shm/hostile-%d", (int)getpid());
    write_file(house.secret, TOKEN "\n", 0644);
    write_file(house.mine, TOKEN "\n", 0600);
    write_file(house.precious, PRECIOUS, 0666);
    write_file(house.shm_file, TOKEN "\n", 0666);
    assert_int_equal(chmod(house.precious, 0666) | chmod(house.shm_file, 0666), 0);
    open_listeners();
    house.shm = shmget(IPC_PRIVATE, 4096, 0666 | IPC_CREAT);
    char *memory = shmat(house.shm, NULL, 0);
    assert_true(memory != (char *)-1);
    snprintf(memory, 4096, "%s", TOKEN);
    shmdt(memory);
    house.outsider = start_outsider();
}

static void leave_house(void)
{
    kill(house.outsider, SIGKILL);
    waitpid(house.outsider, NULL, 0);
    shmctl(house.shm, IPC_RMID, NULL);
    unlink(house.shm_file);
    tmp_dir_free(house.dir);
}

/* --- one jail ------------------------------------------------------------------------------ */

static void add_bind(struct plan *plan, const char *mode, const char *outside, const char *inside)
{
    strlist_add(&plan->jail.binds, mode);
    strlist_add(&plan->jail.binds, outside);
    strlist_add(&plan->jail.binds, inside);
}

/* The places of a run, as the runner makes them. */
static void make_places(struct plan *plan)
{
    struct err err;
    static const char *const names[] = {"work", "tmp"};
    OK(path_remove_tree(house.run, &err) == 0 && path_make_dirs(house.run, 0711, &err) == 0, &err);
    for (size_t i = 0; i < COUNT(names); i++) {
        AUTO(str) char *outside = textf("%s/%s", house.run, names[i]);
        AUTO(str)
        char *inside = tier == JAIL_FULL ? textf("/%s", i ? "tmp" : "workspace") : strdup(outside);
        OK(path_make_dirs(outside, 0700, &err) == 0, &err);
        give(outside);
        add_bind(plan, "rw", outside, inside);
        if (i == 0)
            plan->cwd = strdup(inside);
        else
            strlist_addf(&plan->env, "TMPDIR=%s", inside);
    }
}

static struct plan *plan_of(const struct hostile *hostile)
{
    struct plan *plan = plan_new();
    assert_non_null(plan);
    strlist_add(&plan->argv, "/bin/bash");
    strlist_add(&plan->argv, "-c");
    strlist_add(&plan->argv, hostile->script);
    strlist_add(&plan->env, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    strlist_add(&plan->env, MARK);
    strlist_addf(&plan->env, "DIR=%s", house.dir);
    strlist_addf(&plan->env, "SECRET=%s", house.secret);
    strlist_addf(&plan->env, "MINE=%s", house.mine);
    strlist_addf(&plan->env, "PRECIOUS=%s", house.precious);
    strlist_addf(&plan->env, "SOCKET=%s", house.socket);
    strlist_addf(&plan->env, "ABSTRACT=%s", house.abstract);
    strlist_addf(&plan->env, "SHMFILE=%s", house.shm_file);
    strlist_addf(&plan->env, "PORT=%d", house.port);
    strlist_addf(&plan->env, "PID=%d", (int)house.outsider);
    strlist_addf(&plan->env, "SHM=%d", house.shm);
    strlist_addf(&plan->env, "INIT=%d", (int)getpid());
    strlist_add(&plan->env, "CALLS=" TEST_CALLS);
    make_places(plan);
    add_bind(plan, "ro", TEST_CALLS, TEST_CALLS);
    plan->uid = house.uid;
    plan->gid = geteuid() ? getegid() : house.uid;
    plan->kill_grace_ms = 0;
    plan->jail.tier = tier;
    plan->jail.net = hostile->where & OWN_NET ? JAIL_NET_OWN : JAIL_NET_HOST;
    plan->jail.filter = JAIL_FILTER_TASK;
    plan->jail.memory_mb = 256;
    plan->jail.pids_max = 64;
    plan->jail.disk_mb = 60;
    plan->jail.cpu_percent = 200;
    strlist_add(&plan->jail.counted, house.run);
    strlist_add(&plan->jail.hidden, house.dir);
    return plan;
}

/* Runs to the end, or is ended. What it printed; *ret_ms is how long its end took once asked for.
 */
static char *run(const struct hostile *hostile)
{
    struct err err;
    AUTO(plan) struct plan *plan = plan_of(hostile);
    AUTO(fd) int out = memfd_create("out", MFD_CLOEXEC);
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    AUTO(buf) struct buf text = BUF_INIT(16u << 20);
    const int stdio[3] = {null, out, null};
    struct child *child = launcher_spawn(launcher, plan, stdio, &err);
    OK(child, &err);
    int64_t end = clock_mono_ms() + CASE_MS;
    bool ended = false;
    while (child_read(child) != CHILD_ENDED) {
        struct pollfd wait = {.fd = child_fd(child), .events = POLLIN};
        poll(&wait, 1, 100);
        if (clock_mono_ms() >= end && !ended) {
            child_end(child, true);
            ended = true;
        }
        if (clock_mono_ms() >= end + 20000)
            fail_msg("'%s' could not be ended", hostile->name);
    }
    child_free(child);
    assert_true(lseek(out, 0, SEEK_SET) == 0);
    (void)fd_read_all(out, &text, &err);
    return strdup(buf_str(&text));
}

/* --- the canaries -------------------------------------------------------------------------- */

static bool is_content(const char *path, const char *text)
{
    AUTO(str) char *now = read_file(path, NULL);
    return now && strcmp(now, text) == 0;
}

static bool somebody_came(int *ret_which)
{
    for (int i = 0; i < 3; i++) {
        AUTO(fd) int fd = accept4(house.listeners[i], NULL, NULL, SOCK_CLOEXEC);
        *ret_which = i;
        if (fd >= 0)
            return true;
    }
    return false;
}

static bool left_in(const char *pattern)
{
    glob_t found;
    bool any = glob(pattern, 0, NULL, &found) == 0;
    globfree(&found);
    return any;
}

/* Says what has happened to the house; NULL for nothing. */
static const char *damage(const char *out, char *room, size_t size)
{
    struct stat st;
    int which;
    if (strstr(out, "ESCAPED"))
        return "it says so";
    if (strstr(out, TOKEN))
        return "it knows the secret";
    if (!is_content(house.precious, PRECIOUS))
        return "the precious file has changed";
    if (stat(house.precious, &st) || (st.st_mode & 0777) != 0666)
        return "the precious file's mode has changed";
    if (!is_content(house.secret, TOKEN "\n") || !is_content(house.shm_file, TOKEN "\n"))
        return "a secret has changed";
    if (somebody_came(&which)) {
        snprintf(room, size, "listener %d was reached", which);
        return room;
    }
    snprintf(room, size, "%s/new", house.dir);
    if (access(room, F_OK) == 0)
        return "there is a new file";
    if (waitpid(house.outsider, NULL, WNOHANG) != 0)
        return "the outsider is dead";
    if (left_in("/tmp/hostile-left*") || left_in("/dev/shm/hostile-left*"))
        return "something was left";
    return NULL;
}

static int count_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static bool applies(const struct hostile *hostile)
{
    if (hostile->where & OWN_NET)
        return tier == JAIL_FULL;
    if ((hostile->where & WITH_NAMESPACES) && !situation->namespaces)
        return false;
    if ((hostile->where & APART) && situation->nobody && !situation->namespaces)
        return false;
    return hostile->where & (tier == JAIL_FULL ? IN_FULL : IN_RESTRICTED);
}

static void nothing_gets_out(void **state)
{
    (void)state;
    char room[80];
    int failed = 0, done = 0, fds = count_fds();
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (!applies(&cases[i]))
            continue;
        int64_t began = clock_mono_ms();
        AUTO(str) char *out = run(&cases[i]);
        if (clock_mono_ms() - began > 1000)
            print_message("'%s' took %d ms\n", cases[i].name, (int)(clock_mono_ms() - began));
        const char *bad = damage(out, room, sizeof(room));
        if (!bad && cases[i].expect && !strstr(out, cases[i].expect))
            bad = "it did not work";
        if (!bad && proc_with_environment(MARK) > 0)
            bad = "something of it is left";
        if (!bad && count_fds() != fds)
            bad = "a descriptor is left";
        done++;
        if (!bad)
            continue;
        failed++;
        print_error("'%s': %s\n%.2000s\n", cases[i].name, bad, out);
    }
    print_message("%d hostile programs, %d of them got somewhere\n", done, failed);
    assert_int_equal(failed, 0);
}

int main(int argc, char **argv)
{
    struct err err;
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_gets_out)};
    if (argc > 1 && strcmp(argv[1], "launch") == 0)
        return launch_serve();
    situation = situation_find(argc > 1 ? argv[1] : "root");
    tier = argc > 2 && strcmp(argv[2], "restricted") == 0 ? JAIL_RESTRICTED : JAIL_FULL;
    if (!situation || !situation_enter(situation))
        return fprintf(stderr, "cannot enter the situation\n"), 1;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* as the runner */
    launcher = launcher_start(&err);
    if (!launcher)
        return fprintf(stderr, "%s\n", err.msg), 1;
    if (!situation_is(situation, launcher_host(launcher)) || launcher_tier(launcher) < tier) {
        printf("SKIPPED: this host has no tier %s in situation '%s': %s\n", jail_tier_name(tier),
               situation->name, launcher_host(launcher)->why_tier);
        launcher_free(launcher);
        return 77;
    }
    build_house();
    int failed = cmocka_run_group_tests_name(situation->name, tests, NULL, NULL);
    launcher_free(launcher);
    leave_house();
    return failed;
}
