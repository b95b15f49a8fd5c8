/* Work on the content of files: search, find, replace. Each call runs in a worker: see
 * box_private.h. */
#include "runner/box/box_private.h"

#include "base/clock.h"
#include "base/glob.h"
#include "base/str.h"
#include "regex/regex.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define ANSWER_BYTES_MAX (16u << 20)
#define FILE_BYTES_MAX (INT64_C(256) << 20) /* A search skips larger files. */
#define REPLACE_BYTES_MAX (64u << 20)
#define LINES_MAX 10000
#define LINES_LOOK 1024 /* at the clock */
#define LINE_SHOWN_MAX 65536
#define FOUND_MAX 100000
#define DEPTH_MAX 100
#define SEARCH_MS 60000
#define BINARY_LOOK 8192

/* --- a file's bytes ------------------------------------------------------------------------ */

struct bytes {
    char *data;
    size_t len;
    bool mapped;
};

/* Reads a small file, maps a larger one. -1 when it is no regular file or cannot be read. */
static int bytes_open(struct bytes *bytes, int fd)
{
    static char room[256 << 10];
    struct stat st;
    *bytes = (struct bytes){0};
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
        return -1;
    if (st.st_size < (off_t)sizeof(room)) {
        ssize_t n = read(fd, room, sizeof(room));
        bytes->data = room;
        bytes->len = n > 0 ? (size_t)n : 0;
        return n < 0 ? -1 : 0;
    }
    bytes->data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes->data == MAP_FAILED)
        return -1;
    bytes->len = (size_t)st.st_size;
    bytes->mapped = true;
    return 0;
}

static void bytes_close(struct bytes *bytes)
{
    if (bytes->mapped)
        munmap(bytes->data, bytes->len);
}

static bool is_binary(const struct bytes *bytes)
{
    size_t n = bytes->len < BINARY_LOOK ? bytes->len : BINARY_LOOK;
    return n > 0 && memchr(bytes->data, 0, n);
}

/* --- search -------------------------------------------------------------------------------- */

struct search {
    struct regex *match;
    struct json_writer lines; /* three lists that are filled side by side */
    struct buf texts, numbers, files;
    size_t count, max;
    int64_t deadline_ms;
    bool truncated, many;
    bool by_line; /* see looks_around() */
};

static void add_line(struct search *search, const char *file, const char *line, size_t len,
                     int64_t number)
{
    struct json_writer w;
    if (len > LINE_SHOWN_MAX) {
        len = LINE_SHOWN_MAX;
        search->truncated = true;
    }
    const char *comma = search->count > 0 ? "," : "";
    buf_adds(&search->texts, comma);
    json_write(&w, &search->texts);
    json_add_textn(&w, NULL, line, len);
    buf_addf(&search->numbers, "%s%lld", comma, (long long)number);
    if (search->many) {
        buf_adds(&search->files, comma);
        json_write(&w, &search->files);
        json_add_text(&w, NULL, file);
    }
    search->count++;
}

/* Where the line at `from` ends: at its line end, or at the end of all. */
static size_t line_end(const struct bytes *bytes, size_t from)
{
    const char *end =
        from < bytes->len ? memchr(bytes->data + from, '\n', bytes->len - from) : NULL;
    return end ? (size_t)(end - bytes->data) : bytes->len;
}

/* A line without the "\r" that some editors put before its end. */
static size_t shown_len(const struct bytes *bytes, size_t from, size_t to)
{
    return to - from - (to > from && bytes->data[to - 1] == '\r');
}

/* Searches from the beginning of a line on, each line by itself. */
static int search_lines(struct search *search, const char *file, const struct bytes *bytes,
                        size_t from, int64_t number, struct err *err)
{
    size_t start, end;
    for (; from < bytes->len && search->count < search->max; number++) {
        size_t to = line_end(bytes, from), len = shown_len(bytes, from, to);
        int got = regex_next(search->match, bytes->data + from, len, 0, &start, &end, err);
        if (got < 0)
            return -1;
        if (got == 1)
            add_line(search, file, bytes->data + from, len, number);
        from = to + 1;
        if (number % LINES_LOOK == 0 && clock_mono_ms() > search->deadline_ms) {
            search->truncated = true;
            return 0;
        }
    }
    search->truncated |= search->count >= search->max;
    return 0;
}

