/* Mirrors as a caller sees them, and how they are kept within bounds. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/repo/repo_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_LENGTH 40
#define GONE ".gone-"
#define TREE_IDLE_MS (24 * INT64_C(3600000))
#define REPACK_MS 1800000
#define DEPTH_MAX 200
#define BLOCK 512

/* --- sizes --------------------------------------------------------------------------------- */

/* Sums up file sizes. A file with n hard links counts 1/n at each, so that it counts once in all.
 * Closes `dir`. */
static int64_t usage_of(int dir, int depth)
{
    struct dirent *entry;
    struct stat st;
    int64_t sum = 0;
    DIR *list = fdopendir(dir);
    if (!list) {
        close(dir);
        return 0;
    }
    while ((entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        if (!S_ISDIR(st.st_mode)) {
            sum += (int64_t)st.st_blocks * BLOCK / (int64_t)(st.st_nlink ? st.st_nlink : 1);
            continue;
        }
        int below = depth < DEPTH_MAX ? openat(dir, entry->d_name,
                                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                                      : -1;
        sum += (int64_t)st.st_blocks * BLOCK + (below < 0 ? 0 : usage_of(below, depth + 1));
    }
    closedir(list);
    return sum;
}

static int64_t usage(const char *path)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return dir < 0 ? 0 : usage_of(dir, 0);
}

static int64_t used_ms(const char *path)
{
    struct stat st;
    return lstat(path, &st) ? 0 : st.st_mtim.tv_sec * INT64_C(1000) + st.st_mtim.tv_nsec / 1000000;
}

/* --- what there is ------------------------------------------------------------------------- */

static bool is_mirror(const char *name)
{
    return strlen(name) == NAME_LENGTH && strspn(name, "0123456789abcdef") == NAME_LENGTH;
}

static void list_dir(const char *path, struct strlist *names)
{
    struct dirent *entry;
    DIR *list = opendir(path);
    while (list && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            strlist_add(names, entry->d_name);
    if (list)
        closedir(list);
}

static int holds_of(struct repos *repos, const char *name)
{
    int count = 0;
    lock_take(&repos->lock);
    for (const struct hold *at = repos->holds; at; at = at->next)
        if (strcmp(at->name, name) == 0)
            count = at->count;
    lock_drop(&repos->lock);
    return count;
}

/* Adds the repository's name for people: "owner/name" of its URL. */
static void add_name(const char *url, struct strlist *names)
{
    size_t len = strlen(url), parts = 0;
    while (len > 0 && url[len - 1] == '/')
        len--;
    if (len > 4 && strncmp(url + len - 4, ".git", 4) == 0)
        len -= 4;
    size_t from = len;
    while (from > 0 && url[from - 1] != ':' && (url[from - 1] != '/' || ++parts < 2))
        from--;
    strlist_addf(names, "%.*s", (int)(len - from), url + from);
}

static void print_mirror(struct repos *repos, const char *name, struct strlist *names,
                         struct json_writer *w)
{
    char time[CLOCK_TEXT_SIZE];
    struct err ignored;
    struct mirror_state state = {0};
    AUTO(str) char *path = path_join(repos->dir, name);
    if (!path || mirror_load(path, &state, &ignored))
        return;
    int holds = holds_of(repos, name);
    add_name(state.url, names);
    json_open_object(w, NULL);
    json_add_text(w, "id", name);
    json_add_text(w, "url", state.url);
    json_add_int(w, "sizeBytes", usage(path));
    json_add_text(w, "lastFetchedAt",
                  state.fetched_ms ? clock_format(state.fetched_ms, time) : NULL);
    json_add_text(w, "lastUsedAt", clock_format(used_ms(path), time));
    json_add_text(w, "defaultBranch", state.head[0] ? state.head : NULL);
    json_add_int(w, "inUse", holds);
    json_close(w);
}

void repos_print(struct repos *repos, struct buf *out)
{
    struct json_writer w;
    AUTO(strlist) struct strlist names = STRLIST_INIT, called = STRLIST_INIT;
    list_dir(repos->dir, &names);
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_open_array(&w, "mirrors");
    for (size_t i = 0; i < names.count; i++)
        if (is_mirror(names.items[i]))
            print_mirror(repos, names.items[i], &called, &w);
    json_close(&w);
    json_add_texts(&w, "repos", &called); /* Under the names that the first runner used. */
    json_add_text(&w, "method", repos_method(repos));
    json_close(&w);
}

/* --- taking away --------------------------------------------------------------------------- */

/* Removes a tree's note with the tree. Notes are written only while `opening` is held, so this
 * is safe. */
static void remove_note(const struct repos *repos, const char *name)
{
    static const char mark[] = "/tree-";
    char note[4400];
    const char *tree = strstr(name, mark);
    if (!tree)
        return;
    snprintf(note, sizeof(note), "%s/%.*s/" REPORT_NOTES "/%s", repos->dir, (int)(tree - name),
             name, tree + strlen(mark));
    unlink(note);
}

/* Renames a mirror, tree or refs directory unless a workspace uses it, then removes it. Returns 1
 * when it is gone, 0 when it is in use. The check and the rename happen under one lock, which
 * opening a workspace takes as well. */
static int take_away(struct repos *repos, const char *name, const char *also, struct err *err)
{
    char id[ID_SIZE];
    id_new(id);
    AUTO(str) char *from = path_join(repos->dir, name);
    AUTO(str) char *to = NULL;
    if (!from || asprintf(&to, "%s/" GONE "%s", repos->dir, id) < 0)
        return err_sys(err, "repository");
    lock_take(&repos->lock);
    bool held = hold_is_taken_locked(repos, name) || hold_is_taken_locked(repos, also);
    int rc = held ? 0 : rename(from, to);
    int sys = errno;
    if (!held && rc == 0)
        remove_note(repos, name);
    lock_drop(&repos->lock);
    errno = sys;
    if (held)
        return 0;
    if (rc)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "there is no such repository")
                               : err_sys(err, "cannot remove '%s'", name);
    return path_remove_tree(to, err) ? -1 : 1;
}

int repos_delete(struct repos *repos, const char *name, struct err *err)
{
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    int held = 0;
    if (name) {
        int rc = is_mirror(name) ? take_away(repos, name, name, err)
                                 : err_set(err, ERR_NOT_FOUND, "there is no such repository");
        return rc ? rc : err_set(err, ERR_CONFLICT, "a task works on that repository");
    }
    list_dir(repos->dir, &names);
    int gone = 0;
    for (size_t i = 0; i < names.count; i++) {
        int rc =
            is_mirror(names.items[i]) ? take_away(repos, names.items[i], names.items[i], err) : 0;
        if (rc < 0)
            return -1;
        gone += rc;
        held += rc == 0 && is_mirror(names.items[i]);
    }
    if (held > 0)
        return err_set(err, ERR_CONFLICT, "tasks work on %d of the repositories; %d are removed",
                       held, gone);
    return gone;
}

/* --- keeping within bounds ----------------------------------------------------------------- */

struct candidate {
    char name[160];   /* path below the repos directory */
    char opening[80]; /* name of the hold of a task that is about to use it */
    bool is_tree;
    int64_t used_ms;
    int64_t size;
};

struct survey {
    struct candidate *items;
    size_t count, room;
    int64_t total;
};

static void add_candidate(struct survey *survey, const struct candidate *candidate)
{
    if (survey->count == survey->room) {
        size_t room = survey->room ? survey->room * 2 : 64;
        struct candidate *more = realloc(survey->items, room * sizeof(*more));
        if (!more)
            return;
        survey->items = more;
        survey->room = room;
    }
    survey->items[survey->count++] = *candidate;
}

static void remove_one(struct repos *repos, const char *name, const char *opening)
{
    struct err err;
    if (take_away(repos, name, opening, &err) < 0 && err.code != ERR_NOT_FOUND)
        log_warn("repo", "%s", err.msg);
}

/* Looks at one mirror: removes what neither a fetch nor a task needs, and measures the rest. */
static void survey_mirror(struct repos *repos, const char *mirror, struct survey *survey)
{
    struct err ignored;
    struct mirror_state state = {0};
    AUTO(str) char *path = path_join(repos->dir, mirror);
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    struct candidate whole = {.used_ms = path ? used_ms(path) : 0};
    snprintf(whole.name, sizeof(whole.name), "%s", mirror);
    snprintf(whole.opening, sizeof(whole.opening), "%s/opening", mirror);
    if (!path || mirror_load(path, &state, &ignored)) {
        remove_one(repos, mirror, whole.opening); /* Left by a clone that failed. */
        return;
    }
    list_dir(path, &names);
    for (size_t i = 0; i < names.count; i++) {
        const char *item = names.items[i];
        struct candidate part = whole;
        AUTO(str) char *place = path_join(path, item);
        snprintf(part.name, sizeof(part.name), "%s/%s", mirror, item);
        bool tree = str_starts(item, "tree-") && !strstr(item, ".new");
        bool refs = str_starts(item, "refs-") && !strstr(item, ".new");
        part.used_ms = place ? used_ms(place) : 0;
        if ((refs && strcmp(item + strlen("refs-"), state.generation) != 0) ||
            (tree && clock_real_ms() - part.used_ms > TREE_IDLE_MS)) {
            remove_one(repos, part.name, whole.opening);
            continue;
        }
        part.size = place ? usage(place) : 0;
        part.is_tree = tree;
        whole.size += tree ? 0 : part.size;
        survey->total += part.size;
        if (tree)
            add_candidate(survey, &part);
    }
    add_candidate(survey, &whole);
}

/* The order of removal: trees first, because they can be made again without the network; then the
 * mirrors that were unused for longest. */
static int by_worth(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->is_tree != y->is_tree)
        return x->is_tree ? -1 : 1;
    return (x->used_ms > y->used_ms) - (x->used_ms < y->used_ms);
}

