#include "runner/config/vars.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/form.h"
#include "base/str.h"

#include <ctype.h>
#include <string.h>

void vars_done(struct vars *vars)
{
    for (size_t i = 0; i < vars->values.count; i++)
        explicit_bzero(vars->values.items[i], strlen(vars->values.items[i]));
    strlist_done(&vars->names);
    strlist_done(&vars->values);
}

static int add(struct vars *vars, const char *name, size_t name_len, const char *value)
{
    if (strlist_addn(&vars->names, name, name_len) || strlist_add(&vars->values, value))
        return -1;
    return 0;
}

int vars_read_env(struct vars *vars, char *const *env)
{
    for (; env && *env; env++) {
        const char *equals = strchr(*env, '=');
        if (equals && equals > *env && add(vars, *env, (size_t)(equals - *env), equals + 1))
            return -1;
    }
    return 0;
}

const char *vars_get(const struct vars *vars, const char *name)
{
    REQUIRE(name);
    for (size_t i = vars->values.count; i-- > 0;)
        if (strcmp(vars->names.items[i], name) == 0)
            return *vars->values.items[i] ? vars->values.items[i] : NULL;
    return NULL;
}

static const char *skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* True for what may follow a value. */
static bool is_rest(const char *p)
{
    p = skip_blanks(p);
    return *p == '\0' || *p == '#';
}

/* Reads "…" with \n \t \" \\ \$, beginning at the opening quote. NULL when it is not closed. */
static const char *read_double_quoted(const char *p, struct buf *value)
{
    static const char escapes[] = "n\nt\tr\r";
    for (p++; *p && *p != '"'; p++) {
        if (*p != '\\' || p[1] == '\0') {
            buf_addc(value, *p);
            continue;
        }
        char c = *++p;
        for (size_t i = 0; escapes[i]; i += 2)
            if (*p == escapes[i])
                c = escapes[i + 1];
        buf_addc(value, c);
    }
    return *p ? p + 1 : NULL;
}

/* Reads the value at p. Returns what is wrong with it, or NULL. */
static const char *read_value(const char *p, struct buf *value)
{
    p = skip_blanks(p);
    if (*p == '"') {
        p = read_double_quoted(p, value);
        return !p ? "the quote is not closed" : is_rest(p) ? NULL : "text after the quote";
    }
    if (*p == '\'') {
        size_t n = strcspn(p + 1, "'");
        buf_add(value, p + 1, n);
        if (p[1 + n] == '\0')
            return "the quote is not closed";
        return is_rest(p + n + 2) ? NULL : "text after the quote";
    }
    size_t n = 0;
    while (p[n] && !(p[n] == '#' && (n == 0 || isblank((unsigned char)p[n - 1]))))
        n++;
    while (n > 0 && isblank((unsigned char)p[n - 1]))
        n--;
    buf_add(value, p, n);
    return NULL;
}

/* Reads one line. Returns what is wrong with it, or NULL. */
static const char *read_line(struct vars *vars, const char *line)
{
    line = skip_blanks(line);
    if (*line == '\0' || *line == '#')
        return NULL;
    if (str_starts(line, "export ") || str_starts(line, "export\t"))
        line = skip_blanks(line + 7);
    size_t n = strcspn(line, "=");
    if (line[n] == '\0')
        return "not NAME=VALUE";
    size_t end = n;
    while (end > 0 && isblank((unsigned char)line[end - 1]))
        end--;
    AUTO(str) char *name = strndup(line, end);
    if (!name || !form_is_env_name(name))
        return "not the name of a variable before '='";
    AUTO(buf_wipe) struct buf value = BUF_INIT(VARS_FILE_MAX);
    const char *wrong = read_value(line + n + 1, &value);
    if (!wrong && add(vars, name, end, buf_str(&value)))
        wrong = "out of memory";
    return wrong;
}

int vars_read_file(struct vars *vars, const char *what, const char *path, struct strlist *errors)
{
    struct err err = ERR_INIT;
    AUTO(buf_wipe) struct buf text = BUF_INIT(VARS_FILE_MAX);
    if (file_read(path, &text, &err)) {
        strlist_addf(errors, "%s: %s", what, err.msg);
        return -1;
    }
    if (strlen(buf_str(&text)) != text.len || !str_is_utf8(buf_str(&text), text.len)) {
        strlist_addf(errors, "%s: '%s' is not UTF-8 text", what, path);
        return -1;
    }
    char *rest = text.data;
    if (rest && str_starts(rest, "\xef\xbb\xbf"))
        rest += 3;
    char *line;
    for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
        size_t n = strlen(line);
        if (n > 0 && line[n - 1] == '\r')
            line[n - 1] = '\0';
        const char *wrong = read_line(vars, line);
        if (wrong)
            strlist_addf(errors, "%s, line %u: %s", path, number, wrong);
    }
    return vars->names.failed || vars->values.failed ? -1 : 0;
}