/* Reports each matching line once, however often it matches. All lines are searched at one go,
 * until a match goes on past the end of its line: the line alone may not match. */
static int search_bytes(struct search *search, const char *file, const struct bytes *bytes,
                        struct err *err)
{
    size_t at = 0, start, end, counted = 0;
    int64_t number = 0;
    int got = 0;
    if (search->by_line)
        return search_lines(search, file, bytes, 0, 0, err);
    while (at <= bytes->len && search->count < search->max &&
           (got = regex_next(search->match, bytes->data, bytes->len, at, &start, &end, err)) == 1) {
        const char *before = start > 0 ? memrchr(bytes->data, '\n', start) : NULL;
        size_t from = before ? (size_t)(before - bytes->data) + 1 : 0;
        size_t to = line_end(bytes, start);
        if (from == bytes->len && from > 0)
            break; /* After the last line end there is no line. */
        for (const char *line = bytes->data + counted;
             (line = memchr(line, '\n', (size_t)(bytes->data + from - line))); line++)
            number++;
        counted = from;
        if (end > to)
            return search_lines(search, file, bytes, from, number, err);
        add_line(search, file, bytes->data + from, shown_len(bytes, from, to), number);
        at = to + 1;
    }
    search->truncated |= search->count >= search->max;
    return got < 0 ? -1 : 0;
}

static int search_tree(struct search *search, int fd, const char *path, int depth, struct err *err);

static int search_entry(struct search *search, int dir, const struct dirent *entry,
                        const char *path, int depth, struct err *err)
{
    struct bytes bytes;
    AUTO(buf) struct buf whole = BUF_INIT(PATH_MAX);
    buf_addf(&whole, "%s/%s", strcmp(path, "/") == 0 ? "" : path, entry->d_name);
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    if (entry->d_type == DT_DIR) {
        int below = depth < DEPTH_MAX ? openat(dir, entry->d_name, flags | O_DIRECTORY) : -1;
        search->truncated |= depth == DEPTH_MAX;
        return below >= 0 ? search_tree(search, below, buf_str(&whole), depth + 1, err) : 0;
    }
    AUTO(fd) int fd = entry->d_type == DT_REG ? openat(dir, entry->d_name, flags) : -1;
    if (fd < 0 || bytes_open(&bytes, fd))
        return 0;
    int rc = is_binary(&bytes) ? 0 : search_bytes(search, buf_str(&whole), &bytes, err);
    bytes_close(&bytes);
    return rc;
}

static int is_searched(const struct dirent *entry)
{
    return (entry->d_type == DT_DIR || entry->d_type == DT_REG) &&
           strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_entry_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Searches below `fd` in the order of names, and closes it. */
static int search_tree(struct search *search, int fd, const char *path, int depth, struct err *err)
{
    int rc = 0;
    struct dirent **list = NULL;
    int count = scandirat(fd, ".", &list, is_searched, by_entry_name);
    for (int i = 0; i < count; i++) {
        if (rc == 0 && search->count < search->max && clock_mono_ms() > search->deadline_ms)
            search->truncated = true;
        else if (rc == 0 && search->count < search->max)
            rc = search_entry(search, fd, list[i], path, depth, err);
        free(list[i]);
    }
    free(list);
    close(fd);
    return rc;
}

static void print_search(const struct search *search, const char *path, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, search->many ? "path" : "file", path);
    buf_adds(out, ",\"matches\":[");
    buf_add(out, buf_str(&search->texts), search->texts.len);
    buf_adds(out, "],\"line_numbers\":[");
    buf_add(out, buf_str(&search->numbers), search->numbers.len);
    if (search->many) {
        buf_adds(out, "],\"files\":[");
        buf_add(out, buf_str(&search->files), search->files.len);
    }
    buf_addf(out, "],\"truncated\":%s}", search->truncated ? "true" : "false");
}

static int search_path(struct search *search, int fd, const char *path, struct err *err)
{
    struct bytes bytes;
    struct stat st;
    if (fstat(fd, &st))
        return err_sys(err, "'%.100s'", path);
    search->many = S_ISDIR(st.st_mode);
    if (search->many)
        return search_tree(search, fcntl(fd, F_DUPFD_CLOEXEC, 0), path, 0, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_CONFLICT, "'%.160s' is no regular file", path);
    if (bytes_open(&bytes, fd))
        return err_set(err, ERR_TOO_LARGE, "'%.160s' is too large to be searched", path);
    int rc = is_binary(&bytes) ? 0 : search_bytes(search, path, &bytes, err);
    bytes_close(&bytes);
    return rc;
}

