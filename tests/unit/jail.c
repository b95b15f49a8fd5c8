/*
 * Jails: what plan a policy becomes, and a process that enters one without a launcher, as a
 * zygote's children do.
 */
#include "testbase.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct jail_host host; /* this one */

static struct jail_host full_host(void)
{
    struct jail_host made = {.tier = JAIL_FULL, .root = true, .landlock = 7};
    for (int i = 0; i < JAIL_FEATURE_COUNT; i++)
        made.has[i] = true;
    return made;
}

static void bind_path(struct jail_policy *policy, const char *mode, const char *outside,
                      const char *inside)
{
    strlist_add(&policy->binds, mode);
    strlist_add(&policy->binds, outside);
    strlist_add(&policy->binds, inside);
}

/* The plan as text. */
static char *print_of(const struct jail_policy *policy, const struct jail_host *of)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(65536);
    AUTO(jail) struct jail *jail = jail_new(policy, of, 1000, 1001, &err);
    OK(jail, &err);
    jail_print(jail, &text);
    return strdup(buf_str(&text));
}

static void a_plan_shows_outer_places_before_those_in_them(void **state)
{
    (void)state;
    const struct jail_host of = full_host();
    struct jail_policy policy = {.tier = JAIL_FULL};
    bind_path(&policy, "rw", "/s/run/config", "/home/user/.claude");
    bind_path(&policy, "rw", "/s/run/home", "/home/user");
    bind_path(&policy, "ro?", "/usr/lib/x/cli", "/usr/lib/x/cli");
    strlist_add(&policy.hidden, "/usr/lib/x");
    AUTO(str) char *text = print_of(&policy, &of);
    const char *usr = strstr(text, "bind /usr /usr ro optional\n");
    const char *cover = strstr(text, "tmpfs /usr/lib/x size");
    const char *cli = strstr(text, "bind /usr/lib/x/cli /usr/lib/x/cli ro optional\n");
    const char *home = strstr(text, "bind /home/user /s/run/home\n");
    const char *config = strstr(text, "bind /home/user/.claude /s/run/config\n");
    assert_true(usr && cover && cli && home && config);
    assert_true(usr < cover && cover < cli && home < config);
    assert_non_null(strstr(text, "tier full uid 1000 gid 1001 namespaces\n"));
    assert_non_null(strstr(text, "proc /proc\n"));
    assert_non_null(strstr(text, "tmpfs /tmp "));
    jail_policy_done(&policy);
}

static void a_place_of_the_policy_takes_that_of_a_private_one(void **state)
{
    (void)state;
    const struct jail_host of = full_host();
    struct jail_policy policy = {.tier = JAIL_FULL, .no_proc = 1};
    bind_path(&policy, "rw", "/s/tmp", "/tmp");
    AUTO(str) char *text = print_of(&policy, &of);
    assert_null(strstr(text, "tmpfs /tmp "));
    assert_non_null(strstr(text, "bind /tmp /s/tmp\n"));
    assert_null(strstr(text, "proc /proc"));
    jail_policy_done(&policy);
}

/* A helper of a runner whose state folder is there sees it by its own path. */
static void a_place_below_var_tmp_can_be_shown(void **state)
{
    (void)state;
    const struct jail_host of = full_host();
    struct jail_policy policy = {.tier = JAIL_FULL};
    AUTO(str) char *without = print_of(&policy, &of);
    assert_non_null(strstr(without, "link /var/tmp"));
    bind_path(&policy, "rw", "/var/tmp/state/run", "/var/tmp/state/run");
    AUTO(str) char *text = print_of(&policy, &of);
    assert_null(strstr(text, "link /var/tmp"));
    assert_non_null(strstr(text, "bind /var/tmp/state/run /var/tmp/state/run\n"));
    jail_policy_done(&policy);
}

