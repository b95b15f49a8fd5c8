/* Finds out how this host can make workspaces, by making some. */
#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "runner/repo/repo_private.h"
#include "runner/work/work.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PROBE_MS 10000

/* The best options first. volatile: a workspace that dies with its task needs no syncing, and
 * without it an unmount syncs the whole disk. redirect_dir: directories of the tree can be
 * renamed. */
static const struct {
    bool root; /* mounted by root, else in a user namespace */
    const char *options;
} variants[] = {
    {true, "index=off,redirect_dir=on,metacopy=off,volatile"},
    {true, "index=off,redirect_dir=on,metacopy=off"},
    {true, "index=off"},
    {false, "index=off,userxattr,volatile"},
    {false, "index=off,userxattr"},
};

void repos_add_overlay_path(struct buf *out, const char *path)
{
    for (; *path; path++) {
        if (strchr("\\:,", *path))
            buf_addc(out, '\\');
        buf_addc(out, *path);
    }
}

static int make_dirs(const struct repos *repos, const char *top, struct err *err)
{
    static const char *const names[] = {"lower", "upper", "work", "seen"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        AUTO(str) char *path = path_join(top, names[i]);
        if (!path || path_make_dirs(path, 0755, err) ||
            path_own(path, repos->config.uid, repos->config.gid, err))
            return -1;
    }
    AUTO(str) char *mark = path_join(top, "lower/mark");
    return mark ? file_replace(mark, "x", 1, 0644, err) : -1;
}

static int fill_plan(const struct repos *repos, const char *top, const char *options,
                     struct plan *plan)
{
    static const char *const parts[] = {
        "lowerdir=", "/lower,upperdir=", "/upper,workdir=", "/work,"};
    AUTO(buf) struct buf data = BUF_INIT(65536);
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        buf_adds(&data, parts[i]);
        if (i + 1 < COUNT_OF(parts))
            repos_add_overlay_path(&data, top);
    }
    buf_adds(&data, options);
    plan->uid = repos->config.uid;
    plan->gid = repos->config.gid;
    plan->cwd = strdup("/");
    strlist_add(&plan->argv, "/usr/bin/test");
    strlist_add(&plan->argv, "-e");
    strlist_addf(&plan->argv, "%s/seen/mark", top);
    strlist_add(&plan->mounts, "overlay");
    strlist_addf(&plan->mounts, "%s/seen", top);
    strlist_add(&plan->mounts, buf_str(&data));
    return plan->cwd && buf_ok(&data) ? 0 : -1;
}

static bool works(const struct repos *repos, const char *top, const char *options)
{
    struct err err;
    AUTO(plan) struct plan *plan = plan_new();
    struct work_result result;
    if (path_remove_tree(top, &err) || make_dirs(repos, top, &err) || !plan ||
        fill_plan(repos, top, options, plan))
        return false;
    const struct work_order order = {.launcher = repos->config.launcher,
                                     .plan = plan,
                                     .limits = {.until_ms = clock_mono_ms() + PROBE_MS},
                                     .at_once = true};
    return work_run(&order, &result, &err) == 0 && result.status == 0;
}

void overlay_probe(struct repos *repos)
{
    struct err ignored;
    const struct jail_host *host = launcher_host(repos->config.launcher);
    AUTO(str) char *top = path_join(repos->config.state_dir, "probe");
    for (size_t i = 0; top && !repos->overlay && i < COUNT_OF(variants); i++)
        if (host->has[JAIL_HAS_NAMESPACES] && variants[i].root == host->root &&
            works(repos, top, variants[i].options))
            repos->overlay = variants[i].options;
    if (top)
        path_remove_tree(top, &ignored);
}

void reflink_probe(struct repos *repos)
{
    static const char block[4096] = "x";
    AUTO(fd) int from = open(repos->config.state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    AUTO(fd) int to = open(repos->config.state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    repos->reflink = from >= 0 && to >= 0 && fd_write_all(from, block, sizeof(block)) == 0 &&
                     ioctl(to, FICLONE, from) == 0;
}
