#include "runner/inputs/layers.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "runner/inputs/inputs_private.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEED ".claude"
#define OPTIONS_MAX 4000 /* The kernel accepts one page. */

struct layer {
    char hash[INPUT_NAME_SIZE];
    bool held;
    char name[NAME_MAX + 1];
    struct input_tree tree;
};

struct input_layers {
    struct inputs *inputs;
    struct input_wish wish;
    char *own;           /* directory of the run's layers above and between the trees */
    const char *options; /* options of overlays; NULL: copies are made */
    bool folder;         /* `input` itself is an overlay, for single files */
    int mounted;
    struct layer *items;
    size_t count;
};

int input_each(const char *request, int (*fn)(const char *name, const char *hash, void *arg),
               void *arg, struct err *err)
{
    int rc = 0;
    AUTO(json) struct json *root = request ? json_parse(request, strlen(request), err) : NULL;
    if (request && !root)
        return -1;
    for (const struct json *at = json_first(root); at && rc == 0; at = json_next(at)) {
        char hash[INPUT_NAME_SIZE];
        if (!json_text(at) || input_name(json_text(at), hash))
            return err_set(err, ERR_INVALID, "input '%.60s' has no name", json_name(at));
        rc = fn(json_name(at), hash, arg);
    }
    return rc ? err_set(err, ERR_INTERNAL, "there are too many inputs") : 0;
}

/* --- what is wanted ------------------------------------------------------------------------ */

static int note_layer(const char *name, const char *hash, void *arg)
{
    struct input_layers *layers = arg;
    struct layer *layer = &layers->items[layers->count];
    if (layers->count == INPUTS_COUNT_MAX || strlen(name) >= sizeof(layer->name))
        return -1;
    snprintf(layer->name, sizeof(layer->name), "%s", name);
    memcpy(layer->hash, hash, INPUT_NAME_SIZE);
    layers->count++;
    return 0;
}

static int get_tree(struct input_layers *layers, struct layer *layer, struct err *err)
{
    if (input_hold(layers->inputs, layer->hash, err))
        return -1;
    layer->held = true;
    return input_tree_get(layers->inputs, layer->hash, layers->wish.stopped, layers->wish.arg,
                          &layer->tree, err);
}

/* --- what is there already ----------------------------------------------------------------- */

