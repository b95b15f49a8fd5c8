#include "runner/walls/shown.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRIPT_BYTES 16384
#define WRAPPED_DEEP 4 /* scripts that execute scripts */

static bool is_shown(const char *path)
{
    return str_starts(path, "/usr/") || str_starts(path, "/opt/") || str_starts(path, "/bin/");
}

/* The length of the path up to its outermost node_modules; 0 when it has none. */
static size_t modules_len(const char *path)
{
    static const char modules[] = "/node_modules/";
    const char *among = strstr(path, modules);
    return among ? (size_t)(among - path) + sizeof(modules) - 2 : 0;
}

/* Adds a bind, once for each path inside. */
static void show_at(struct plan *plan, const char *mode, const char *outside, const char *inside)
{
    const struct strlist *binds = &plan->jail.binds;
    for (size_t i = 2; i < binds->count; i += 3)
        if (strcmp(binds->items[i], inside) == 0)
            return;
    strlist_add(&plan->jail.binds, mode);
    strlist_add(&plan->jail.binds, outside);
    strlist_add(&plan->jail.binds, inside);
}

/* Shows the program at its real path, alone or with the modules around it, and the link `path` that
 * leads there. Outside of tier full the link is there by itself. */
static void show_file(struct plan *plan, const char *path, const char *real)
{
    const size_t real_len = modules_len(real), path_len = modules_len(path);
    AUTO(str) char *modules = real_len ? strndup(real, real_len) : strdup(real);
    if (!modules)
        return;
    if (!is_shown(real))
        show_at(plan, "ro", modules, modules);
    if (plan->jail.tier != JAIL_FULL || is_shown(path) || strcmp(path, real) == 0)
        return;
    /* A path among the same modules is shown with them. */
    if (!path_len || path_len != real_len || strncmp(path, real, real_len) != 0)
        show_at(plan, "ln", real, path);
}

/* True for a file that a script may execute: a program, or a module that is given to one. */
static bool is_program(const char *real)
{
    struct stat st;
    return stat(real, &st) == 0 && S_ISREG(st.st_mode) &&
           (access(real, X_OK) == 0 || modules_len(real) > 0);
}

static bool names_a_program(const char *word)
{
    const char *name = strrchr(word, '/');
    name = name ? name + 1 : word;
    return strcmp(name, "env") == 0 || strcmp(name, "exec") == 0 || strcmp(name, "-S") == 0;
}

/* The path without "..", which the caller frees; NULL when it leads nowhere. */
static char *without_dots(const char *path)
{
    const char *name = strrchr(path, '/');
    if (*path == '/' && !strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../"))
        return strdup(path);
    AUTO(str) char *above = name ? strndup(path, (size_t)(name - path)) : NULL;
    AUTO(str) char *folder = above ? realpath(above, NULL) : NULL;
    return folder ? path_join(folder, name + 1) : NULL;
}

/* The path that a word of the script means, which the caller frees; NULL when it is none. A plain
 * name is a program of the search path where one is expected. Anything else is a whole path, or
 * what follows a variable that holds the script's own directory ("$dir/../x"). */
static char *path_meant(const char *script, const char *word, const char *before)
{
    AUTO(str) char *path = NULL;
    const char *tail = strchr(word, '/');
    if (!tail)
        path = names_a_program(before) ? path_find_program(word, getenv("PATH")) : NULL;
    else if (tail == word && access(word, F_OK) == 0)
        path = strdup(word);
    else if (asprintf(&path, "%.*s%s", (int)(strrchr(script, '/') - script), script, tail) < 0)
        path = NULL;
    return path ? without_dots(path) : NULL;
}

/* Shows the programs that a script executes, and what those execute. */
static void show_wrapped(struct plan *plan, const char *script, int deep)
{
    static const char ends[] = " \t\r\n\"'`;&|<>()${}=";
    const char *before = "";
    char *save = NULL;
    AUTO(str) char *text = malloc(SCRIPT_BYTES + 1);
    AUTO(fd) int fd = text ? open(script, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : read(fd, text, SCRIPT_BYTES);
    if (n < 2 || memcmp(text, "#!", 2) != 0)
        return;
    text[n] = '\0';
    for (char *word = strtok_r(text + 2, ends, &save); word; word = strtok_r(NULL, ends, &save)) {
        AUTO(str) char *path = path_meant(script, word, before);
        AUTO(str) char *real = path ? realpath(path, NULL) : NULL;
        before = word;
        if (!real || !is_program(real) || strcmp(real, script) == 0)
            continue;
        show_file(plan, path, real);
        if (deep < WRAPPED_DEEP && !is_shown(real))
            show_wrapped(plan, real, deep + 1);
    }
}

/* A program outside is started by its real path: its own may lead there by links outside. */
int shown_program(struct plan *plan, struct err *err)
{
    AUTO(str) char *real = realpath(plan->argv.items[0], NULL);
    if (!real)
        return err_sys(err, "cannot find '%s'", plan->argv.items[0]);
    show_wrapped(plan, real, 1);
    if (is_shown(plan->argv.items[0]) && is_shown(real))
        return 0;
    if (str_replace(&plan->argv.items[0], real))
        return err_sys(err, "arguments");
    show_file(plan, real, real);
    return 0;
}
