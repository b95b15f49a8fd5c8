/*
 * The inputs of one run, as its programs see them: workspace/input/NAME.
 *
 * Theory of operation. Each archive is unpacked once (unpacked.c) and laid under the run:
 *
 *     overlay   where repos have workspaces by overlay: the tree below, a directory of the run's
 *               above; two mounts and no file is copied. An archive of one file is a link to the
 *               tree's file in one more layer, for `input` itself.
 *     copies    elsewhere; they share their blocks where the file system can.
 *
 * Either way the run may change what it finds, and nobody else sees that. The places are made in
 * the workspace; git passes them over (.git/info/exclude). What the workspace has there already is
 * not hidden: that is an error.
 *
 * Threads: the task's own. Ownership: what the wish points to is borrowed until it is closed.
 */
#ifndef INPUTS_LAYERS_H
#define INPUTS_LAYERS_H

#include "base/auto.h"
#include "base/strlist.h"
#include "runner/inputs/inputs.h"
#include "runner/repo/repos.h"

#define INPUTS_COUNT_MAX 100 /* of one request: REQUEST_INPUTS_MAX */
#define INPUTS_FOLDER "input"

struct input_layers;

struct input_wish {
    const char *request; /* the request's `inputs`: {"NAME":"sha256:…"}; NULL: none */
    struct repos *repos;
    struct workspace *workspace; /* NULL: the run works in dir/work */
    const char *dir;             /* the run's own directory */
    bool (*stopped)(void *arg);  /* true when the run must end */
    void *arg;
};

/* Calls fn for each input of a decoded request until fn returns non-zero, which makes this fail. */
int input_each(const char *request, int (*fn)(const char *name, const char *hash, void *arg),
               void *arg, struct err *err);

/* Prepares the layers, before any program of the run starts; the caller ends them by
 * input_layers_close(). ERR_NOT_FOUND: an input does not exist. ERR_MISMATCH, ERR_TOO_LARGE: an
 * archive is invalid. ERR_CONFLICT: the workspace has something at that place. ERR_BUSY: stopped.
 * The message names the input. */
struct input_layers *input_layers_open(struct inputs *inputs, const struct input_wish *wish,
                                       struct err *err);

/* Appends the mounts that show them (for struct plan), after the workspace's own. Call again for
 * each process tree, one at a time. */
int input_layers_mounts(struct input_layers *layers, struct strlist *mounts, struct err *err);

/* Copies the content of the input ".claude", if there is one, into a directory of the run, except
 * names at its top for which skip() is true. */
int input_layers_seed(struct input_layers *layers, const char *to, bool (*skip)(const char *name),
                      struct err *err);

/* Frees the layers; their files are removed with the run's directory. */
void input_layers_close(struct input_layers *layers);
DEFINE_AUTO(input_layers, struct input_layers *, input_layers_close)

#endif