static int open_dir(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Looks for the workspace's own `input`, below `top`; *ret_there says whether it exists. */
static int look_below(const struct input_layers *layers, const char *top, bool *ret_there,
                      struct err *err)
{
    struct stat st;
    AUTO(fd) int dir = open_dir(AT_FDCWD, top);
    if (dir < 0 || fstatat(dir, INPUTS_FOLDER, &st, AT_SYMLINK_NOFOLLOW))
        return 0;
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_CONFLICT,
                       "the repository has a file '" INPUTS_FOLDER "' where inputs go");
    *ret_there = true;
    AUTO(fd) int folder = open_dir(dir, INPUTS_FOLDER);
    for (size_t i = 0; i < layers->count; i++)
        if (folder < 0 || fstatat(folder, layers->items[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return err_set(err, ERR_CONFLICT,
                           "the repository has '" INPUTS_FOLDER "/%.80s' itself: give the input "
                           "another name",
                           layers->items[i].name);
    return 0;
}

/* The directory that stands for the workspace before it is mounted; the caller frees the path. */
static char *base_of(const struct input_layers *layers)
{
    return layers->wish.workspace ? strdup(workspace_upper(layers->wish.workspace))
                                  : path_join(layers->wish.dir, "work");
}

static int make_own(const struct input_layers *layers, const char *path, struct err *err)
{
    const struct inputs_config *config = &layers->inputs->config;
    return path_make_dirs(path, 0700, err) || path_own(path, config->uid, config->gid, err) ? -1
                                                                                            : 0;
}

static int make_dir_at(const struct input_layers *layers, int at, const char *name, struct err *err)
{
    const struct inputs_config *config = &layers->inputs->config;
    if (mkdirat(at, name, 0755) && errno != EEXIST)
        return err_sys(err, "cannot make '%.100s'", name);
    return fchownat(at, name, config->uid, config->gid, AT_SYMLINK_NOFOLLOW)
               ? err_sys(err, "cannot make '%.100s'", name)
               : 0;
}

/* --- laying -------------------------------------------------------------------------------- */

static int copy_layer(const struct input_layers *layers, const struct layer *layer, int folder,
                      struct err *err)
{
    const struct inputs_config *config = &layers->inputs->config;
    const struct copy_wish wish = {.uid = config->uid, .gid = config->gid};
    AUTO(fd) int from = open_dir(AT_FDCWD, layer->tree.files);
    if (from < 0)
        return err_sys(err, "input");
    if (layer->tree.single[0])
        return copy_file(from, layer->tree.single, folder, layer->name, &wish, err);
    if (make_dir_at(layers, folder, layer->name, err))
        return -1;
    AUTO(fd) int to = open_dir(folder, layer->name);
    return to < 0 ? err_sys(err, "input") : copy_tree(from, to, &wish, err);
}

/* In the layer below `input`: links the tree's only file under its input's name, or makes a mount
 * point. */
static int link_layer(const struct input_layers *layers, const struct layer *layer, int folder,
                      struct err *err)
{
    if (!layer->tree.single[0])
        return make_dir_at(layers, folder, layer->name, err);
    AUTO(fd) int from = open_dir(AT_FDCWD, layer->tree.files);
    return from < 0 || linkat(from, layer->tree.single, folder, layer->name, 0)
               ? err_sys(err, "cannot lay the input there")
               : 0;
}

/* Makes the directories that the overlays write to: "0", "1", … for the layers, and "folder". */
static int make_uppers(const struct input_layers *layers, struct err *err)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < layers->count; i++) {
        snprintf(path, sizeof(path), "%s/%zu", layers->own, i);
        if (!layers->items[i].tree.single[0] && make_own(layers, path, err))
            return -1;
    }
    if (!layers->folder)
        return 0;
    snprintf(path, sizeof(path), "%s/folder", layers->own);
    return make_own(layers, path, err);
}

static int lay_all(const struct input_layers *layers, struct err *err)
{
    char lower[PATH_MAX];
    AUTO(str) char *base = base_of(layers);
    snprintf(lower, sizeof(lower), "%s/lower", layers->own);
    if (!base)
        return err_sys(err, "inputs");
    AUTO(fd) int top = open_dir(AT_FDCWD, base);
    if (top < 0)
        return err_sys(err, "inputs");
    if (make_dir_at(layers, top, INPUTS_FOLDER, err) ||
        (layers->folder && make_own(layers, lower, err)) ||
        (layers->options && make_uppers(layers, err)))
        return -1;
    AUTO(fd) int folder = layers->folder ? open_dir(AT_FDCWD, lower) : open_dir(top, INPUTS_FOLDER);
    if (folder < 0)
        return err_sys(err, "inputs");
    for (size_t i = 0; i < layers->count; i++) {
        const struct layer *layer = &layers->items[i];
        bool copied = !layers->options || (layer->tree.single[0] && !layers->folder);
        int rc = copied           ? copy_layer(layers, layer, folder, err)
                 : layers->folder ? link_layer(layers, layer, folder, err)
                                  : make_dir_at(layers, folder, layer->name, err);
        if (rc)
            return err_wrap(err, "inputs.%.60s", layer->name);
    }
    return 0;
}

/* Makes git in the workspace, ours and Claude's, ignore what does not belong to the repository. */
static int keep_from_git(const struct input_layers *layers, struct err *err)
{
    static const char line[] = "/" INPUTS_FOLDER "/\n";
    if (!layers->wish.workspace)
        return 0;
    AUTO(str)
    char *path = path_join(workspace_upper(layers->wish.workspace), ".git/info/exclude");
    AUTO(fd) int fd = path ? open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC) : -1;
    return fd < 0 || fd_write_all(fd, line, sizeof(line) - 1)
               ? err_sys(err, "cannot keep inputs out of git")
               : 0;
}

static int prepare(struct input_layers *layers, struct err *err)
{
    bool there = false, single = false;
    struct workspace *workspace = layers->wish.workspace;
    const char *tree = workspace ? workspace_tree(workspace) : NULL;
    AUTO(str) char *base = base_of(layers);
    if (input_each(layers->wish.request, note_layer, layers, err))
        return err_wrap(err, "inputs");
    if (!base)
        return err_sys(err, "inputs");
    if (make_own(layers, base, err) || look_below(layers, base, &there, err) ||
        (tree && look_below(layers, tree, &there, err)))
        return -1;
    for (size_t i = 0; i < layers->count; i++) {
        if (get_tree(layers, &layers->items[i], err))
            return err_wrap(err, "inputs.%.60s", layers->items[i].name);
        single |= layers->items[i].tree.single[0] != '\0';
    }
    layers->folder = layers->options && single && !there; /* Otherwise it would hide existing
                                                           * files. */
    if (layers->options && path_make_dirs(layers->own, 0700, err))
        return -1;
    return lay_all(layers, err) || keep_from_git(layers, err) ? -1 : 0;
}

