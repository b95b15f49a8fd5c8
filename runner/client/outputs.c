/* outputs: lists and fetches a task's outputs. */
#include "base/auto.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/client/commands.h"
#include "runner/client/download.h"
#include "runner/client/screen.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct json *list(struct call *call, struct err *err)
{
    AUTO(str) char *path = client_path("/tasks/", call->args.items[0], "/outputs", err);
    if (!path || settings_find(&call->to, &call->given, err))
        return NULL;
    return client_call(&call->to, "GET", path, NULL, err);
}

int client_outputs(struct call *call, struct err *err)
{
    AUTO(json) struct json *answer = list(call, err);
    if (!answer)
        return -1;
    if (call->json) {
        client_print_answer(answer);
        return 0;
    }
    const struct json *outputs = json_get(answer, "outputs");
    for (const struct json *at = json_first(outputs); at; at = json_next(at)) {
        AUTO(buf) struct buf name = BUF_INIT(16384);
        screen_add_line(&name, text_of(at, "path"), 4096);
        printf("%12lld  %s\n", number_of(at, "sizeBytes"), buf_str(&name));
    }
    return 0;
}

/* Fetches one output, to `to` or into it. */
static int get_one(const struct call *call, const char *name, const char *to, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(16384);
    buf_addf(&path, "/tasks/");
    str_add_url(&path, call->args.items[0], "");
    buf_adds(&path, "/outputs/");
    str_add_url(&path, name, "/");
    if (buf_check(&path, "a path", err))
        return -1;
    return download_file(&call->to, buf_str(&path), to, NULL, err) ? err_wrap(err, "%.100s", name)
                                                                   : 0;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Fetches every output into a directory. A name that leads out of it is refused, because a runner
 * may lie. */
static int get_all(struct call *call, const char *dir, struct err *err)
{
    AUTO(json) struct json *answer = list(call, err);
    const struct json *outputs = json_get(answer, "outputs");
    if (!answer)
        return -1;
    for (const struct json *at = json_first(outputs); at; at = json_next(at)) {
        const char *name = text_of(at, "path");
        AUTO(str) char *to = path_join(dir, name);
        if (!path_is_inside(name))
            return err_set(err, ERR_UPSTREAM, "the runner names an output '%.80s'", name);
        if (!to || get_one(call, name, to, err))
            return -1;
        if (!call->json)
            puts(to);
    }
    return 0;
}

int client_outputs_get(struct call *call, struct err *err)
{
    const char *out = options_value(&call->given, "out");
    const char *name = call->args.count > 1 ? call->args.items[1] : NULL;
    if (!name)
        return get_all(call, out ? out : call->args.items[0], err);
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    AUTO(str) char *below = out && is_directory(out) ? path_join(out, base) : NULL;
    if (settings_find(&call->to, &call->given, err))
        return -1;
    return get_one(call, name, below ? below : out ? out : base, err);
}