static void a_policy_without_sense_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *mode, *outside, *inside;
        int tier, memory_mb, net;
        const char *says;
    } wrong[] = {
        {"wr", "/a", "/a", JAIL_FULL, 0, 0, "'wr'"},
        {"ro", "a", "/a", JAIL_FULL, 0, 0, "'a' is no whole path"},
        {"ro", "/a", "/a/../b", JAIL_FULL, 0, 0, "no whole path"},
        {"ro", "/a", "/", JAIL_FULL, 0, 0, "no whole path"},
        {"ro", "/a", "/b", JAIL_RESTRICTED, 0, 0, "nothing moves"},
        {"ro", "/a", "/a", JAIL_FULL, -1, 0, "memory_mb"},
        {"ro", "/a", "/a", 7, 0, 0, "tier"},
        {"ro", "/a", "/a", JAIL_RESTRICTED, 0, JAIL_NET_OWN, "network of its own"},
        {"ro", "/a", "/a", JAIL_RESTRICTED, 0, JAIL_NET_PROXY, "network of its own"},
        {"ro", "/a", "/a", JAIL_FULL, 0, JAIL_NET_PROXY + 1, "net"},
    };
    const struct jail_host of = full_host();
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct err err;
        struct jail_policy policy = {
            .tier = wrong[i].tier, .memory_mb = wrong[i].memory_mb, .net = wrong[i].net};
        bind_path(&policy, wrong[i].mode, wrong[i].outside, wrong[i].inside);
        assert_null(jail_new(&policy, &of, 1, 1, &err));
        if (!strstr(err.msg, wrong[i].says))
            fail_msg("case %zu: %s", i, err.msg);
        jail_policy_done(&policy);
    }
}

static void a_tier_that_the_host_lacks_is_refused_and_not_weakened(void **state)
{
    struct err err;
    (void)state;
    const struct jail_policy full = {.tier = JAIL_FULL}, some = {.tier = JAIL_RESTRICTED};
    const struct jail_host poor = {.why_tier = "namespaces: clone"};
    assert_null(jail_new(&full, &poor, 1, 1, &err));
    assert_int_equal(err.code, ERR_BUSY);
    assert_non_null(strstr(err.msg, "namespaces: clone"));
    assert_null(jail_new(&some, &poor, 1, 1, &err));
    assert_int_equal(err.code, ERR_BUSY);
}

static void what_is_missing_has_a_reason(void **state)
{
    (void)state;
    for (int i = 0; i < JAIL_FEATURE_COUNT; i++) {
        print_message("%s: %s\n", jail_feature_name((enum jail_feature)i),
                      host.has[i] ? "there" : host.why[i]);
        assert_true(host.has[i] || host.why[i][0]);
    }
    assert_true(host.tier == JAIL_FULL || host.why_tier[0]);
}

/* --- a child that enters by itself ---------------------------------------------------------- */

/* Tries what Python runs may not, as one that is not trusted would. */
static _Noreturn void untrusted(int out)
{
    char text[64];
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    int socket_errno = fd < 0 ? errno : 0;
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    int fork_errno = pid < 0 ? errno : 0;
    int house = access("/root", F_OK) == 0 || access("/proc/self", F_OK) == 0;
    int n = snprintf(text, sizeof(text), "pid %d uid %d socket %d fork %d house %d", (int)getpid(),
                     (int)getuid(), socket_errno, fork_errno, house);
    (void)!write(out, text, (size_t)n);
    _exit(7);
}

static void a_zygotes_child_enters_by_itself(void **state)
{
    struct err err = ERR_INIT;
    int ends[2], status;
    char text[128] = "";
    (void)state;
    if (host.tier < JAIL_FULL)
        SKIP_BECAUSE("this host has no tier full: %s", host.why_tier);
    const struct jail_policy policy = {.tier = JAIL_FULL,
                                       .net = host.has[JAIL_HAS_NET] ? JAIL_NET_OWN : JAIL_NET_HOST,
                                       .filter = JAIL_FILTER_PYTHON,
                                       .no_proc = 1,
                                       .memory_mb = 128,
                                       .pids_max = 8};
    AUTO(jail) struct jail *jail = jail_new(&policy, &host, 65534, 65534, &err);
    OK(jail, &err);
    OK(jail_open(jail, "zygote", &err) == 0, &err);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = (pid_t)syscall(SYS_clone, jail_clone_flags(jail) | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        if (jail_build(jail, NULL, &err) || jail_shut(jail, &err)) {
            (void)!write(ends[1], err.msg, strlen(err.msg));
            _exit(1);
        }
        untrusted(ends[1]);
    }
    OK(jail_parent(jail, pid, &err) == 0, &err);
    close(ends[1]);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    AUTO(str)
    char *expected = textf("pid 1 uid %d socket %d fork %d house 0",
                           host.has[JAIL_HAS_USER] ? 65534 : (int)getuid(), EPERM, EPERM);
    assert_string_equal(text, expected);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(jail_look(jail, pid, NULL), 0);
    jail_close(jail);
}