static void evict(struct repos *repos, struct survey *survey)
{
    struct err err;
    int64_t max = (int64_t)CONFIG_GET(repos->config.config, repo_cache_max_mb) << 20;
    if (survey->total <= max)
        return;
    qsort(survey->items, survey->count, sizeof(*survey->items), by_worth);
    for (size_t i = 0; i < survey->count && survey->total > max; i++) {
        struct candidate *at = &survey->items[i];
        int gone = take_away(repos, at->name, at->opening, &err);
        if (gone == 1) {
            survey->total -= at->size;
            log_info("repo", "removed '%s' (%lld MB) to keep the cache within REPO_CACHE_MAX_MB",
                     at->name, (long long)(at->size >> 20));
        }
    }
}

static void repack(struct repos *repos, const char *mirror)
{
    struct err err;
    struct json_writer w;
    AUTO(buf) struct buf job = BUF_INIT(65536);
    AUTO(str) char *path = path_join(repos->dir, mirror);
    AUTO(str) char *packs = path_join(repos->dir, mirror);
    if (!path || !packs || hold_take(repos, mirror, &err))
        return;
    repo_job_begin(repos, &w, &job, "repack", REPACK_MS);
    json_add_text(&w, "dir", path);
    AUTO(json) struct json *answer = repo_job_run(repos, &w, REPACK_MS, NULL, &err);
    if (!answer)
        log_warn("repo", "repacking: %s", err.msg);
    hold_drop(repos, mirror);
}

