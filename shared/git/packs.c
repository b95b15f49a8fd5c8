/*
 * The packs of a mirror. Each fetch adds one; many of them slow everything down.
 *
 * Theory of operation of a repack. Combining a big repository's packs takes minutes, and tasks must
 * not wait for it. So first, without the lock, everything that refs reach is packed into a separate
 * object directory (mirror/repack), which borrows from the mirror. Then, with the lock and if no
 * ref has changed meanwhile, that pack is moved in and the previous packs are removed. If refs have
 * changed, the objects that they reach may be in the old packs only: then git itself finds the
 * redundant packs, which is fast once the new one is there. Workspaces have hard links of the packs
 * they were made with.
 */
#include "git/git_private.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "git/program.h"
#include "git/refs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *tail)
{
    size_t len = strlen(text), n = strlen(tail);
    return len > n && strcmp(text + len - n, tail) == 0;
}

/* --- are they whole? ----------------------------------------------------------------------- */

/* True when a pack ends with the checksum that its index names. git checks no more when it opens a
 * pack; with a wrong one it works around it and complains in every workspace. */
static bool is_whole(const char *dir, const char *name)
{
    char path[4400];
    struct stat st;
    unsigned char ours[20], told[20];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    AUTO(fd) int pack = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path + strlen(path) - strlen(".pack"), 8, ".idx");
    AUTO(fd) int idx = open(path, O_RDONLY | O_CLOEXEC);
    if (pack < 0 || idx < 0 || fstat(pack, &st) || st.st_size < 32 ||
        fd_pread_full(pack, ours, 20, st.st_size - 20) != 20 || fstat(idx, &st) ||
        st.st_size < 40 || fd_pread_full(idx, told, 20, st.st_size - 40) != 20)
        return false;
    return memcmp(ours, told, 20) == 0;
}

bool packs_are_whole(const char *git_dir)
{
    struct dirent *entry;
    bool whole = true;
    AUTO(str) char *path = path_join(git_dir, "objects/pack");
    DIR *list = path ? opendir(path) : NULL;
    while (list && whole && (entry = readdir(list)))
        whole = !ends_with(entry->d_name, ".pack") || is_whole(path, entry->d_name);
    if (list)
        closedir(list);
    return whole;
}

static int list_packs(const char *packs, struct strlist *names, struct err *err)
{
    struct dirent *entry;
    DIR *list = opendir(packs);
    if (!list)
        return err_sys(err, "cannot list the packs");
    while ((entry = readdir(list)))
        if (ends_with(entry->d_name, ".pack"))
            strlist_addn(names, entry->d_name, strlen(entry->d_name) - strlen(".pack"));
    closedir(list);
    return names->failed ? err_set(err, ERR_TOO_LARGE, "too many packs") : 0;
}

bool packs_are_linked(const char *git_dir, const char *dir, const char *generation)
{
    static const char *const tails[] = {".pack", ".idx"};
    struct err ignored;
    bool linked = true;
    char packs[4200], path[4600];
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    snprintf(packs, sizeof(packs), "%s/objects/pack", git_dir);
    if (list_packs(packs, &names, &ignored))
        return false;
    for (size_t i = 0; linked && i < names.count * COUNT_OF(tails); i++) {
        snprintf(path, sizeof(path), "%s/refs-%s/.git/objects/pack/%s%s", dir, generation,
                 names.items[i / COUNT_OF(tails)], tails[i % COUNT_OF(tails)]);
        linked = access(path, F_OK) == 0;
    }
    return linked;
}

/* --- repacking ----------------------------------------------------------------------------- */

struct repack {
    const char *dir;
    char git_dir[4096];
    char side[4200];  /* the separate object directory */
    char packs[4200]; /* the pack directory of the mirror */
    struct strlist before;
    struct buf refs;
    int64_t deadline_ms;
};

static int run_git(const struct repack *repack, bool beside, const char *const words[],
                   struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(65536);
    AUTO(program) struct program program = {.secret_fd = -1, .deadline_ms = repack->deadline_ms};
    strlist_add(&program.argv, "git");
    strlist_addf(&program.argv, "--git-dir=%s", repack->git_dir);
    strlist_add(&program.argv, "-c");
    strlist_add(&program.argv, "pack.threads=1");
    for (; *words; words++)
        strlist_add(&program.argv, *words);
    program_add_environment(&program.env);
    if (beside) {
        strlist_addf(&program.env, "GIT_OBJECT_DIRECTORY=%s", repack->side);
        strlist_addf(&program.env, "GIT_ALTERNATE_OBJECT_DIRECTORIES=%s/objects", repack->git_dir);
    }
    return program_run(&program, &out, err);
}

