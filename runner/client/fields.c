#include "runner/client/fields.h"

#include "base/fd.h"
#include "base/form.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (16u << 20)
#define DEPTH_MAX 4

int fields_read_file(const char *path, struct buf *out, struct err *err)
{
    if (strcmp(path, "-") == 0)
        return fd_read_all(STDIN_FILENO, out, err) ? err_wrap(err, "standard input") : 0;
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_NOT_FOUND, "cannot open %.150s: %s", path, strerror(errno));
    return fd_read_all(fd, out, err) ? err_wrap(err, "%.150s", path) : 0;
}

int fields_duration(const char *text, int64_t *ret_ms, struct err *err)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"", 1e3}, {"s", 1e3}, {"m", 6e4}, {"min", 6e4}, {"h", 3.6e6}};
    char *end;
    double value = strtod(text, &end);
    for (size_t i = 0; end != text && i < COUNT_OF(units); i++)
        if (strcmp(end, units[i].unit) == 0 && value * units[i].ms >= 1 &&
            value * units[i].ms < 1e12) {
            *ret_ms = (int64_t)(value * units[i].ms);
            return 0;
        }
    return err_set(err, ERR_INVALID, "'%.40s' is no time; write 90s, 10m or 2h", text);
}

/* --- one field ----------------------------------------------------------------------------- */

struct field {
    const struct call *call;
    const char *option, *type;
    const char *name; /* the last part of the field's path */
};

/* The text of a value: the value itself, or a file's content. */
static const char *resolve(const char *value, bool may_be_file, struct buf *scratch,
                           struct err *err)
{
    if (!may_be_file || value[0] != '@')
        return value;
    return fields_read_file(value + 1, scratch, err) ? NULL : buf_str(scratch);
}

static int write_text(const struct field *f, struct json_writer *w, const char *value,
                      struct err *err)
{
    AUTO(buf_wipe) struct buf scratch = BUF_INIT(FILE_MAX);
    bool file = strstr(f->option, "prompt") || strcmp(f->type, "private key") == 0 ||
                strstr(f->option, "token") || strstr(f->option, "key");
    const char *text = resolve(value, file, &scratch, err);
    if (!text)
        return -1;
    json_add_text(w, f->name, text);
    return 0;
}

static int write_number(const struct field *f, struct json_writer *w, const char *value,
                        struct err *err)
{
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end || !isfinite(number))
        return err_set(err, ERR_INVALID, "--%s takes a number, got '%.40s'", f->option, value);
    if (number == floor(number) && fabs(number) < 1e15)
        json_add_int(w, f->name, (int64_t)number);
    else
        json_add_number(w, f->name, number);
    return 0;
}

static int write_json(const struct field *f, struct json_writer *w, const char *value,
                      struct err *err)
{
    AUTO(buf_wipe) struct buf scratch = BUF_INIT(FILE_MAX);
    const char *text = resolve(value, true, &scratch, err);
    if (!text || json_check(text, strlen(text), err))
        return err_wrap(err, "--%s", f->option);
    json_add_raw(w, f->name, text, strlen(text));
    return 0;
}

/* Writes NAME=VALUE for each time it is given; NAME alone takes the variable from our
 * environment. */
static int write_strings(const struct field *f, struct json_writer *w, struct err *err)
{
    const char *value = options_nth(&f->call->given, f->option, 0);
    if (*value == '{' || *value == '@')
        return write_json(f, w, value, err);
    json_open_object(w, f->name);
    for (size_t i = 0; (value = options_nth(&f->call->given, f->option, i)); i++) {
        const char *equals = strchr(value, '=');
        AUTO(str) char *name = strndup(value, equals ? (size_t)(equals - value) : strlen(value));
        const char *text = equals ? equals + 1 : name ? getenv(name) : NULL;
        if (!text)
            return err_set(err, ERR_INVALID, "--%s: '%.60s' is no NAME=VALUE, and not set here",
                           f->option, value);
        json_add_text(w, name, text);
    }
    json_close(w);
    return 0;
}

static int write_list(const struct field *f, struct json_writer *w)
{
    const char *value = options_nth(&f->call->given, f->option, 0);
    bool array =
        strcmp(f->type, "array of strings") == 0 || options_nth(&f->call->given, f->option, 1);
    if (!array) {
        json_add_text(w, f->name, value);
        return 0;
    }
    json_open_array(w, f->name);
    for (size_t i = 0; (value = options_nth(&f->call->given, f->option, i)); i++)
        json_add_text(w, NULL, value);
    json_close(w);
    return 0;
}

static int write_field(const struct field *f, struct json_writer *w, struct err *err)
{
    const char *value = options_value(&f->call->given, f->option);
    if (strcmp(f->type, "boolean") == 0) {
        json_add_bool(w, f->name, true);
        return 0;
    }
    if (strcmp(f->type, "integer") == 0 || strcmp(f->type, "number") == 0)
        return write_number(f, w, value, err);
    if (strcmp(f->type, "object of strings") == 0)
        return write_strings(f, w, err);
    if (strstr(f->type, "array"))
        return write_list(f, w);
    if (str_starts(f->type, "object") || strcmp(f->type, "any JSON") == 0)
        return write_json(f, w, value, err);
    return write_text(f, w, value, err);
}

/* --- all of them --------------------------------------------------------------------------- */

/* The open objects, as the path of the last: "postExecutionActions.git". */
struct nesting {
    char path[128];
    int depth;
};

static bool holds(const char *path, const char *field)
{
    size_t n = strlen(path);
    return n == 0 || (strncmp(path, field, n) == 0 && field[n] == '.');
}

/* Closes and opens objects until the field's own is open. */
static void enter(struct nesting *at, struct json_writer *w, const char *field)
{
    while (!holds(at->path, field)) {
        char *dot = strrchr(at->path, '.');
        *(dot ? dot : at->path) = '\0';
        at->depth--;
        json_close(w);
    }
    for (;;) {
        size_t n = strlen(at->path), from = n ? n + 1 : 0;
        const char *dot = strchr(field + from, '.');
        if (!dot)
            return;
        snprintf(at->path, sizeof(at->path), "%.*s", (int)(dot - field), field);
        json_open_object(w, at->path + from);
        at->depth++;
    }
}

int fields_write(const struct call *call, struct json_writer *w, struct err *err)
{
    struct option_row row;
    struct nesting at = {.depth = 0};
    const char *name, *type;
    for (size_t i = 0; options_field(call->row->fields, i, &row, &name, &type); i++) {
        if (!options_value(&call->given, row.name))
            continue;
        enter(&at, w, name);
        const char *dot = strrchr(name, '.');
        const struct field field = {call, row.name, type, dot ? dot + 1 : name};
        if (write_field(&field, w, err))
            return -1;
    }
    for (; at.depth > 0; at.depth--)
        json_close(w);
    return 0;
}
