/* Turns a policy into a plan: what will be done, step by step. Touches nothing but memory. */
#include "jail/jail_private.h"

#include "base/check.h"
#include "base/str.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TMP_MB 64
#define FILES_MAX 4096

static const char *const tier_names[] = {
    [JAIL_NONE] = "none", [JAIL_RESTRICTED] = "restricted", [JAIL_FULL] = "full"};
static const char *const group_names[] = {
    [JAIL_GROUPS_NONE] = "none", [JAIL_GROUPS_V1] = "v1", [JAIL_GROUPS_V2] = "v2"};
static const char *const feature_names[] = {
#define JAIL_WORD(name, word) [name] = word,
    JAIL_FEATURES(JAIL_WORD)
#undef JAIL_WORD
};

const char *jail_tier_name(enum jail_tier tier)
{
    REQUIRE((unsigned)tier <= JAIL_FULL);
    return tier_names[tier];
}

const char *jail_groups_name(enum jail_groups groups)
{
    return group_names[groups];
}

const char *jail_feature_name(enum jail_feature feature)
{
    REQUIRE((unsigned)feature < JAIL_FEATURE_COUNT);
    return feature_names[feature];
}

int jail_fail(struct err *err, const char *fmt, ...)
{
    int sys = errno;
    va_list ap;
    *err = (struct err){.code = ERR_INTERNAL, .sys = sys};
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    return -1;
}

void jail_policy_done(struct jail_policy *policy)
{
    strlist_done(&policy->binds);
    strlist_done(&policy->hidden);
    strlist_done(&policy->counted);
    free(policy->hostname);
    policy->hostname = NULL;
}

/* What every program needs to run, where the host has it. No file here may hold a secret that its
 * permissions do not protect. */
const char *const system_paths[] = {
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/gitconfig",
    "/etc/gnutls",
    "/etc/host.conf",
    "/etc/inputrc",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/login.defs",
    "/etc/lsb-release",
    "/etc/magic",
    "/etc/maven",
    "/etc/mime.types",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/npmrc",
    "/etc/perl",
    "/etc/pip.conf",
    "/etc/pki",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/resolv.conf",
    "/etc/rpc",
    "/etc/services",
    "/etc/shells",
    "/etc/skel",
    "/etc/ssh/ssh_config",
    "/etc/ssh/ssh_config.d",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssl",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/wgetrc",
    "/etc/xdg",
    NULL,
};

const char *const system_devices[] = {"null", "zero", "full", "random", "urandom", "tty", NULL};

/* --- steps --------------------------------------------------------------------------------- */

static int add_step(struct jail *jail, struct step step, const char *from, const char *to)
{
    if (jail->step_count == jail->step_room) {
        size_t room = jail->step_room ? 2 * jail->step_room : 96;
        struct step *steps = realloc(jail->steps, room * sizeof(*steps));
        if (!steps)
            return -1;
        jail->steps = steps;
        jail->step_room = room;
    }
    step.from = from ? strdup(from) : NULL;
    step.to = strdup(to + (*to == '/'));
    jail->steps[jail->step_count++] = step;
    return step.to && (step.from || !from) ? 0 : -1;
}

/* True for libraries, and for what the dynamic linker and the C library read. */
static bool is_bare(const char *path)
{
    static const char *const etc[] = {"/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"};
    for (size_t i = 0; i < COUNT_OF(etc); i++)
        if (strcmp(path, etc[i]) == 0)
            return true;
    return strncmp(path, "/etc/", 5) != 0 && strcmp(path, "/opt") != 0;
}

static int add_system(struct jail *jail)
{
    static const char names[] = "/etc/resolv.conf";
    const bool gate = jail_gate(jail) != NULL;
    const char *server = jail->net == JAIL_NET_PROXY ? "nameserver 127.0.0.1\n"
                                                     : "nameserver " JAIL_GATE_SERVER "\n";
    for (size_t i = 0; system_paths[i]; i++) {
        if ((jail->policy.bare && !is_bare(system_paths[i])) ||
            (gate && strcmp(system_paths[i], names) == 0))
            continue;
        const struct step step = {
            .kind = STEP_BIND, .read_only = true, .optional = true, .common = true};
        if (add_step(jail, step, system_paths[i], system_paths[i]))
            return -1;
    }
    return gate ? add_step(jail, (struct step){.kind = STEP_FILE, .common = true}, server, names)
                : 0;
}

