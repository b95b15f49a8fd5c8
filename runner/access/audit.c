#include "runner/access/audit.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "audit.log"
#define OLD_NAME "audit.log.1"
#define TEXT_MAX 512
#define LINE_MAX_BYTES (16u << 10)

struct audit {
    char *path, *old;
    struct lock lock;
    int fd;
    int64_t size; /* size of the file */
    int64_t last; /* the number of the last entry */
};

/* --- reading ------------------------------------------------------------------------------- */

/* Reads a whole file; a missing one is "". */
static int read_whole(const char *path, struct buf *out, struct err *err)
{
    struct err why;
    if (file_read(path, out, &why) == 0 || why.code == ERR_NOT_FOUND)
        return 0;
    *err = why;
    return -1;
}

/* The line before *end; *end becomes its beginning. NULL when there is none. */
static const char *line_before(const struct buf *text, size_t *end, size_t *ret_len)
{
    size_t from = *end;
    if (from == 0)
        return NULL;
    size_t stop = text->data[from - 1] == '\n' ? from - 1 : from;
    for (from = stop; from > 0 && text->data[from - 1] != '\n';)
        from--;
    *end = from;
    *ret_len = stop - from;
    return text->data + from;
}

/* The entry in a line, which the caller frees; NULL when the line is incomplete. */
static struct json *parse_entry(const char *line, size_t len, int64_t *ret_id)
{
    struct err ignored;
    struct json *entry = len > 0 ? json_parse(line, len, &ignored) : NULL;
    if (entry && json_int(json_get(entry, "id"), ret_id) == 0)
        return entry;
    json_free(entry);
    return NULL;
}

static int64_t last_number(const struct buf *text)
{
    const char *line;
    int64_t id = 0;
    size_t at = text->len, len;
    while ((line = line_before(text, &at, &len))) {
        AUTO(json) struct json *entry = parse_entry(line, len, &id);
        if (entry)
            return id;
    }
    return 0;
}

/* --- life ---------------------------------------------------------------------------------- */

static int open_file(struct audit *audit, struct err *err)
{
    struct stat st;
    fd_close(&audit->fd);
    audit->fd = open(audit->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (audit->fd < 0 || fstat(audit->fd, &st))
        return err_sys(err, "cannot open '%s'", audit->path);
    audit->size = st.st_size;
    return 0;
}

static int find_place(struct audit *audit, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(4 * AUDIT_FILE_BYTES);
    if (open_file(audit, err) || read_whole(audit->path, &text, err))
        return -1;
    bool cut = text.len > 0 && text.data[text.len - 1] != '\n';
    audit->last = last_number(&text);
    buf_clear(&text);
    if (audit->last == 0 && read_whole(audit->old, &text, err))
        return -1;
    if (audit->last == 0)
        audit->last = last_number(&text);
    return cut && fd_write_all(audit->fd, "\n", 1) ? err_sys(err, "cannot write '%s'", audit->path)
                                                   : 0;
}

struct audit *audit_open(const char *state_dir, struct err *err)
{
    AUTO(audit) struct audit *audit = calloc(1, sizeof(*audit));
    if (!audit) {
        err_sys(err, "audit log");
        return NULL;
    }
    audit->fd = -1;
    lock_init(&audit->lock);
    audit->path = path_join(state_dir, FILE_NAME);
    audit->old = path_join(state_dir, OLD_NAME);
    if (!audit->path || !audit->old) {
        err_sys(err, "audit log");
        return NULL;
    }
    return find_place(audit, err) ? NULL : STEAL_PTR(audit);
}

void audit_close(struct audit *audit)
{
    if (!audit)
        return;
    fd_close(&audit->fd);
    lock_done(&audit->lock);
    free(audit->path);
    free(audit->old);
    free(audit);
}

/* --- writing ------------------------------------------------------------------------------- */

static void add_text(struct json_writer *w, const char *name, const char *text)
{
    if (text && *text)
        json_add_textn(w, name, text, strnlen(text, TEXT_MAX));
}

static int write_locked(struct audit *audit, const struct buf *line, struct err *err)
    HOLDS(audit->lock)
{
    if (audit->size >= AUDIT_FILE_BYTES &&
        (rename(audit->path, audit->old) || open_file(audit, err)))
        return err_sys(err, "cannot begin a new '%s'", audit->path);
    if (fd_write_all(audit->fd, line->data, line->len))
        return err_sys(err, "cannot write '%s'", audit->path);
    audit->size += (int64_t)line->len;
    return 0;
}

void audit_add(struct audit *audit, const struct audit_entry *entry)
{
    REQUIRE(entry->action);
    struct err err;
    struct json_writer w;
    AUTO(buf) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    lock_take(&audit->lock);
    json_write(&w, &line);
    json_open_object(&w, NULL);
    json_add_int(&w, "id", audit->last + 1);
    json_add_time(&w, "time", clock_real_ms());
    add_text(&w, "action", entry->action);
    add_text(&w, "caller", entry->caller);
    add_text(&w, "address", entry->address);
    add_text(&w, "target", entry->target);
    add_text(&w, "detail", entry->detail);
    json_close(&w);
    buf_addc(&line, '\n');
    int rc = buf_check(&line, "an entry", &err) || write_locked(audit, &line, &err) ? -1 : 0;
    if (rc == 0)
        audit->last++;
    lock_drop(&audit->lock);
    if (rc)
        log_error("audit", "%s: %s", entry->action, err.msg);
}

/* --- showing ------------------------------------------------------------------------------- */

struct search {
    int64_t before;
    int left;
    const char *action, *caller;
    int64_t lowest; /* number of the oldest entry that was added */
    bool more;      /* at least one more entry matches */
};

static bool is_action(const char *action, const char *wanted)
{
    size_t n = strlen(wanted);
    return action && strncmp(action, wanted, n) == 0 && (!action[n] || action[n] == '.');
}

static bool matches(const struct search *search, const struct json *entry)
{
    const char *caller = json_text(json_get(entry, "caller"));
    return (!search->caller || (caller && strcmp(caller, search->caller) == 0)) &&
           (!search->action || is_action(json_text(json_get(entry, "action")), search->action));
}

static void search_text(struct search *search, const struct buf *text, struct json_writer *w)
{
    const char *line;
    int64_t id = 0;
    size_t at = text->len, len;
    while (!search->more && (line = line_before(text, &at, &len))) {
        AUTO(json) struct json *entry = parse_entry(line, len, &id);
        if (!entry || (search->before && id >= search->before) || !matches(search, entry))
            continue;
        if (search->left-- == 0) {
            search->more = true;
            continue;
        }
        json_add_raw(w, NULL, line, len);
        search->lowest = id;
    }
}

int audit_print(struct audit *audit, int64_t before, int limit, const char *action,
                const char *caller, struct json_writer *w, int64_t *ret_next, struct err *err)
{
    REQUIRE(limit > 0);
    AUTO(buf) struct buf text = BUF_INIT(4 * AUDIT_FILE_BYTES);
    AUTO(buf) struct buf old = BUF_INIT(4 * AUDIT_FILE_BYTES);
    struct search search = {.before = before, .left = limit, .action = action, .caller = caller};
    lock_take(&audit->lock); /* Held so that no file is renamed between the two reads. */
    int rc = read_whole(audit->path, &text, err) || read_whole(audit->old, &old, err) ? -1 : 0;
    lock_drop(&audit->lock);
    if (rc)
        return -1;
    search_text(&search, &text, w);
    search_text(&search, &old, w);
    *ret_next = search.more ? search.lowest : 0;
    return 0;
}
