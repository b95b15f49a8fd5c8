#include "pack/ignore.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/glob.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX (1u << 20)

void ignore_done(struct ignore *ignore)
{
    strlist_done(&ignore->patterns);
}

void ignore_leave(struct ignore *ignore, size_t count)
{
    REQUIRE(count <= ignore->patterns.count);
    while (ignore->patterns.count > count) {
        free(ignore->patterns.items[--ignore->patterns.count]);
        ignore->patterns.items[ignore->patterns.count] = NULL;
    }
}

static void add_line(struct ignore *ignore, const char *path, char *line)
{
    size_t n = strlen(line);
    while (n > 0 && strchr(" \t\r", line[n - 1]) && !(n > 1 && line[n - 2] == '\\'))
        line[--n] = '\0';
    if (n == 0 || *line == '#')
        return;
    strlist_add(&ignore->patterns, path);
    strlist_add(&ignore->patterns, line);
}

int ignore_enter(struct ignore *ignore, int dir, const char *path, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    AUTO(fd) int fd = openat(dir, ".gitignore", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (fd_read_all(fd, &text, err))
        return err_wrap(err, "%s/.gitignore", path);
    char *save = NULL;
    for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        add_line(ignore, path, line);
    return ignore->patterns.failed ? err_set(err, ERR_TOO_LARGE, "too many patterns to ignore") : 0;
}

/* Matches one pattern of the .gitignore in `base`. */
static bool matches(const char *base, const char *pattern, const char *path, bool is_directory)
{
    char text[4096];
    size_t base_len = strlen(base), n = strlen(pattern);
    if (n >= sizeof(text))
        return false;
    if (base_len > 0 && (strncmp(path, base, base_len) != 0 || path[base_len] != '/'))
        return false;
    const char *below = base_len > 0 ? path + base_len + 1 : path;
    bool directories = pattern[n - 1] == '/';
    n -= directories;
    if (n == 0 || (directories && !is_directory))
        return false;
    snprintf(text, sizeof(text), "%.*s", (int)n, pattern);
    if (!strchr(text, '/')) {
        const char *name = strrchr(below, '/');
        return glob_match(text, name ? name + 1 : below);
    }
    return glob_match(text + (text[0] == '/'), below);
}

bool ignore_match(const struct ignore *ignore, const char *path, bool is_directory)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    if (strcmp(name, ".git") == 0)
        return true;
    for (size_t i = ignore->patterns.count; i >= 2; i -= 2) {
        const char *pattern = ignore->patterns.items[i - 1];
        bool back = *pattern == '!';
        pattern += back || (pattern[0] == '\\' && strchr("!#", pattern[1]) && pattern[1]);
        if (*pattern && matches(ignore->patterns.items[i - 2], pattern, path, is_directory))
            return !back;
    }
    return false;
}