/* --- looks that are ended ------------------------------------------------------------------- */

/* Whoever ends a tree does not wait for a look at it, which the tree can make long. */
static void a_look_ends_when_somebody_calls(void **state)
{
    static char block[3u << 20];
    struct err err = ERR_INIT;
    int calls[2];
    (void)state;
    struct jail_policy policy = {.tier = JAIL_NONE, .disk_mb = 1};
    char *dir = tmp_dir_new();
    AUTO(str) char *path = textf("%s/big", dir);
    AUTO(fd) int big = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(write(big, block, sizeof(block)) == (ssize_t)sizeof(block));
    assert_int_equal(pipe2(calls, O_CLOEXEC), 0);
    strlist_add(&policy.counted, dir);
    AUTO(jail) struct jail *jail = jail_new(&policy, &host, getuid(), getgid(), &err);
    OK(jail, &err);
    OK(jail_open(jail, "look", &err) == 0, &err);
    const struct jail_stop called = {.fd = calls[0], .until_ms = INT64_MAX};
    const struct jail_stop late = {.fd = -1, .until_ms = clock_mono_ms() - 1};
    assert_int_equal(write(calls[1], "k", 1), 1);
    assert_int_equal(jail_look(jail, getpid(), &called), 0);
    assert_int_equal(jail_look(jail, getpid(), &late), 0);
    assert_int_equal(read(calls[0], block, 1), 1);
    assert_int_equal(jail_look(jail, getpid(), &called), JAIL_DISK);
    jail_close(jail);
    close(calls[0]);
    close(calls[1]);
    strlist_done(&policy.counted);
    tmp_dir_free(dir);
}

/* --- sockets ----------------------------------------------------------------- */

static bool may_have_socket(unsigned long family, unsigned type, unsigned long protocol)
{
    bool internet = family == AF_INET || family == AF_INET6;
    bool known = protocol == 0 || protocol == IPPROTO_ICMP || protocol == IPPROTO_TCP ||
                 protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6;
    return family == AF_UNIX || (internet && known && (type == SOCK_STREAM || type == SOCK_DGRAM));
}

/* Asks for one socket; the answer, or -1, must be the filter's exactly when it may not be had. */
static void try_socket(int out, unsigned long family, unsigned type, unsigned long protocol)
{
    long fd = syscall(SYS_socket, family, type, protocol);
    bool denied = fd < 0 && errno == EPERM;
    if (fd >= 0)
        close((int)fd);
    if (denied == may_have_socket(family, type, protocol))
        dprintf(out, "family %lx type %x protocol %lx: %s\n", family, type, protocol,
                denied ? "denied" : "allowed");
}

static _Noreturn void try_all_sockets(int out)
{
    static const unsigned long families[] = {AF_INET, AF_INET6};
    static const unsigned long high[] = {0, 1UL << 31, 1UL << 32, 1UL << 63};
    for (unsigned long family = 0; family < 300; family++)
        for (size_t i = 0; i < COUNT_OF(high); i++)
            try_socket(out, family | high[i], SOCK_STREAM, 0);
    for (size_t i = 0; i < COUNT_OF(families); i++)
        for (unsigned type = 0; type < 16; type++)
            for (unsigned long protocol = 0; protocol < 300; protocol++)
                for (size_t k = 0; k < COUNT_OF(high); k++)
                    try_socket(out, families[i], type, protocol | high[k]);
    _exit(0);
}

static void sockets_are_of_few_families_types_and_protocols(void **state)
{
    struct err err = ERR_INIT;
    int ends[2], status;
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    (void)state;
    if (host.tier < JAIL_FULL)
        SKIP_BECAUSE("this host has no tier full: %s", host.why_tier);
    const struct jail_policy policy = {.tier = JAIL_FULL, .filter = JAIL_FILTER_TASK};
    AUTO(jail) struct jail *jail = jail_new(&policy, &host, 65534, 65534, &err);
    OK(jail, &err);
    OK(jail_open(jail, "sockets", &err) == 0, &err);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = (pid_t)syscall(SYS_clone, jail_clone_flags(jail) | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        if (jail_build(jail, NULL, &err) || jail_shut(jail, &err))
            dprintf(ends[1], "%s", err.msg);
        else
            try_all_sockets(ends[1]);
        _exit(1);
    }
    OK(jail_parent(jail, pid, &err) == 0, &err);
    close(ends[1]);
    OK(fd_read_all(ends[0], &text, &err) == 0, &err);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string_equal(buf_str(&text), "");
    assert_int_equal(status, 0);
    jail_close(jail);
}

