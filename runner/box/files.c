/* Files as callers see them: single files, and lists. Each call runs in a worker: see
 * box_private.h. */
#include "runner/box/box_private.h"

#include "base/path.h"
#include "base/str.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define LIST_BYTES_MAX (32u << 20)
#define ENTRIES_MAX 200000
#define DEPTH_MAX 100

static char *path_of(const struct work *work, const char *member, struct err *err)
{
    return box_clean_path(json_text(json_get(work->ask, member)), err);
}

static const char *type_name(mode_t mode)
{
    return S_ISREG(mode)    ? "file"
           : S_ISDIR(mode)  ? "directory"
           : S_ISLNK(mode)  ? "link"
           : S_ISFIFO(mode) ? "fifo"
           : S_ISSOCK(mode) ? "socket"
                            : "device";
}

/* --- reading ------------------------------------------------------------------------------- */

int box_file_open(const struct work *work, struct err *err)
{
    struct stat st;
    AUTO(str) char *path = path_of(work, "path", err);
    AUTO(fd) int fd = path ? box_open_inside(work, path, O_RDONLY, 0, err) : -1;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st))
        return err_sys(err, "'%.100s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_CONFLICT, "'%.160s' is a %s, not a file", path,
                       type_name(st.st_mode));
    box_work_answer(work, NULL, fd);
    return 0;
}

/* --- writing ------------------------------------------------------------------------------- */

/* Makes the same tag as the runner's file_etag(). */
static void make_etag(const struct stat *st, char *text, size_t size)
{
    snprintf(text, size, "\"%llx-%llx-%llx\"", (unsigned long long)st->st_ino,
             (unsigned long long)st->st_size,
             (unsigned long long)st->st_mtim.tv_sec * 1000000000ULL +
                 (unsigned long long)st->st_mtim.tv_nsec);
}

static int no_match(struct err *err)
{
    return err_set(err, ERR_PRECONDITION, "the file is not the one that If-Match names");
}

/* Whether the list has the tag. A weak one ("W/" before it) never equals it where bytes are to be
 * compared (RFC 9110, 13.1.1). */
static bool lists_tag(const char *list, const char *etag, bool strongly)
{
    const char *at = list;
    while ((at = strstr(at, etag))) {
        bool weak = at >= list + 2 && at[-1] == '/' && at[-2] == 'W';
        if (!weak || !strongly)
            return true;
        at += strlen(etag);
    }
    return false;
}

/* Checks If-Match and If-None-Match: ETags, or "*". */
static int check_conditions(const struct work *work, int dir, const char *name, struct err *err)
{
    char etag[80];
    struct stat st;
    const char *match = json_text(json_get(work->ask, "ifMatch"));
    const char *none = json_text(json_get(work->ask, "ifNoneMatch"));
    bool there = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (there)
        make_etag(&st, etag, sizeof(etag));
    if (match && (!there || (strcmp(match, "*") != 0 && !lists_tag(match, etag, true))))
        return no_match(err);
    if (none && there && (strcmp(none, "*") == 0 || lists_tag(none, etag, false)))
        return err_set(err, ERR_PRECONDITION, "there is such a file already");
    return 0;
}

/* The final target of a path: links are written through, not replaced. The caller frees it. */
static char *resolve(const struct work *work, const char *path, struct err *err)
{
    char link[64], real[PATH_MAX + 1];
    struct err ignored;
    AUTO(fd) int fd = box_open_inside(work, path, O_PATH, 0, &ignored);
    if (fd < 0 && ignored.code == ERR_NOT_FOUND)
        return strdup(path);
    if (fd < 0) {
        *err = ignored;
        return NULL;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof(real) - 1);
    if (n <= 0 || real[0] != '/')
        return strdup(path);
    real[n] = '\0';
    return box_shown_path(work->box, real);
}

/* Finds the target of a write: its directory and the name in it. */
static int find_target(const struct work *work, char **ret_path, const char **ret_name,
                       struct stat *ret_st, struct err *err)
{
    AUTO(str) char *asked = path_of(work, "path", err);
    AUTO(str) char *path = asked ? resolve(work, asked, err) : NULL;
    if (!path)
        return -1;
    const char *name;
    bool make = !json_get(work->ask, "ifMatch"); /* with it the file must be there already */
    AUTO(fd) int dir = box_open_parent(work, path, make, &name, err);
    if (dir < 0 && !make && err->code == ERR_NOT_FOUND)
        return no_match(err);
    if (dir < 0 || check_conditions(work, dir, name, err))
        return -1;
    if (fstatat(dir, name, ret_st, AT_SYMLINK_NOFOLLOW))
        ret_st->st_mode = 0;
    if (ret_st->st_mode && !S_ISREG(ret_st->st_mode))
        return err_set(err, ERR_CONFLICT, "'%.160s' is a %s, not a file", asked,
                       type_name(ret_st->st_mode));
    *ret_name = path + (name - path);
    *ret_path = STEAL_PTR(path);
    int out = dir;
    dir = -1;
    return out;
}