struct input_layers *input_layers_open(struct inputs *inputs, const struct input_wish *wish,
                                       struct err *err)
{
    REQUIRE(wish->dir);
    AUTO(input_layers) struct input_layers *layers = calloc(1, sizeof(*layers));
    if (layers) {
        layers->inputs = inputs;
        layers->wish = *wish;
        layers->options = repos_overlay(wish->repos);
        layers->own = path_join(wish->dir, "inputs");
        layers->items = calloc(INPUTS_COUNT_MAX, sizeof(*layers->items));
    }
    if (!layers || !layers->own || !layers->items) {
        err_sys(err, "inputs");
        return NULL;
    }
    return prepare(layers, err) ? NULL : STEAL_PTR(layers);
}

void input_layers_close(struct input_layers *layers)
{
    if (!layers)
        return;
    for (size_t i = 0; layers->items && i < layers->count; i++) {
        if (layers->items[i].held)
            input_drop(layers->inputs, layers->items[i].hash);
        input_tree_done(&layers->items[i].tree);
    }
    free(layers->items);
    free(layers->own);
    free(layers);
}

/* --- showing ------------------------------------------------------------------------------- */

/* Appends one overlay at `place` in the workspace, which writes to own/UPPER. */
static int add_mount(struct input_layers *layers, const char *lower, const char *upper,
                     const char *place, struct strlist *mounts, struct err *err)
{
    char path[PATH_MAX], work[PATH_MAX];
    AUTO(buf) struct buf options = BUF_INIT(OPTIONS_MAX);
    snprintf(path, sizeof(path), "%s/%s", layers->own, upper);
    snprintf(work, sizeof(work), "%s/%s.work.%d", layers->own, upper, layers->mounted);
    if (path_make_dirs(work, 0700, err))
        return -1;
    buf_adds(&options, "lowerdir=");
    repos_add_overlay_path(&options, lower);
    buf_adds(&options, ",upperdir=");
    repos_add_overlay_path(&options, path);
    buf_adds(&options, ",workdir=");
    repos_add_overlay_path(&options, work);
    buf_addf(&options, ",%s", layers->options);
    strlist_add(mounts, "overlay");
    strlist_addf(mounts, "%s/work/" INPUTS_FOLDER "%s%s", layers->wish.dir, *place ? "/" : "",
                 place);
    strlist_add(mounts, buf_str(&options));
    return buf_check(&options, "an input's mount options", err);
}

int input_layers_mounts(struct input_layers *layers, struct strlist *mounts, struct err *err)
{
    char lower[PATH_MAX], upper[32];
    if (!layers || !layers->options)
        return 0;
    layers->mounted++;
    snprintf(lower, sizeof(lower), "%s/lower", layers->own);
    if (layers->folder && add_mount(layers, lower, "folder", "", mounts, err))
        return -1;
    for (size_t i = 0; i < layers->count; i++) {
        const struct layer *layer = &layers->items[i];
        snprintf(upper, sizeof(upper), "%zu", i);
        if (!layer->tree.single[0] &&
            add_mount(layers, layer->tree.files, upper, layer->name, mounts, err))
            return -1;
    }
    return mounts->failed ? err_sys(err, "inputs") : 0;
}

int input_layers_seed(struct input_layers *layers, const char *to, bool (*skip)(const char *name),
                      struct err *err)
{
    for (size_t i = 0; layers && i < layers->count; i++) {
        const struct layer *layer = &layers->items[i];
        const struct inputs_config *config = &layers->inputs->config;
        const struct copy_wish wish = {
            .uid = config->uid, .gid = config->gid, .skip = skip, .replace = true};
        if (strcmp(layer->name, SEED) != 0)
            continue;
        AUTO(fd) int from = open_dir(AT_FDCWD, layer->tree.files);
        AUTO(fd) int dir = open_dir(AT_FDCWD, to);
        if (from < 0 || dir < 0)
            return err_sys(err, "inputs." SEED);
        if (copy_tree(from, dir, &wish, err))
            return err_wrap(err, "inputs." SEED);
    }
    return 0;
}