/* True when there are enough packs for a repack to be worth a process. */
static bool has_many_packs(const struct repos *repos, const char *mirror)
{
    char path[4200];
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    snprintf(path, sizeof(path), "%s/%s/git/objects/pack", repos->dir, mirror);
    list_dir(path, &names);
    return names.count > MIRROR_PACKS_MAX * 2;
}

void repos_maintain(struct repos *repos)
{
    struct err err;
    struct survey survey = {0};
    int64_t mirrors = 0;
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    list_dir(repos->dir, &names);
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.items[i];
        AUTO(str) char *path = path_join(repos->dir, name);
        if (is_mirror(name)) {
            if (has_many_packs(repos, name))
                repack(repos, name);
            survey_mirror(repos, name, &survey);
            mirrors++;
        } else if (path && str_starts(name, GONE) && path_remove_tree(path, &err)) {
            log_warn("repo", "%s", err.msg);
        }
    }
    evict(repos, &survey);
    free(survey.items);
    atomic_store(&repos->mirrors, mirrors);
    atomic_store(&repos->bytes, survey.total);
}

void repos_metrics(struct metric_page *page, void *arg)
{
    struct repos *repos = arg;
    int64_t mirrors = atomic_load(&repos->mirrors), bytes = atomic_load(&repos->bytes);
    metric_family(page, "claude_runner_repo_mirrors", METRIC_GAUGE,
                  "Cached repositories, as of the janitor's last round.");
    if (mirrors >= 0)
        metric_count(page, mirrors, NULL);
    metric_family(page, "claude_runner_repo_cache_bytes", METRIC_GAUGE,
                  "What they take on the disk, as of the janitor's last round.");
    if (bytes >= 0)
        metric_count(page, bytes, NULL);
}

void repos_sweep(struct repos *repos)
{
    struct err err;
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    list_dir(repos->dir, &names);
    for (size_t i = 0; i < names.count; i++) {
        AUTO(str) char *path = path_join(repos->dir, names.items[i]);
        bool left =
            str_starts(names.items[i], REPOS_PUSH) || str_starts(names.items[i], REPOS_GROWING);
        if (path && left && path_remove_tree(path, &err))
            log_warn("repo", "%s", err.msg);
    }
}
