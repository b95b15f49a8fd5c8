#include "git/lib.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

int lib_start(struct err *err)
{
    static const git_config_level_t outside[] = {GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG,
                                                 GIT_CONFIG_LEVEL_GLOBAL,
                                                 GIT_CONFIG_LEVEL_PROGRAMDATA};
    if (git_load(err))
        return -1;
    if (git_libgit2_init() < 0)
        return lib_err(err, "cannot start libgit2");
    for (size_t i = 0; i < COUNT_OF(outside); i++)
        git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, outside[i], "");
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 1);
    return 0;
}

int lib_err(struct err *err, const char *what)
{
    int sys = errno;
    const git_error *last = git_error_last();
    const char *said = last && last->message ? last->message : "no reason given";
    enum err_code code = ERR_INTERNAL;
    if (strstr(said, "No space left") || strstr(said, "quota exceeded") || sys == EFBIG)
        code = ERR_NO_SPACE;
    else if (last && (last->klass == GIT_ERROR_ODB || last->klass == GIT_ERROR_ZLIB ||
                      last->klass == GIT_ERROR_OBJECT || last->klass == GIT_ERROR_INDEXER ||
                      last->klass == GIT_ERROR_SHA1 || last->klass == GIT_ERROR_REFERENCE ||
                      last->klass == GIT_ERROR_REPOSITORY))
        code = ERR_MISMATCH;
    err_set(err, code, "%s: %.180s", what, said);
    for (char *at = err->msg; *at; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    return -1;
}

int lib_act_for(uid_t uid, gid_t gid, struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    if (geteuid() != 0)
        return 0;
    setfsgid(gid);
    setfsuid(uid);
    if (uid == 0)
        return 0;
    if (syscall(SYS_capget, &head, caps))
        return err_sys(err, "capabilities");
    caps[0].effective |= caps[0].permitted; /* Leaving uid 0 removed the capabilities for files. */
    if (syscall(SYS_capset, &head, caps) || setfsuid(uid) != (int)uid)
        return err_sys(err, "cannot act for uid %u", (unsigned)uid);
    return 0;
}