/* Packs without the lock. */
static int pack_beside(struct repack *repack, struct err *err)
{
    char place[4300], base[4400];
    snprintf(place, sizeof(place), "%s/pack", repack->side);
    snprintf(base, sizeof(base), "%s/pack", place);
    const char *const words[] = {"pack-objects",
                                 "--quiet",
                                 "--all",
                                 "--non-empty",
                                 "--delta-base-offset",
                                 "--keep-true-parents",
                                 "--write-bitmap-index",
                                 base,
                                 NULL};
    if (path_remove_tree(repack->side, err) || path_make_dirs(place, 0700, err) ||
        list_packs(repack->packs, &repack->before, err) ||
        refs_list(repack->git_dir, repack->deadline_ms, &repack->refs, err))
        return -1;
    return run_git(repack, true, words, err);
}

static void remove_pack(const struct repack *repack, const char *name)
{
    static const char *const tails[] = {".idx", ".bitmap", ".rev", ".pack"};
    char path[4600];
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        snprintf(path, sizeof(path), "%s/%s%s", repack->packs, name, tails[i]);
        unlink(path);
    }
}

/* Moves the pack in, its index last: git uses a pack once its index is there. */
static int move_in(const struct repack *repack, const char *name, struct err *err)
{
    static const char *const tails[] = {".pack", ".rev", ".bitmap", ".idx"};
    char from[4600], to[4600];
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        snprintf(from, sizeof(from), "%s/pack/%s%s", repack->side, name, tails[i]);
        snprintf(to, sizeof(to), "%s/%s%s", repack->packs, name, tails[i]);
        if (rename(from, to) && errno != ENOENT)
            return err_sys(err, "cannot move the new pack in");
    }
    return 0;
}

/* Replaces the packs, with the lock held. */
static int exchange(struct repack *repack, const struct buf *refs_now, struct err *err)
{
    char place[4300];
    const char *const words[] = {"repack", "-a", "-d", "--quiet", "--write-bitmap-index", NULL};
    AUTO(strlist) struct strlist fresh = STRLIST_INIT;
    bool same = refs_now->len == repack->refs.len &&
                memcmp(buf_str(refs_now), buf_str(&repack->refs), refs_now->len) == 0;
    snprintf(place, sizeof(place), "%s/pack", repack->side);
    if (list_packs(place, &fresh, err))
        return -1;
    for (size_t i = 0; i < fresh.count; i++)
        if (move_in(repack, fresh.items[i], err))
            return -1;
    if (!same)
        return run_git(repack, false, words, err);
    for (size_t i = 0; i < repack->before.count; i++)
        if (!strlist_has(&fresh, repack->before.items[i]))
            remove_pack(repack, repack->before.items[i]);
    return 0;
}

static int finish(struct repack *repack, uid_t uid, gid_t gid, struct err *err)
{
    struct mirror_state state;
    AUTO(buf) struct buf refs = BUF_INIT(REFS_BYTES_MAX);
    const struct mirror_job job = {.dir = repack->dir, .uid = uid, .gid = gid};
    AUTO(fd) int lock = mirror_lock(repack->dir, repack->deadline_ms, err);
    if (lock < 0 || mirror_load(repack->dir, &state, err) ||
        refs_list(repack->git_dir, repack->deadline_ms, &refs, err) ||
        exchange(repack, &refs, err) ||
        mirror_make_generation(&job, repack->git_dir, &refs, &state, err))
        return -1;
    return mirror_save(repack->dir, &state, err);
}

int mirror_repack(const char *dir, uid_t uid, gid_t gid, int64_t deadline_ms, struct err *err)
{
    REQUIRE(dir);
    struct err ignored;
    struct repack repack = {
        .dir = dir, .refs = BUF_INIT(REFS_BYTES_MAX), .deadline_ms = deadline_ms};
    AUTO(strlist) struct strlist now = STRLIST_INIT;
    snprintf(repack.git_dir, sizeof(repack.git_dir), "%s/git", dir);
    snprintf(repack.side, sizeof(repack.side), "%s/repack", dir);
    snprintf(repack.packs, sizeof(repack.packs), "%s/objects/pack", repack.git_dir);
    if (list_packs(repack.packs, &now, err))
        return -1;
    int rc = now.count <= MIRROR_PACKS_MAX                                 ? 0
             : pack_beside(&repack, err) || finish(&repack, uid, gid, err) ? -1
                                                                           : 0;
    path_remove_tree(repack.side, &ignored);
    strlist_done(&repack.before);
    buf_done(&repack.refs);
    return rc;
}
