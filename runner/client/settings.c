#include "runner/client/settings.h"

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/form.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/client/options.h"
#include "runner/config/vars.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_MAX 65536
#define SECRET_MAX 4096
#define SERVICE_FILE "/etc/claude-runner.env"
#define DEFAULT_PORT "8787"

static void wipe(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void settings_done(struct settings *settings)
{
    free(settings->url);
    free(settings->name);
    wipe(&settings->secret);
    wipe(&settings->access_id);
    wipe(&settings->access_secret);
}

/* --- values -------------------------------------------------------------------------------- */

/* Takes the first secret of a list "name:secret,…". */
static int take_secret(char **to, const char *text, struct err *err)
{
    text += strspn(text, " \t\r\n");
    size_t n = strcspn(text, ", \t\r\n");
    const char *colon = memchr(text, ':', n);
    if (colon) {
        n -= (size_t)(colon + 1 - text);
        text = colon + 1;
    }
    if (n == 0)
        return err_set(err, ERR_CONFIG, "the secret is empty");
    wipe(to);
    *to = strndup(text, n);
    return *to ? 0 : err_sys(err, "secret");
}

/* Expands "~/x" to a path in the home directory; the caller frees it. */
static char *expand(const char *path)
{
    const char *home = getenv("HOME");
    if (str_starts(path, "~/") && home)
        return path_join(home, path + 2);
    return strdup(path);
}

static int read_secret(char **to, const char *path, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(SECRET_MAX);
    AUTO(str) char *whole = expand(path);
    if (!whole || file_read(whole, &text, err))
        return err_wrap(err, "secret");
    return take_secret(to, buf_str(&text), err);
}

/* Reads the output of a command of the owner. */
static int ask_command(char **to, const char *command, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(SECRET_MAX);
    AUTO(fd) int in = -1, out = -1;
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, strdup(command), NULL};
    AUTO(str) char *owned = argv[2];
    posix_spawn_file_actions_t actions;
    int ends[2], status = -1;
    pid_t pid;
    if (!owned || pipe2(ends, O_CLOEXEC))
        return err_sys(err, "secret_command");
    in = ends[0], out = ends[1];
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    errno = posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (errno)
        return err_sys(err, "secret_command");
    fd_close(&out);
    int rc = fd_read_all(in, &text, err);
    fd_close(&in);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (rc)
        return err_wrap(err, "secret_command");
    if (status != 0)
        return err_set(err, ERR_CONFIG, "secret_command failed: %.100s", command);
    return take_secret(to, buf_str(&text), err);
}

static int take_url(struct settings *settings, const char *text, struct err *err)
{
    free(settings->url);
    settings->url = strdup(text);
    if (!settings->url)
        return err_sys(err, "URL");
    for (size_t n = strlen(settings->url); n > 0 && settings->url[n - 1] == '/'; n--)
        settings->url[n - 1] = '\0';
    if (strncasecmp(text, "http://", 7) != 0 && strncasecmp(text, "https://", 8) != 0)
        return err_set(err, ERR_INVALID, "'%.100s' is no http or https URL", text);
    return 0;
}

/* --- the configuration file ---------------------------------------------------------------- */

char *settings_path(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (config && *config)
        return path_join(config, "claude-runner/config");
    if (home && *home && asprintf(&path, "%s/.config/claude-runner/config", home) < 0)
        path = NULL;
    return path;
}

/* Called for each line of the file: section is NULL before the first one. -1 ends the reading. */
typedef int line_fn(const char *section, const char *name, const char *value, bool open, void *arg,
                    struct err *err);

static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    for (size_t n = strlen(text); n > 0 && strchr(" \t\r", text[n - 1]); n--)
        text[n - 1] = '\0';
    return text;
}

static int read_line(char *line, char **section, bool open, line_fn *fn, void *arg, struct err *err)
{
    line = trim(line);
    if (!*line || *line == '#' || *line == ';')
        return 0;
    char *end = line + strlen(line) - 1;
    if (*line == '[' && *end == ']') {
        *end = '\0';
        *section = trim(line + 1);
        return fn(*section, NULL, NULL, open, arg, err);
    }
    char *equals = strchr(line, '=');
    if (!equals)
        return err_set(err, ERR_CONFIG, "neither [name] nor name = value");
    *equals = '\0';
    return fn(*section, trim(line), trim(equals + 1), open, arg, err);
}