static int add_text(struct jail *jail, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int add_text(struct jail *jail, const char *path, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return add_step(jail, (struct step){.kind = STEP_FILE, .common = true}, text, path);
}

/* Adds the user database: the task's user, and the owner of everything else. */
static int add_names(struct jail *jail)
{
    const char *host = jail->policy.hostname ? jail->policy.hostname : "jail";
    unsigned uid = (unsigned)jail->uid, gid = (unsigned)jail->gid;
    const char *other = uid == 65534 ? "" : "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
    const char *others = gid == 65534 ? "" : "nogroup:x:65534:\n";
    return add_text(jail, "/etc/passwd",
                    "root:x:0:0:root:/root:/bin/bash\nuser:x:%u:%u:user:/home/user:/bin/bash\n%s",
                    uid, gid, other) ||
                   add_text(jail, "/etc/group", "root:x:0:\nuser:x:%u:\n%s", gid, others) ||
                   add_text(jail, "/etc/hosts",
                            "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 %s\n",
                            host) ||
                   add_text(jail, "/etc/hostname", "%s\n", host)
               ? -1
               : 0;
}

static int add_devices(struct jail *jail)
{
    char outside[32];
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"},
                                           {"pts/ptmx", "/dev/ptmx"}};
    for (size_t i = 0; system_devices[i]; i++) {
        snprintf(outside, sizeof(outside), "/dev/%s", system_devices[i]);
        const struct step step = {.kind = STEP_DEVICE, .optional = true, .common = true};
        if (add_step(jail, step, outside, outside))
            return -1;
    }
    for (size_t i = 0; i < COUNT_OF(links); i++)
        if (add_step(jail, (struct step){.kind = STEP_LINK, .common = true}, links[i][0],
                     links[i][1]))
            return -1;
    return jail->filter == JAIL_FILTER_PYTHON
               ? 0
               : add_step(jail, (struct step){.kind = STEP_PTS}, NULL, "/dev/pts");
}

static bool is_bound(const struct jail_policy *policy, const char *inside)
{
    for (size_t i = 2; i < policy->binds.count; i += 3)
        if (strcmp(policy->binds.items[i], inside) == 0)
            return true;
    return false;
}

static bool is_bound_below(const struct jail_policy *policy, const char *inside)
{
    size_t len = strlen(inside);
    for (size_t i = 2; i < policy->binds.count; i += 3)
        if (strncmp(policy->binds.items[i], inside, len) == 0 && policy->binds.items[i][len] == '/')
            return true;
    return false;
}

/* Adds private directories in memory, unless the policy puts something there. */
static int add_scratch(struct jail *jail)
{
    static const char *const places[] = {"/tmp", "/dev/shm"};
    char options[80];
    int mb = jail->policy.tmp_mb > 0 ? jail->policy.tmp_mb : TMP_MB;
    snprintf(options, sizeof(options), "size=%dm,nr_inodes=%d,mode=1777", mb, mb * 256);
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (!is_bound(&jail->policy, places[i]) &&
            add_step(jail, (struct step){.kind = STEP_TMPFS}, options, places[i]))
            return -1;
    if (jail->tier != JAIL_FULL)
        return 0;
    /* A path below a link cannot be bound: the link is not followed. */
    if (!is_bound(&jail->policy, "/var/tmp") && !is_bound_below(&jail->policy, "/var/tmp") &&
        add_step(jail, (struct step){.kind = STEP_LINK, .common = true}, "/tmp", "/var/tmp"))
        return -1;
    return add_step(jail, (struct step){.kind = STEP_DIR, .common = true}, NULL, "/run");
}