/* Whether the pattern speaks of the beginning or the end of all, or looks at what is before or
 * behind the match: that is the line's, here. */
static bool looks_around(const char *pattern)
{
    static const char *const words[] = {"\\A", "\\Z", "\\z", "\\G", "(?=", "(?!", "(?<=", "(?<!"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strstr(pattern, words[i]))
            return true;
    return false;
}

int box_text_search(const struct work *work, struct err *err)
{
    int64_t max = 1000;
    const char *pattern = json_text(json_get(work->ask, "pattern"));
    struct search search = {.texts = BUF_INIT(ANSWER_BYTES_MAX),
                            .numbers = BUF_INIT(ANSWER_BYTES_MAX),
                            .files = BUF_INIT(ANSWER_BYTES_MAX),
                            .deadline_ms = clock_mono_ms() + SEARCH_MS};
    AUTO(buf) struct buf out = BUF_INIT(4 * ANSWER_BYTES_MAX);
    AUTO(str) char *path = box_clean_path(json_text(json_get(work->ask, "path")), err);
    AUTO(fd) int fd = path ? box_open_inside(work, path, O_RDONLY, 0, err) : -1;
    json_int(json_get(work->ask, "limit"), &max);
    search.max = max > 0 && max < LINES_MAX ? (size_t)max : LINES_MAX;
    search.by_line = pattern && looks_around(pattern);
    search.match = fd >= 0 ? regex_new(pattern ? pattern : "", err) : NULL;
    if (!search.match || search_path(&search, fd, path, err))
        return -1;
    print_search(&search, path, &out);
    box_work_body(work, &out);
    return 0;
}

/* --- find ---------------------------------------------------------------------------------- */

struct find {
    const char *pattern; /* of a path from the start of the search, or of an absolute one */
    const char *top;     /* put before the paths that an absolute pattern is compared with */
    char **paths;
    size_t count, room;
    bool full, deep; /* not all names are listed */
};

static void find_add(struct find *find, const char *path)
{
    if (find->count == FOUND_MAX) {
        find->full = true;
        return;
    }
    if (find->count == find->room) {
        size_t room = find->room ? find->room * 2 : 64;
        char **grown = realloc(find->paths, room * sizeof(*grown));
        if (!grown)
            return;
        find->paths = grown;
        find->room = room;
    }
    find->paths[find->count] = strdup(path);
    find->count += find->paths[find->count] != NULL;
}

/* Searches below `fd`, and closes it. `below`: the path from the start of the search. */
static void find_tree(struct find *find, int fd, const char *below, int depth)
{
    struct dirent *entry;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    while (!find->full && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        AUTO(buf) struct buf path = BUF_INIT(PATH_MAX);
        buf_addf(&path, "%s%s%s", below, *below ? "/" : "", entry->d_name);
        find->deep |= !buf_ok(&path) || (entry->d_type == DT_DIR && depth == DEPTH_MAX);
        if (!buf_ok(&path))
            continue;
        AUTO(buf) struct buf whole = BUF_INIT(PATH_MAX * 2);
        if (find->top)
            buf_addf(&whole, "%s/%s", find->top, buf_str(&path));
        if (glob_match(find->pattern, buf_str(find->top ? &whole : &path)))
            find_add(find, buf_str(&path));
        int next =
            entry->d_type == DT_DIR && depth < DEPTH_MAX
                ? openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                : -1;
        if (next >= 0)
            find_tree(find, next, buf_str(&path), depth + 1);
    }
    closedir(dir);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int box_text_find(const struct work *work, struct err *err)
{
    struct json_writer w;
    struct find find = {.pattern = json_text(json_get(work->ask, "pattern"))};
    AUTO(buf) struct buf out = BUF_INIT(4 * ANSWER_BYTES_MAX);
    AUTO(str) char *path = box_clean_path(json_text(json_get(work->ask, "path")), err);
    AUTO(fd) int dir = path ? box_open_inside(work, path, O_RDONLY | O_DIRECTORY, 0, err) : -1;
    if (dir < 0 || !find.pattern)
        return dir < 0 ? -1 : err_set(err, ERR_INVALID, "a pattern is missing");
    if (find.pattern[0] == '/')
        find.top = strcmp(path, "/") == 0 ? "" : path;
    find_tree(&find, fcntl(dir, F_DUPFD_CLOEXEC, 0), "", 0);
    if (find.count > 0)
        qsort(find.paths, find.count, sizeof(char *), by_name);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "path", path);
    json_open_array(&w, "files");
    for (size_t i = 0; i < find.count; i++) {
        AUTO(buf) struct buf whole = BUF_INIT(PATH_MAX * 2);
        buf_addf(&whole, "%s/%s", strcmp(path, "/") == 0 ? "" : path, find.paths[i]);
        json_add_text(&w, NULL, buf_str(&whole));
    }
    json_close(&w);
    json_add_bool(&w, "truncated", find.full || find.deep);
    json_close(&w);
    for (size_t i = 0; i < find.count; i++)
        free(find.paths[i]);
    free(find.paths);
    box_work_body(work, &out);
    return 0;
}