/* Reads the file. Returns 1 when there is none. `open` tells fn that others may read the file. */
static int read_file(line_fn *fn, void *arg, struct err *err)
{
    AUTO(str) char *path = settings_path();
    AUTO(buf_wipe) struct buf text = BUF_INIT(FILE_MAX);
    struct stat st;
    char *save = NULL, *section = NULL;
    if (!path || stat(path, &st))
        return 1;
    if (file_read(path, &text, err))
        return -1;
    bool open = (st.st_mode & 077) != 0;
    int number = 1;
    for (char *line = text.data; line; line = save, number++) {
        save = strchr(line, '\n');
        if (save)
            *save++ = '\0';
        if (read_line(line, &section, open, fn, arg, err))
            return err_wrap(err, "%s:%d", path, number);
    }
    return 0;
}

struct names {
    struct strlist *names;
    char **chosen;
};

static int see_name(const char *section, const char *name, const char *value, bool open, void *arg,
                    struct err *err)
{
    struct names *seen = arg;
    (void)open, (void)err;
    if (!name)
        strlist_add(seen->names, section);
    else if (!section && strcmp(name, "default") == 0)
        str_replace(seen->chosen, value);
    return 0;
}

int settings_names(struct strlist *names, char **ret_default, struct err *err)
{
    struct names seen = {names, ret_default};
    return read_file(see_name, &seen, err) < 0 ? -1 : 0;
}

enum value_kind { VALUE_URL, VALUE_TEXT, VALUE_FILE, VALUE_COMMAND };

static const struct {
    const char *name;
    enum value_kind kind;
    size_t offset;
} values[] = {
    {"url", VALUE_URL, 0},
    {"secret", VALUE_TEXT, offsetof(struct settings, secret)},
    {"secret_file", VALUE_FILE, offsetof(struct settings, secret)},
    {"secret_command", VALUE_COMMAND, offsetof(struct settings, secret)},
    {"access_client_id", VALUE_TEXT, offsetof(struct settings, access_id)},
    {"access_client_secret", VALUE_TEXT, offsetof(struct settings, access_secret)},
    {"access_client_secret_file", VALUE_FILE, offsetof(struct settings, access_secret)},
};

static const char *next_value(size_t index, void *arg)
{
    (void)arg;
    return index < COUNT_OF(values) ? values[index].name : NULL;
}