/* --- templates --------------------------------------------------------------- */

/* What a file holds for whoever is in a jail of this policy; *ret_joined: by a template. */
static char *read_mounted(const struct jail_policy *policy, const struct strlist *mounts,
                          const char *path, bool *ret_joined)
{
    struct err err = ERR_INIT;
    int ends[2], status;
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    AUTO(buf) struct buf plan = BUF_INIT(65536);
    AUTO(jail) struct jail *jail = jail_new(policy, &host, 65534, 65534, &err);
    OK(jail, &err);
    OK(jail_open(jail, "template", &err) == 0, &err);
    jail_print(jail, &plan);
    *ret_joined = strstr(buf_str(&plan), " template\n") != NULL;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = (pid_t)syscall(SYS_clone, jail_clone_flags(jail) | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        if (jail_build(jail, mounts, &err) || jail_shut(jail, &err))
            _exit(1);
        int fd = open(path, O_RDONLY);
        _exit(fd < 0 || fd_read_all(fd, &text, &err) ||
              fd_write_all(ends[1], buf_str(&text), text.len));
    }
    OK(jail_parent(jail, pid, &err) == 0, &err);
    close(ends[1]);
    OK(fd_read_all(ends[0], &text, &err) == 0, &err);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    jail_close(jail);
    return strdup(buf_str(&text));
}

static char *read_inside(const struct jail_policy *policy, const char *path, bool *ret_joined)
{
    return read_mounted(policy, NULL, path, ret_joined);
}

/* Lines of mountinfo without the numbers of mounts and devices, in the order of their places. */
static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *mounts_of(const char *mountinfo)
{
    char *lines[256] = {0}, *save = NULL;
    size_t count = 0;
    AUTO(buf) struct buf sorted = BUF_INIT(1u << 20);
    AUTO(str) char *text = strdup(mountinfo);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char root[256], place[256], options[256];
        assert_int_equal(sscanf(line, "%*d %*d %*s %255s %255s %255s", root, place, options), 3);
        assert_true(count < COUNT_OF(lines));
        lines[count++] = textf("%s %s %s", place, root, options);
    }
    qsort(lines, count, sizeof(lines[0]), compare_lines);
    for (size_t i = 0; i < count; i++) {
        buf_addf(&sorted, "%s\n", lines[i]);
        free(lines[i]);
    }
    return strdup(buf_str(&sorted));
}

static bool has_full_as_root(void)
{
    return host.tier == JAIL_FULL && host.root;
}

/* A shape that was never seen is made by its steps, and by a template the next time. */
static bool is_same_by_template(int attempt)
{
    bool first, second;
    AUTO(str) char *hostname = textf("unseen-%d", attempt);
    struct jail_policy policy = {.tier = JAIL_FULL, .hostname = hostname};
    bind_path(&policy, "rw", "/var/tmp", "/workspace");
    bind_path(&policy, "ro", "/usr/bin/env", "/own/program");
    AUTO(str) char *steps_text = read_inside(&policy, "/proc/self/mountinfo", &first);
    AUTO(str) char *joined_text = read_inside(&policy, "/proc/self/mountinfo", &second);
    AUTO(str) char *steps = mounts_of(steps_text);
    AUTO(str) char *template = mounts_of(joined_text);
    strlist_done(&policy.binds);
    assert_false(first);
    assert_non_null(strstr(steps, "/own/program"));
    return second && strcmp(steps, template) == 0;
}

static void a_template_makes_what_the_steps_make(void **state)
{
    int attempt = 0;
    (void)state;
    if (!has_full_as_root())
        SKIP_BECAUSE("this host has no tier full made as root");
    /* the host's packages may change in between */
    while (!is_same_by_template(attempt))
        assert_true(++attempt < 20);
}