/* --- replace ------------------------------------------------------------------------------- */

static int64_t replace_all(const struct buf *from, const char *old, const char *fresh, int64_t max,
                           struct buf *to)
{
    size_t old_len = strlen(old), at = 0;
    int64_t count = 0;
    const char *hit;
    while (count < max && at < from->len &&
           (hit = memmem(from->data + at, from->len - at, old, old_len))) {
        buf_add(to, from->data + at, (size_t)(hit - (from->data + at)));
        buf_adds(to, fresh);
        at = (size_t)(hit - from->data) + old_len;
        count++;
    }
    if (at < from->len)
        buf_add(to, from->data + at, from->len - at);
    return count;
}

static int put_back(const struct work *work, const char *path, const struct buf *text, mode_t mode,
                    struct err *err)
{
    const char *name;
    char fresh[ID_SIZE + 8], id[ID_SIZE];
    AUTO(fd) int dir = box_open_parent(work, path, false, &name, err);
    if (dir < 0)
        return -1;
    id_new(id);
    snprintf(fresh, sizeof(fresh), ".%s.part", id);
    AUTO(fd) int fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, buf_str(text), text->len) || fchmod(fd, mode & 0777) ||
        renameat(dir, fresh, dir, name)) {
        box_path_error(path, err);
        unlinkat(dir, fresh, 0);
        return -1;
    }
    return 0;
}

int box_text_replace(const struct work *work, struct err *err)
{
    struct stat st;
    bool dry = false;
    int64_t max = INT64_MAX;
    char link[64], real[PATH_MAX + 1];
    AUTO(buf) struct buf text = BUF_INIT(REPLACE_BYTES_MAX), done = BUF_INIT(REPLACE_BYTES_MAX);
    const char *old = json_text(json_get(work->ask, "old"));
    const char *fresh = json_text(json_get(work->ask, "new"));
    AUTO(str) char *path = box_clean_path(json_text(json_get(work->ask, "path")), err);
    AUTO(fd) int fd = path ? box_open_inside(work, path, O_RDONLY, 0, err) : -1;
    json_int(json_get(work->ask, "count"), &max);
    json_bool(json_get(work->ask, "dryRun"), &dry);
    if (fd < 0)
        return -1;
    if (!old || !*old || !fresh)
        return err_set(err, ERR_INVALID,
                       "'old' must be a text that is not empty, and 'new' a text");
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        return err_set(err, ERR_CONFLICT, "'%.160s' is no regular file", path);
    if (fd_read_all(fd, &text, err))
        return -1;
    int64_t count = replace_all(&text, old, fresh, max, &done);
    if (buf_check(&done, "the file", err))
        return -1;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof(real) - 1);
    real[n > 0 ? n : 0] = '\0';
    AUTO(str) char *shown = n > 0 ? box_shown_path(work->box, real) : NULL;
    if (count > 0 && !dry && put_back(work, shown ? shown : path, &done, st.st_mode, err))
        return -1;
    AUTO(buf) struct buf members = BUF_INIT(64);
    buf_addf(&members, ",\"replaced\":%lld", (long long)count);
    box_work_answer(work, &members, -1);
    return 0;
}
