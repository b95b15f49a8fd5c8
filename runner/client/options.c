#include "runner/client/options.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/str.h"
#include "runner/client/screen.h"
#include "runner/request/request.h"

#include <ctype.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define FIELDS_MAX 128
#define NAME_BYTES 64
#define HELP_COLUMN 26
#define HELP_BYTES 4096

const struct option_row options_common[] = {
    {"runner", 0, "NAME", "the runner of that name in the configuration file", NULL},
    {"url", 0, "URL", "the runner's address (RUNNER_URL; default http://127.0.0.1:8787)", NULL},
    {"secret-file", 0, "FILE", "file with its secret (RUNNER_SECRET, RUNNER_SECRET_FILE)", "@file"},
    {"json", 0, NULL, "print what the runner answers, and a failure, as JSON", NULL},
    {"help", 'h', NULL, "print this", NULL},
    {0},
};

/* --- the fields of a request as options ---------------------------------------------------- */

static struct field_option {
    char option[NAME_BYTES];
    struct request_field field;
} field_options[FIELDS_MAX];
static size_t field_count;
static pthread_once_t fields_once = PTHREAD_ONCE_INIT;

/* True for names that the commands use themselves. */
static bool is_taken(const char *name)
{
    static const char *const names[] = {"prompt", "command", "code",  "inputs",      "n",
                                        "detach", "stdin",   "files", "useNamedPipe"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* Makes an option's name: "post-git-files" of "postExecutionActions.git.files", "repo-url" of
 * "repo_url", "mcp-config" of "mcpConfig". */
static void option_name(const char *field, char *to)
{
    static const char post[] = "postExecutionActions";
    size_t n = 0;
    if (str_starts(field, post)) {
        n = (size_t)snprintf(to, NAME_BYTES, "post");
        field += strlen(post);
    }
    for (; *field && n + 2 < NAME_BYTES; field++) {
        bool upper = isupper((unsigned char)*field) != 0;
        if (upper && n > 0 && !isupper((unsigned char)field[-1]))
            to[n++] = '-';
        to[n++] = *field == '_' || *field == '.' ? '-' : (char)tolower((unsigned char)*field);
    }
    to[n] = '\0';
}

static void find_fields(void)
{
    struct request_field field;
    for (size_t i = 0; field_count < FIELDS_MAX && request_field_at(i, &field) == 0; i++) {
        if ((field.flags & REQUEST_LATER) || strcmp(field.type, "object") == 0) {
            struct request_field next;
            /* A plain object is given as JSON, unless rows of its members follow. */
            bool group = request_field_at(i + 1, &next) == 0 && str_starts(next.name, field.name) &&
                         next.name[strlen(field.name)] == '.';
            if ((field.flags & REQUEST_LATER) || group)
                continue;
        }
        if (is_taken(field.name))
            continue;
        option_name(field.name, field_options[field_count].option);
        field_options[field_count++].field = field;
    }
}

static const char *value_word(const struct request_field *field)
{
    if (strcmp(field->type, "integer") == 0 || strcmp(field->type, "number") == 0)
        return "N";
    if (strcmp(field->type, "object of strings") == 0)
        return "NAME=VALUE";
    if (str_starts(field->type, "object") || strcmp(field->type, "any JSON") == 0)
        return "JSON|@FILE";
    if (field->flags & REQUEST_SECRET)
        return "@FILE";
    return "TEXT";
}

bool options_field(unsigned fields, size_t index, struct option_row *ret_row,
                   const char **ret_field, const char **ret_type)
{
    pthread_once(&fields_once, find_fields);
    for (size_t i = 0; fields && i < field_count; i++) {
        const struct request_field *field = &field_options[i].field;
        if (!(field->flags & fields) || index-- > 0)
            continue;
        bool flag = strcmp(field->type, "boolean") == 0;
        *ret_row = (struct option_row){field_options[i].option, 0, flag ? NULL : value_word(field),
                                       field->help, field->takes.choices};
        if (ret_field)
            *ret_field = field->name;
        if (ret_type)
            *ret_type = field->type;
        return true;
    }
    return false;
}

const struct option_row *options_at(const struct command_row *row, size_t index,
                                    struct option_row *scratch)
{
    for (const struct option_row *at = row->options; at && at->name; at++)
        if (index-- == 0)
            return at;
    size_t fields = 0;
    while (options_field(row->fields, fields, scratch, NULL, NULL))
        if (fields++ == index)
            return scratch;
    index -= fields;
    return index < COUNT_OF(options_common) - 1 ? &options_common[index] : NULL;
}

/* --- reading ------------------------------------------------------------------------------- */

struct reading {
    const struct command_row *row;
    struct option_row scratch;
};

static const char *next_option(size_t index, void *arg)
{
    struct reading *r = arg;
    const struct option_row *option = options_at(r->row, index, &r->scratch);
    return option ? option->name : NULL;
}

static const struct option_row *find_option(struct reading *r, const char *name, size_t len,
                                            char letter)
{
    const struct option_row *option;
    for (size_t i = 0; (option = options_at(r->row, i, &r->scratch)); i++)
        if (letter ? option->letter == letter
                   : strlen(option->name) == len && strncmp(option->name, name, len) == 0)
            return option;
    return NULL;
}

static int unknown(struct reading *r, const char *arg, struct err *err)
{
    AUTO(str) char *name = strndup(arg, strcspn(arg, "="));
    const char *bare = name ? name + strspn(name, "-") : "";
    const char *near = strlen(bare) > 1 ? str_nearest(bare, next_option, r) : NULL;
    return err_set(err, ERR_INVALID, "there is no option '%.60s'%s%s%s", name ? name : "",
                   near ? "; did you mean '--" : ", see --help", near ? near : "",
                   near ? "'?" : "");
}

/* Reads one option, and perhaps the argument after it. Returns how many arguments it took, or
 * -1. */
static int read_option(struct reading *r, int left, char **argv, struct strlist *given,
                       struct err *err)
{
    const char *arg = argv[0], *value = NULL;
    bool is_long = arg[1] == '-';
    size_t len = is_long ? strcspn(arg + 2, "=") : 1;
    const struct option_row *option =
        find_option(r, is_long ? arg + 2 : arg + 1, len, is_long ? 0 : arg[1]);
    if (!option)
        return unknown(r, arg, err);
    if (is_long && arg[2 + len] == '=')
        value = arg + 3 + len;
    else if (!is_long && arg[2])
        value = arg + 2;
    if (!option->value && value)
        return err_set(err, ERR_INVALID, "--%s takes no value", option->name);
    bool next = option->value && !value;
    if (next && left < 2)
        return err_set(err, ERR_INVALID, "--%s takes %s", option->name, option->value);
    strlist_add(given, option->name);
    strlist_add(given, !option->value ? "" : next ? argv[1] : value);
    return next ? 2 : 1;
}

static int check_count(const struct command_row *row, const struct strlist *args, struct err *err)
{
    if ((int)args->count < row->args_min)
        return err_set(err, ERR_INVALID, "%s is missing; usage: claude-runner %s %s",
                       row->args_min == 1 ? "an argument" : "something", row->name, row->args);
    if (row->args_max >= 0 && (int)args->count > row->args_max)
        return err_set(err, ERR_INVALID, "unexpected '%.80s'", args->items[row->args_max]);
    return 0;
}

int options_read(const struct command_row *row, int argc, char **argv, struct strlist *given,
                 struct strlist *args, struct err *err)
{
    struct reading r = {.row = row};
    bool only_args = false;
    for (int i = 0; i < argc; i++) {
        if (only_args || argv[i][0] != '-' || !argv[i][1]) {
            strlist_add(args, argv[i]);
            only_args |= row->rest && (int)args->count >= (row->args_min > 1 ? 2 : 1);
        } else if (strcmp(argv[i], "--") == 0) {
            only_args = true;
        } else {
            int used = read_option(&r, argc - i, argv + i, given, err);
            if (used < 0)
                return -1;
            i += used - 1;
        }
    }
    if (given->failed || args->failed)
        return err_set(err, ERR_TOO_LARGE, "too many arguments");
    return options_value(given, "help") ? 0 : check_count(row, args, err);
}

const char *options_value(const struct strlist *given, const char *name)
{
    REQUIRE(given && name);
    for (size_t i = given->count; i >= 2; i -= 2)
        if (strcmp(given->items[i - 2], name) == 0)
            return given->items[i - 1];
    return NULL;
}

const char *options_nth(const struct strlist *given, const char *name, size_t index)
{
    for (size_t i = 0; i + 1 < given->count; i += 2)
        if (strcmp(given->items[i], name) == 0 && index-- == 0)
            return given->items[i + 1];
    return NULL;
}

/* --- help ---------------------------------------------------------------------------------- */

/* Prints words from column `at` on; further lines begin at column `indent`. A line end of the text
 * counts as a space; a list of choices may break after each bar. */
static void print_wrapped(const char *text, int at, int indent, int width, FILE *out)
{
    for (int gap = 0, first = 1; *text; first = 0) {
        size_t len = strcspn(text, " \n|");
        len += text[len] == '|';
        int columns = (int)screen_width(text, len);
        if (!first && at + gap + columns > width) {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
        } else {
            fprintf(out, "%*s", gap, "");
            at += gap;
        }
        fwrite(text, 1, len, out);
        at += columns;
        text += len;
        gap = strspn(text, " \n") > 0;
        text += strspn(text, " \n");
    }
    fputc('\n', out);
}

static void print_option(const struct option_row *option, int width, FILE *out)
{
    char left[128], letter[8] = "";
    AUTO(buf) struct buf help = BUF_INIT(HELP_BYTES);
    if (option->letter)
        snprintf(letter, sizeof(letter), "-%c, ", option->letter);
    snprintf(left, sizeof(left), "  %s--%s%s%s", letter, option->name, option->value ? " " : "",
             option->value ? option->value : "");
    buf_adds(&help, option->help);
    if (option->complete && option->complete[0] != '@')
        buf_addf(&help, " (%s)", option->complete);
    if (strlen(left) >= HELP_COLUMN)
        fprintf(out, "%s\n%*s", left, HELP_COLUMN, "");
    else
        fprintf(out, "%-*s", HELP_COLUMN, left);
    print_wrapped(buf_str(&help), HELP_COLUMN, HELP_COLUMN, width, out);
}

void options_help(const struct command_row *row, FILE *out)
{
    struct option_row scratch;
    const struct option_row *option;
    int width = INT_MAX, rows;
    if (isatty(fileno(out)))
        screen_size(fileno(out), &width, &rows);
    width = width < HELP_COLUMN + 20 ? HELP_COLUMN + 20 : width;
    fprintf(out, "usage: claude-runner %s%s%s [OPTIONS]\n\n%s.\n", row->name, *row->args ? " " : "",
            row->args, row->summary);
    if (row->text) {
        fputc('\n', out);
        print_wrapped(row->text, 0, 0, width < 100 ? width : 100, out);
    }
    fputs("\nOptions:\n", out);
    for (size_t i = 0; (option = options_at(row, i, &scratch)); i++)
        print_option(option, width, out);
}