static void what_is_mounted_for_a_jail_is_seen_by_it_alone(void **state)
{
    struct err err = ERR_INIT;
    bool joined;
    (void)state;
    if (!has_full_as_root())
        SKIP_BECAUSE("this host has no tier full made as root");
    char *dir = tmp_dir_new();
    struct jail_policy policy = {.tier = JAIL_FULL, .hostname = (char[]){"has-mounts"}};
    struct strlist mounts = STRLIST_INIT;
    AUTO(buf) struct buf own = BUF_INIT(1u << 20);
    bind_path(&policy, "rw", dir, "/workspace");
    strlist_add(&mounts, "tmpfs");
    strlist_add(&mounts, dir);
    strlist_add(&mounts, "size=7340032");
    for (joined = false; !joined;) { /* by the steps, and by a template */
        AUTO(str)
        char *inside = read_mounted(&policy, &mounts, "/proc/self/mountinfo", &joined);
        assert_non_null(strstr(inside, "size=7168k"));
        assert_null(strstr(inside, dir));
    }
    AUTO(fd) int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    OK(fd_read_all(fd, &own, &err) == 0, &err);
    assert_null(strstr(buf_str(&own), dir));
    strlist_done(&policy.binds);
    strlist_done(&mounts);
    tmp_dir_free(dir);
}

/* In a mount namespace of its own: 0 when all was seen. */
static int see_changes(void)
{
    bool joined = false;
    const struct jail_policy policy = {.tier = JAIL_FULL};
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return 1;
    for (int i = 0; i < 2 && !joined; i++)
        free(read_inside(&policy, "/proc/self/mountinfo", &joined));
    if (mount("tmpfs", "/etc", "tmpfs", 0, NULL))
        return 2;
    write_file("/etc/wgetrc", "first", 0644);
    AUTO(str) char *mounted = read_inside(&policy, "/etc/wgetrc", &joined);
    if (strcmp(mounted, "first") != 0 || !joined)
        return 3;
    write_file("/etc/new", "second", 0644);
    if (rename("/etc/new", "/etc/wgetrc"))
        return 4;
    for (int i = 0; i < 3000; i++) {
        AUTO(str) char *replaced = read_inside(&policy, "/etc/wgetrc", &joined);
        if (strcmp(replaced, "second") == 0)
            return 0;
    }
    return 5;
}

static void a_jail_sees_what_was_mounted_or_replaced_before_it(void **state)
{
    int status;
    (void)state;
    if (!has_full_as_root())
        SKIP_BECAUSE("this host has no tier full made as root");
    pid_t pid = fork();
    if (pid == 0)
        _exit(see_changes());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- a kernel that sets fewer limits -------------------------------------------------------- */

/* Acts like gVisor, where these limits are low and whoever sets one is refused. */
static bool freeze_limits(void)
{
    static const struct rlimit low = {0, 0};
    enum { NR = offsetof(struct seccomp_data, nr), ARGS = offsetof(struct seccomp_data, args) };
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGS + 16), /* the new value's address */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGS + 8),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, RLIMIT_SIGPENDING, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {COUNT_OF(filter), filter};
    for (int i = RLIMIT_SIGPENDING; i <= RLIMIT_RTPRIO; i++)
        if (setrlimit((__rlimit_resource_t)i, &low))
            return false;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
           setrlimit(RLIMIT_NICE, &low) && errno == EPERM;
}

static void limits_that_are_low_are_not_set_again(void **state)
{
    int status;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct jail_host frozen;
        if (!freeze_limits())
            _exit(1);
        jail_probe(&frozen);
        if (frozen.tier != host.tier)
            print_error("%s, for %s\n", jail_tier_name((enum jail_tier)frozen.tier),
                        frozen.why_tier);
        _exit(frozen.tier == host.tier ? 0 : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_shows_outer_places_before_those_in_them),
        cmocka_unit_test(a_place_of_the_policy_takes_that_of_a_private_one),
        cmocka_unit_test(a_place_below_var_tmp_can_be_shown),
        cmocka_unit_test(a_policy_without_sense_is_refused_by_name),
        cmocka_unit_test(a_tier_that_the_host_lacks_is_refused_and_not_weakened),
        cmocka_unit_test(what_is_missing_has_a_reason),
        cmocka_unit_test(a_zygotes_child_enters_by_itself),
        cmocka_unit_test(a_look_ends_when_somebody_calls),
        cmocka_unit_test(sockets_are_of_few_families_types_and_protocols),
        cmocka_unit_test(a_template_makes_what_the_steps_make),
        cmocka_unit_test(what_is_mounted_for_a_jail_is_seen_by_it_alone),
        cmocka_unit_test(a_jail_sees_what_was_mounted_or_replaced_before_it),
        cmocka_unit_test(limits_that_are_low_are_not_set_again),
    };
    jail_probe(&host);
    return cmocka_run_group_tests_name("jail", tests, NULL, NULL);
}
