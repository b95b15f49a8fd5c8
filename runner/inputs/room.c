/* How much room inputs may take, and which of them are evicted. */
#include "runner/inputs/inputs_private.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/strlist.h"
#include "base/thread.h"
#include "json/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BOOT_FILE "boot"

/* An input, as it was found. */
struct entry {
    char name[INPUT_NAME_SIZE];
    int64_t bytes; /* of the archive and its unpacked tree */
    struct timespec used;
    bool needed;
};

struct survey {
    struct entry *entries;
    size_t count;
    int64_t bytes;
};

int64_t inputs_bytes_max(const struct inputs *inputs)
{
    return (int64_t)CONFIG_GET(inputs->config.config, inputs_max_mb) << 20;
}

int inputs_check_disk(const struct inputs *inputs, struct err *err)
{
    struct statvfs fs;
    int64_t min_free = CONFIG_GET(inputs->config.config, disk_min_free_mb);
    if (fstatvfs(inputs->dir, &fs))
        return err_sys(err, "cannot see how full the disk is");
    int64_t free_mb = (int64_t)((uint64_t)fs.f_bavail * fs.f_frsize >> 20);
    return free_mb >= min_free
               ? 0
               : err_set(err, ERR_NO_SPACE,
                         "%lld MB are free on the disk of RUNNER_STATE_DIR, DISK_MIN_FREE_MB is "
                         "%lld",
                         (long long)free_mb, (long long)min_free);
}

/* --- what there is, and who needs it ------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int by_use(const void *a, const void *b)
{
    const struct timespec *x = &((const struct entry *)a)->used,
                          *y = &((const struct entry *)b)->used;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec;
}

static int add_entry(struct survey *survey, const struct inputs *inputs, const char *name)
{
    struct stat st;
    if (fstatat(inputs->dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return 0;
    if (survey->count % 256 == 0) {
        struct entry *more =
            realloc(survey->entries, (survey->count + 256) * sizeof(*survey->entries));
        if (!more)
            return -1;
        survey->entries = more;
    }
    struct entry *entry = &survey->entries[survey->count++];
    *entry =
        (struct entry){.bytes = st.st_size + input_tree_bytes(inputs, name), .used = st.st_atim};
    memcpy(entry->name, name, INPUT_NAME_SIZE);
    survey->bytes += entry->bytes;
    return 0;
}

static int look_around(const struct inputs *inputs, struct survey *survey, struct err *err)
{
    struct dirent *entry;
    char name[INPUT_NAME_SIZE];
    int rc = 0;
    DIR *list = fdopendir(openat(inputs->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (list && rc == 0 && (entry = readdir(list)))
        if (input_name(entry->d_name, name) == 0)
            rc = add_entry(survey, inputs, name);
    if (!list || rc)
        err_sys(err, "inputs");
    if (list)
        closedir(list);
    if (survey->count > 0)
        qsort(survey->entries, survey->count, sizeof(*survey->entries), by_name);
    return list ? rc : -1;
}

/* Marks the inputs that a task which has not ended names in its request. */
static int mark_needed(const struct task_record *record, void *arg)
{
    struct err ignored;
    struct survey *survey = arg;
    size_t len = strlen(record->request), raw_len;
    struct entry key;
    const char *raw = json_raw_member(record->request, len, "inputs", &raw_len);
    AUTO(json) struct json *inputs = raw ? json_parse(raw, raw_len, &ignored) : NULL;
    for (const struct json *at = json_first(inputs); at; at = json_next(at)) {
        struct entry *found = NULL;
        if (json_text(at) && input_name(json_text(at), key.name) == 0)
            found = bsearch(&key, survey->entries, survey->count, sizeof(key), by_name);
        if (found)
            found->needed = true;
    }
    return 0;
}

static int look_for_needs(const struct inputs *inputs, struct survey *survey, struct err *err)
{
    const struct store_filter filter = {.states = TASK_ACTIVE_STATES, .limit = INT_MAX};
    if (!inputs->config.store || survey->count == 0)
        return 0;
    return store_list(inputs->config.store, &filter, mark_needed, survey, err);
}

/* --- eviction ------------------------------------------------------------------------------ */

/* Makes a name for what is being removed. */
static void name_aside(char aside[ID_SIZE + 8])
{
    char id[ID_SIZE];
    id_new(id);
    snprintf(aside, ID_SIZE + 8, INPUTS_PART "%s", id);
}

/* Renames the archive and its unpacked tree, unless the input is in use or was used since it was
 * looked at. Both at once, so that a new upload is independent of them. */