static int depth_of(const char *path)
{
    int depth = 0;
    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

#define DEPTH_MAX 64

/* Adds what belongs at one depth: first what must be hidden, so that it does not cover a path that
 * the policy shows there. */
static int add_at_depth(struct jail *jail, int depth)
{
    const struct strlist *hidden = &jail->policy.hidden;
    const struct step cover = {.kind = STEP_TMPFS, .read_only = true, .optional = true};
    char *const *at = jail->policy.binds.items;
    for (size_t i = 0; i < hidden->count; i++)
        if (depth_of(hidden->items[i]) == depth &&
            add_step(jail, cover, "size=4k,nr_inodes=2,mode=555", hidden->items[i]))
            return -1;
    for (size_t i = 0; i < jail->policy.binds.count; i += 3) {
        const struct step link = {.kind = STEP_LINK, .optional = true};
        const struct step bind = {
            .kind = STEP_BIND, .read_only = at[i][1] == 'o', .optional = at[i][2] == '?'};
        if (depth_of(at[i + 2]) == depth &&
            add_step(jail, at[i][0] == 'l' ? link : bind, at[i + 1], at[i + 2]))
            return -1;
    }
    return 0;
}

/* Adds outer paths before those inside them. */
static int add_binds(struct jail *jail)
{
    for (int depth = 1; depth <= DEPTH_MAX; depth++)
        if (add_at_depth(jail, depth))
            return -1;
    return 0;
}

/* --- checking ------------------------------------------------------------------------------ */

static bool is_plain_path(const char *path)
{
    if (*path != '/' || !path[1])
        return false;
    for (const char *part = path; part; part = strchr(part + 1, '/')) {
        size_t len = strcspn(part + 1, "/");
        if (len == 0 || (len == 1 && part[1] == '.') ||
            (len == 2 && strncmp(part + 1, "..", 2) == 0))
            return false;
    }
    return true;
}

static int check_binds(const struct jail_policy *policy, struct err *err)
{
    static const char *const modes[] = {"ro", "rw", "ro?", "rw?", "ln"};
    char *const *at = policy->binds.items;
    if (policy->binds.count % 3)
        return err_set(err, ERR_INVALID, "jail: binds come in threes");
    for (size_t i = 0; i < policy->binds.count; i += 3) {
        bool known = false;
        for (size_t m = 0; m < COUNT_OF(modes); m++)
            known |= strcmp(at[i], modes[m]) == 0;
        if (!known)
            return err_set(err, ERR_INVALID, "jail: a bind is 'ro', 'rw' or 'ln', not '%.20s'",
                           at[i]);
        for (int k = 1; k <= 2; k++)
            if (!is_plain_path(at[i + k]))
                return err_set(err, ERR_INVALID, "jail: '%.100s' is no whole path", at[i + k]);
        if (depth_of(at[i + 2]) > DEPTH_MAX)
            return err_set(err, ERR_INVALID, "jail: '%.100s' is too deep", at[i + 2]);
        if (policy->tier == JAIL_RESTRICTED && strcmp(at[i + 1], at[i + 2]) != 0)
            return err_set(err, ERR_INVALID, "jail: nothing moves in tier restricted: '%.100s'",
                           at[i + 2]);
    }
    return 0;
}

static int check_numbers(const struct jail_policy *policy, struct err *err)
{
    const struct {
        const char *name;
        int value, max;
    } numbers[] = {
        {"tier", policy->tier, JAIL_FULL},
        {"net", policy->net, JAIL_NET_PROXY},
        {"filter", policy->filter, JAIL_FILTER_PYTHON},
        {"tmp_mb", policy->tmp_mb, 1 << 20},
        {"memory_mb", policy->memory_mb, 1 << 24},
        {"pids_max", policy->pids_max, 1 << 22},
        {"cpu_percent", policy->cpu_percent, 1 << 20},
        {"disk_mb", policy->disk_mb, 1 << 30},
        {"disk_more_mb", policy->disk_more_mb, 1 << 30},
        {"file_mb", policy->file_mb, 1 << 30},
        {"files_max", policy->files_max, 1 << 20},
    };
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        if (numbers[i].value < 0 || numbers[i].value > numbers[i].max)
            return err_set(err, ERR_INVALID, "jail: %s must be 0..%d, got %d", numbers[i].name,
                           numbers[i].max, numbers[i].value);
    return 0;
}

static int check(const struct jail_policy *policy, const struct jail_host *host, struct err *err)
{
    if (check_numbers(policy, err) || check_binds(policy, err))
        return -1;
    if (policy->tier == JAIL_FULL && host->tier < JAIL_FULL)
        return err_set(err, ERR_BUSY, "jail: this host has no tier full: %s", host->why_tier);
    if (policy->tier == JAIL_RESTRICTED && !host->has[JAIL_HAS_FILTER])
        return err_set(err, ERR_BUSY, "jail: this host has no tier restricted: %s",
                       host->why[JAIL_HAS_FILTER]);
    if (policy->net == JAIL_NET_GATE && !host->has[JAIL_HAS_GATE])
        return err_set(err, ERR_BUSY, "jail: no gate: %s", host->why[JAIL_HAS_GATE]);
    if (policy->net == JAIL_NET_PROXY && !host->has[JAIL_HAS_PROXY])
        return err_set(err, ERR_BUSY, "jail: no proxy: %s", host->why[JAIL_HAS_PROXY]);
    if (policy->net != JAIL_NET_HOST && (policy->tier != JAIL_FULL || !host->has[JAIL_HAS_NET]))
        return err_set(err, ERR_BUSY, "jail: no network of its own: %s",
                       policy->tier != JAIL_FULL ? "that takes tier full"
                                                 : host->why[JAIL_HAS_NET]);
    if (policy->counted.count > COUNT_OF(((struct disk *)0)->fds))
        return err_set(err, ERR_INVALID, "jail: too many counted directories");
    return 0;
}

/* --- the plan ------------------------------------------------------------------------------ */

static int copy_list(struct strlist *to, const struct strlist *from)
{
    for (size_t i = 0; i < from->count; i++)
        strlist_add(to, from->items[i]);
    return to->failed ? -1 : 0;
}

static int copy_policy(struct jail_policy *to, const struct jail_policy *from)
{
    *to = *from;
    to->binds = to->hidden = to->counted = (struct strlist)STRLIST_INIT;
    to->hostname = from->hostname ? strdup(from->hostname) : NULL;
    return copy_list(&to->binds, &from->binds) || copy_list(&to->hidden, &from->hidden) ||
                   copy_list(&to->counted, &from->counted) || (from->hostname && !to->hostname)
               ? -1
               : 0;
}

static int fill(struct jail *jail, const struct jail_policy *policy)
{
    if (copy_policy(&jail->policy, policy))
        return -1;
    if (jail->tier == JAIL_RESTRICTED && jail->namespaces &&
        !jail->host.no_view) /* Needs a read-only view of the host's own root. */
        return add_scratch(jail) || add_step(jail, (struct step){.kind = STEP_PROC}, NULL, "/proc")
                   ? -1
                   : 0;
    if (jail->tier != JAIL_FULL)
        return 0;
    if (add_system(jail) || add_names(jail) || add_devices(jail) || add_scratch(jail))
        return -1;
    if (!policy->no_proc && add_step(jail, (struct step){.kind = STEP_PROC}, NULL, "/proc"))
        return -1;
    return add_binds(jail);
}

struct jail *jail_new(const struct jail_policy *policy, const struct jail_host *host, uid_t uid,
                      gid_t gid, struct err *err)
{
    if (check(policy, host, err))
        return NULL;
    AUTO(jail) struct jail *jail = calloc(1, sizeof(*jail));
    if (!jail) {
        err_sys(err, "jail");
        return NULL;
    }
    *jail = (struct jail){.tier = (enum jail_tier)policy->tier,
                          .net = (enum jail_net)policy->net,
                          .filter = (enum jail_filter)policy->filter,
                          .host = *host,
                          .namespaces = host->has[JAIL_HAS_NAMESPACES],
                          .becomes = host->has[JAIL_HAS_USER],
                          .uid = host->has[JAIL_HAS_USER] ? uid : host->uid,
                          .gid = host->has[JAIL_HAS_USER] ? gid : host->gid,
                          .template_ns = -1,
                          .handshake = {-1, -1},
                          .gate = {-1, -1}};
    group_init(&jail->group);
    jail->user_first = jail->namespaces && !host->root;
    jail->maps_itself = jail->user_first && !host->has[JAIL_HAS_USER];
    if (fill(jail, policy)) {
        err_sys(err, "jail");
        return NULL;
    }
    return STEAL_PTR(jail);
}

void jail_free(struct jail *jail)
{
    if (!jail)
        return;
    jail_release(jail);
    group_free(&jail->group);
    for (size_t i = 0; i < jail->step_count; i++) {
        free(jail->steps[i].from);
        free(jail->steps[i].to);
    }
    free(jail->steps);
    jail_policy_done(&jail->policy);
    free(jail);
}

unsigned long jail_clone_flags(const struct jail *jail)
{
    unsigned long flags = 0;
    if (!jail->namespaces)
        return 0;
    flags |= CLONE_NEWPID;
    if (jail->template_ns < 0)
        flags |= CLONE_NEWNS; /* else jail_build() enters one */
    if (jail->user_first)
        flags |= CLONE_NEWUSER;
    if (jail->tier != JAIL_NONE)
        flags |= CLONE_NEWIPC | CLONE_NEWUTS;
    if (jail->net != JAIL_NET_HOST)
        flags |= CLONE_NEWNET;
    return flags;
}

bool jail_holds_tree(const struct jail *jail)
{
    return jail->namespaces;
}

void jail_print(const struct jail *jail, struct buf *out)
{
    REQUIRE(jail && out);
    static const char *const words[] = {
        [STEP_DIR] = "dir",     [STEP_LINK] = "link", [STEP_FILE] = "file",
        [STEP_TMPFS] = "tmpfs", [STEP_BIND] = "bind", [STEP_DEVICE] = "device",
        [STEP_PROC] = "proc",   [STEP_PTS] = "pts"};
    buf_addf(out, "tier %s uid %u gid %u%s%s%s%s\n", jail_tier_name(jail->tier),
             (unsigned)jail->uid, (unsigned)jail->gid, jail->namespaces ? " namespaces" : "",
             jail->user_first ? " user-first" : "", jail->template_ns >= 0 ? " template" : "",
             jail->net == JAIL_NET_OWN     ? " net"
             : jail->net == JAIL_NET_GATE  ? " gate"
             : jail->net == JAIL_NET_PROXY ? " proxy"
                                           : "");
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        buf_addf(out, "%s /%s", words[step->kind], step->to);
        if (step->from && step->kind != STEP_FILE)
            buf_addf(out, " %s", step->from);
        buf_addf(out, "%s%s\n", step->read_only ? " ro" : "", step->optional ? " optional" : "");
    }
}