static int take_value(struct settings *settings, const char *name, const char *value, bool open,
                      struct err *err)
{
    size_t i = 0;
    while (i < COUNT_OF(values) && strcmp(values[i].name, name) != 0)
        i++;
    if (i == COUNT_OF(values)) {
        const char *near = str_nearest(name, next_value, NULL);
        return err_set(err, ERR_CONFIG, "unknown name '%.60s'%s%s%s", name,
                       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    char **to = (char **)(void *)((char *)settings + values[i].offset);
    switch (values[i].kind) {
    case VALUE_URL:
        return take_url(settings, value, err);
    case VALUE_FILE:
        return read_secret(to, value, err);
    case VALUE_COMMAND:
        return ask_command(to, value, err);
    case VALUE_TEXT:
        break;
    }
    if (open && strstr(name, "secret"))
        return err_set(err, ERR_CONFIG, "others may read this file: chmod 600, or use %s_file",
                       name);
    return take_secret(to, value, err);
}

struct wanted {
    struct settings *settings;
    const char *name;
    bool found;
};

static int see_value(const char *section, const char *name, const char *value, bool open, void *arg,
                     struct err *err)
{
    struct wanted *wanted = arg;
    if (!section)
        return !name || strcmp(name, "default") == 0
                   ? 0
                   : err_set(err, ERR_CONFIG, "'%.60s' stands before the first [name]", name);
    if (strcmp(section, wanted->name) != 0)
        return 0;
    wanted->found = true;
    return name ? take_value(wanted->settings, name, value, open, err) : 0;
}

static const char *next_name(size_t index, void *arg)
{
    const struct strlist *names = arg;
    return index < names->count ? names->items[index] : NULL;
}

static int load_named(struct settings *settings, const char *name, struct strlist *names,
                      struct err *err)
{
    struct wanted wanted = {.settings = settings, .name = name};
    if (read_file(see_value, &wanted, err) < 0)
        return -1;
    if (!wanted.found) {
        const char *near = str_nearest(name, next_name, names);
        return err_set(err, ERR_CONFIG, "the configuration has no runner '%.60s'%s%s%s", name,
                       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (!settings->url)
        return err_set(err, ERR_CONFIG, "the configuration of runner '%.60s' has no url", name);
    return str_replace(&settings->name, name) ? err_sys(err, "settings") : 0;
}

/* Returns 1 when the file does not say which runner to use. */
static int load_file(struct settings *settings, const char *name, struct err *err)
{
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    AUTO(str) char *chosen = NULL;
    if (settings_names(&names, &chosen, err))
        return -1;
    if (!name)
        name = chosen && *chosen ? chosen : names.count == 1 ? names.items[0] : NULL;
    return name ? load_named(settings, name, &names, err) : 1;
}

/* --- all places ---------------------------------------------------------------------------- */

static int take_from(struct settings *settings, const struct vars *vars, struct err *err)
{
    const char *secret = vars_get(vars, "RUNNER_SECRET");
    const char *path = vars_get(vars, "RUNNER_SECRET_FILE");
    if (secret)
        return take_secret(&settings->secret, secret, err);
    return path ? read_secret(&settings->secret, path, err) : 0;
}

/* Takes the runner of this machine from ./.env or the service's file, where the environment leaves
 * something open. */
static int look_here(struct settings *settings, struct err *err)
{
    static const char *const files[] = {".env", SERVICE_FILE};
    bool has_url = settings->url != NULL;
    AUTO(str) char *url = NULL;
    for (size_t i = 0; i < COUNT_OF(files) && !settings->secret; i++) {
        AUTO(vars) struct vars vars = {0};
        AUTO(strlist) struct strlist ignored = STRLIST_INIT;
        if (access(files[i], R_OK) || vars_read_file(&vars, "--env-file", files[i], &ignored))
            continue;
        const char *port = vars_get(&vars, "PORT"), *said = vars_get(&vars, "RUNNER_URL");
        if (!has_url && said && take_url(settings, said, err))
            return -1;
        if (!settings->url &&
            asprintf(&url, "http://127.0.0.1:%s", port ? port : DEFAULT_PORT) > 0 &&
            take_url(settings, url, err))
            return -1;
        if (take_from(settings, &vars, err))
            return err_wrap(err, "%s", files[i]);
    }
    return settings->url ? 0 : take_url(settings, "http://127.0.0.1:" DEFAULT_PORT, err);
}

/* True for this machine: only it may get this machine's own secret. */
static bool is_here(const char *url)
{
    struct form_url form;
    return form_url(url, &form) == 0 && form.loopback;
}

int settings_find(struct settings *settings, const struct strlist *given, struct err *err)
{
    AUTO(vars) struct vars env = {0};
    vars_read_env(&env, environ);
    const char *url = options_value(given, "url");
    const char *file = options_value(given, "secret-file");
    const char *name = options_value(given, "runner");
    const char *env_url = vars_get(&env, "RUNNER_URL"), *port = vars_get(&env, "PORT");
    AUTO(str) char *local = NULL;
    if (url && name)
        return err_set(err, ERR_INVALID, "--url and --runner exclude each other");
    if (!name && !url && !env_url)
        name = vars_get(&env, "RUNNER_NAME");
    if (!url && !name && !env_url && port && asprintf(&local, "http://127.0.0.1:%s", port) > 0)
        env_url = local;
    if (url || (env_url && !name)) {
        if (take_url(settings, url ? url : env_url, err) ||
            (file ? read_secret(&settings->secret, file, err) : take_from(settings, &env, err)))
            return -1;
        return settings->secret || !is_here(settings->url) ? 0 : look_here(settings, err);
    }
    int loaded = load_file(settings, name, err);
    if (loaded < 0)
        return -1;
    if (file ? read_secret(&settings->secret, file, err) : take_from(settings, &env, err))
        return -1;
    return loaded == 0 ? 0 : look_here(settings, err);
}