static bool put_aside(struct inputs *inputs, const struct entry *entry, const char *aside,
                      const char *tree_aside)
{
    struct stat st;
    char tree[INPUTS_TREE_SIZE];
    bool gone = false;
    snprintf(tree, sizeof(tree), INPUTS_TREE "%s", entry->name);
    lock_take(&inputs->lock);
    const struct input_use *use = inputs->uses;
    while (use && strcmp(use->name, entry->name) != 0)
        use = use->next;
    if (!use && fstatat(inputs->dir, entry->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_atim.tv_sec == entry->used.tv_sec && st.st_atim.tv_nsec == entry->used.tv_nsec)
        gone = renameat(inputs->dir, entry->name, inputs->dir, aside) == 0;
    if (gone)
        renameat(inputs->dir, tree, inputs->dir, tree_aside);
    lock_drop(&inputs->lock);
    return gone;
}

static void remove_aside(const struct inputs *inputs, const char *name)
{
    struct err err;
    AUTO(str) char *path = path_join(inputs->path, name);
    if (path && path_remove_tree(path, &err))
        log_warn("inputs", "%s", err.msg);
}

/* Evicts an input. Returns how many bytes that frees. */
static int64_t evict(struct inputs *inputs, const struct entry *entry)
{
    char aside[ID_SIZE + 8], tree_aside[ID_SIZE + 8];
    name_aside(aside);
    name_aside(tree_aside);
    if (!put_aside(inputs, entry, aside, tree_aside))
        return 0;
    remove_aside(inputs, aside);
    remove_aside(inputs, tree_aside);
    log_info("inputs", "%.16s… was evicted", entry->name);
    return entry->bytes;
}

int inputs_make_room(struct inputs *inputs, int64_t more, const char *spare, struct err *err)
{
    struct survey survey = {0};
    int64_t max = inputs_bytes_max(inputs);
    int rc = look_around(inputs, &survey, err);
    if (rc == 0 && survey.bytes + more > max) {
        rc = look_for_needs(inputs, &survey, err);
        if (survey.count > 0)
            qsort(survey.entries, survey.count, sizeof(*survey.entries), by_use);
        for (size_t i = 0; rc == 0 && i < survey.count && survey.bytes + more > max; i++)
            if (!survey.entries[i].needed && strcmp(survey.entries[i].name, spare) != 0)
                survey.bytes -= evict(inputs, &survey.entries[i]);
    }
    free(survey.entries);
    if (rc || survey.bytes + more <= max)
        return rc;
    return err_set(err, ERR_NO_SPACE,
                   "inputs may take %lld MB (INPUTS_MAX_MB), and those that tasks need leave no "
                   "room for %lld MB more",
                   (long long)(max >> 20), (long long)((more + (1 << 20) - 1) >> 20));
}

/* --- what is left over --------------------------------------------------------------------- */

/* True when the machine was started since: earlier unpacked trees may not have reached the disk
 * completely, because nobody waited for that. */
static bool is_new_boot(const struct inputs *inputs)
{
    struct err ignored;
    AUTO(buf) struct buf now = BUF_INIT(256), before = BUF_INIT(256);
    AUTO(str) char *path = path_join(inputs->path, BOOT_FILE);
    AUTO(fd) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (!path || fd < 0 || fd_read_all(fd, &now, &ignored))
        return true;
    if (file_read(path, &before, &ignored) == 0 && strcmp(buf_str(&now), buf_str(&before)) == 0)
        return false;
    if (file_replace(path, buf_str(&now), now.len, 0600, &ignored))
        log_warn("inputs", "%s", ignored.msg);
    return true;
}

static void *remove_old(void *arg)
{
    struct err err;
    struct strlist *old = arg;
    for (size_t i = 0; i < old->count; i++)
        if (path_remove_tree(old->items[i], &err))
            log_warn("inputs", "%s", err.msg);
    strlist_done(old);
    free(old);
    return NULL;
}

/* Renames an entry for removal and lists it. */
static void take_out(const struct inputs *inputs, const char *name, struct strlist *old)
{
    char aside[ID_SIZE + 8];
    name_aside(aside);
    if (renameat(inputs->dir, name, inputs->dir, aside) == 0)
        strlist_addf(old, "%s/%s", inputs->path, aside);
}

/* True for an unpacked input without an archive: the process ended between the two removals. */
static bool is_orphan(const struct inputs *inputs, const char *name)
{
    struct stat st;
    return fstatat(inputs->dir, name + sizeof(INPUTS_TREE) - 1, &st, AT_SYMLINK_NOFOLLOW) != 0;
}

void inputs_sweep(struct inputs *inputs)
{
    struct err ignored;
    struct dirent *entry;
    bool anew = is_new_boot(inputs);
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    struct strlist *old = calloc(1, sizeof(*old));
    DIR *list = fdopendir(openat(inputs->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (list && (entry = readdir(list)))
        if (str_starts(entry->d_name, INPUTS_PART) || str_starts(entry->d_name, INPUTS_TREE))
            strlist_add(&names, entry->d_name);
    if (list)
        closedir(list);
    for (size_t i = 0; old && i < names.count; i++)
        if (str_starts(names.items[i], INPUTS_PART) || anew || is_orphan(inputs, names.items[i]))
            take_out(inputs, names.items[i], old);
    if (old && thread_start_detached("old-inputs", THREAD_STACK_DEFAULT, remove_old, old, &ignored))
        remove_old(old);
}