/* Opens the file that the runner writes to: the target itself to append, else a file next to it. */
int box_file_create(const struct work *work, struct err *err)
{
    bool append = false;
    int64_t mode = -1;
    const char *name;
    char fresh[ID_SIZE + 8] = "", id[ID_SIZE];
    struct stat st = {0};
    AUTO(str) char *path = NULL;
    json_bool(json_get(work->ask, "append"), &append);
    json_int(json_get(work->ask, "mode"), &mode);
    AUTO(fd) int dir = find_target(work, &path, &name, &st, err);
    if (dir < 0)
        return -1;
    id_new(id);
    snprintf(fresh, sizeof(fresh), ".%s.part", id);
    AUTO(fd)
    int fd = openat(dir, append ? name : fresh,
                    append ? O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
                           : O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                    0644);
    if (fd < 0 || (append && mode >= 0 && fchmod(fd, (mode_t)mode & 0777)))
        return box_path_error(path, err);
    AUTO(buf) struct buf members = BUF_INIT(PATH_MAX * 8);
    buf_adds(&members, ",\"path\":\"");
    str_add_json(&members, path, strlen(path));
    buf_addf(&members, "\",\"fresh\":\"%s\",\"existed\":%s", append ? "" : fresh,
             st.st_mode ? "true" : "false");
    box_work_answer(work, &members, fd);
    return 0;
}

/* Moves the written file to its place. */
int box_file_commit(const struct work *work, struct err *err)
{
    const char *name;
    int64_t mode = -1;
    struct stat st = {0};
    AUTO(str) char *path = NULL;
    const char *fresh = json_text(json_get(work->ask, "fresh"));
    json_int(json_get(work->ask, "mode"), &mode);
    AUTO(fd) int dir = find_target(work, &path, &name, &st, err);
    if (dir < 0 || !fresh || strchr(fresh, '/'))
        return dir < 0 ? -1 : err_set(err, ERR_INVALID, "file");
    if (mode < 0)
        mode = st.st_mode ? st.st_mode & 0777 : 0644;
    if (fchmodat(dir, fresh, (mode_t)mode & 0777, 0) || renameat(dir, fresh, dir, name))
        return box_path_error(path, err);
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_sys(err, "'%.100s'", path);
    char etag[80];
    AUTO(buf) struct buf members = BUF_INIT(256);
    make_etag(&st, etag, sizeof(etag));
    buf_addf(&members, ",\"size\":%lld,\"etag\":\"", (long long)st.st_size);
    str_add_json(&members, etag, strlen(etag));
    buf_addc(&members, '"');
    box_work_answer(work, &members, -1);
    return 0;
}

int box_file_discard(const struct work *work, struct err *err)
{
    const char *name, *fresh = json_text(json_get(work->ask, "fresh"));
    AUTO(str) char *path = path_of(work, "path", err);
    AUTO(fd) int dir = path ? box_open_parent(work, path, false, &name, err) : -1;
    if (dir >= 0 && fresh && !strchr(fresh, '/'))
        unlinkat(dir, fresh, 0);
    box_work_answer(work, NULL, -1);
    return 0;
}

int box_file_remove(const struct work *work, struct err *err)
{
    const char *name;
    struct stat st;
    struct err why;
    char place[PATH_MAX + 64];
    AUTO(str) char *path = path_of(work, "path", err);
    if (!path)
        return -1;
    static const char *const kept[] = {"/", "/workspace", "/tmp", "/home"};
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (strcmp(path, kept[i]) == 0)
            return err_set(err, ERR_FORBIDDEN, "'%s' is the session's own and stays", path);
    AUTO(fd) int dir = box_open_parent(work, path, false, &name, &why);
    if (dir < 0 && why.code != ERR_NOT_FOUND) {
        *err = why;
        return -1;
    }
    bool there = dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && json_get(work->ask, "ifMatch"))
        return no_match(err);
    if (there && check_conditions(work, dir, name, err))
        return -1;
    snprintf(place, sizeof(place), "/proc/self/fd/%d/%s", dir, name);
    if (there && S_ISDIR(st.st_mode) && path_remove_tree(place, &why)) {
        bool denied = why.sys == EROFS || why.sys == EACCES || why.sys == EPERM;
        return err_set(err, denied ? ERR_FORBIDDEN : why.code, "'%.140s' cannot be deleted: %s",
                       path, strerror(why.sys));
    }
    if (there && !S_ISDIR(st.st_mode) && unlinkat(dir, name, 0) && errno != ENOENT)
        return err_set(err, ERR_FORBIDDEN, "'%.140s' may not be deleted: %s", path,
                       strerror(errno));
    AUTO(buf) struct buf members = BUF_INIT(64);
    buf_addf(&members, ",\"deleted\":%s", there ? "true" : "false");
    box_work_answer(work, &members, -1);
    return 0;
}

/* --- lists --------------------------------------------------------------------------------- */

struct list {
    struct {
        char **items;
        size_t count, room;
    } paths; /* relative to the listed directory */
    bool recursive;
    bool failed;
};

static void list_add(struct list *list, const char *path)
{
    if (list->paths.count == list->paths.room) {
        size_t room = list->paths.room ? list->paths.room * 2 : 256;
        char **grown =
            room <= ENTRIES_MAX * 2 ? realloc(list->paths.items, room * sizeof(*grown)) : NULL;
        if (!grown) {
            list->failed = true;
            return;
        }
        list->paths.items = grown;
        list->paths.room = room;
    }
    char *copy = strdup(path);
    list->failed |= !copy;
    if (copy)
        list->paths.items[list->paths.count++] = copy;
}

/* Lists what is below `fd`, and closes it. */
static void walk(struct list *list, int fd, const char *path, int depth)
{
    struct dirent *entry;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    while (!list->failed && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        AUTO(buf) struct buf whole = BUF_INIT(PATH_MAX);
        buf_addf(&whole, "%s%s%s", path, *path ? "/" : "", entry->d_name);
        if (!buf_ok(&whole))
            continue;
        list_add(list, buf_str(&whole));
        if (!list->recursive || depth == DEPTH_MAX)
            continue;
        int below =
            entry->d_type == DT_DIR
                ? openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                : -1;
        if (below >= 0)
            walk(list, below, buf_str(&whole), depth + 1);
    }
    closedir(dir);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_entry(struct json_writer *w, int dir, const char *top, const char *path)
{
    struct stat st;
    char text[16], target[PATH_MAX];
    const char *slash = strrchr(path, '/');
    AUTO(buf) struct buf whole = BUF_INIT(PATH_MAX * 2);
    if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW))
        return;
    buf_addf(&whole, "%s/%s", strcmp(top, "/") == 0 ? "" : top, path);
    json_open_object(w, NULL);
    json_add_text(w, "name", slash ? slash + 1 : path);
    json_add_text(w, "path", buf_str(&whole));
    json_add_text(w, "type", type_name(st.st_mode));
    json_add_int(w, "size", st.st_size);
    snprintf(text, sizeof(text), "%04o", (unsigned)st.st_mode & 07777);
    json_add_text(w, "mode", text);
    json_add_time(w, "mtime", st.st_mtim.tv_sec * INT64_C(1000) + st.st_mtim.tv_nsec / 1000000);
    ssize_t n = S_ISLNK(st.st_mode) ? readlinkat(dir, path, target, sizeof(target)) : -1;
    if (n > 0)
        json_add_textn(w, "target", target, (size_t)n);
    json_close(w);
}

/* A cursor is the last path, with what a query cannot hold as %XX: names may be any bytes. */
static void add_cursor(struct buf *out, const char *path)
{
    bool plain = str_is_utf8(path, strlen(path));
    for (const unsigned char *at = (const unsigned char *)path; *at; at++) {
        if (*at < 0x20 || *at == '%' || *at == 0x7f || (*at >= 0x80 && !plain))
            buf_addf(out, "%%%02X", *at);
        else
            buf_addc(out, (char)*at);
    }
}

static void read_cursor(struct buf *out, const char *cursor)
{
    char digits[3] = "";
    for (const char *at = cursor; *at; at++) {
        bool coded = *at == '%' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2]);
        if (coded)
            memcpy(digits, at + 1, 2);
        buf_addc(out, coded ? (char)strtol(digits, NULL, 16) : *at);
        at += coded ? 2 : 0;
    }
}

static void print_page(const struct work *work, struct list *list, int dir, const char *top,
                       struct buf *out)
{
    int64_t limit = 1000;
    size_t at = 0, printed = 0;
    struct json_writer w;
    const char *cursor = json_text(json_get(work->ask, "cursor"));
    AUTO(buf) struct buf after = BUF_INIT(PATH_MAX * 4), next = BUF_INIT(PATH_MAX * 4);
    read_cursor(&after, cursor ? cursor : "");
    json_int(json_get(work->ask, "limit"), &limit);
    qsort(list->paths.items, list->paths.count, sizeof(char *), by_name);
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "path", top);
    json_open_array(&w, "entries");
    while (at < list->paths.count && strcmp(list->paths.items[at], buf_str(&after)) <= 0)
        at++;
    for (; at < list->paths.count && printed < (size_t)limit; at++, printed++)
        print_entry(&w, dir, top, list->paths.items[at]);
    json_close(&w);
    bool more = at < list->paths.count && at > 0;
    add_cursor(&next, more ? list->paths.items[at - 1] : "");
    json_add_text(&w, "nextCursor", more ? buf_str(&next) : NULL);
    json_close(&w);
}

int box_file_list(const struct work *work, struct err *err)
{
    struct list list = {0};
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    AUTO(str) char *path = path_of(work, "path", err);
    AUTO(fd) int dir = path ? box_open_inside(work, path, O_RDONLY | O_DIRECTORY, 0, err) : -1;
    if (dir < 0)
        return -1;
    json_bool(json_get(work->ask, "recursive"), &list.recursive);
    walk(&list, fcntl(dir, F_DUPFD_CLOEXEC, 0), "", 0);
    if (list.failed)
        return err_set(err, ERR_TOO_LARGE, "there are more than %d entries", ENTRIES_MAX);
    print_page(work, &list, dir, path, &out);
    box_work_body(work, &out);
    return 0;
}
