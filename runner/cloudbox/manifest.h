/*
 * What a box holds, file by file, so that what has changed is known later: by inode and the times
 * that the kernel keeps, which nobody in the box can set back.
 *
 * Threads: no shared state.
 */
#ifndef CLOUDBOX_MANIFEST_H
#define CLOUDBOX_MANIFEST_H

#include "base/auto.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MANIFEST_ENTRIES_MAX 2000000
#define MANIFEST_DEPTH_MAX 200 /* directories below each other */
#define MANIFEST_PATH_MAX 4000 /* bytes */

struct manifest_entry {
    char *path; /* below the box: "workspace/a/b" */
    uint64_t inode;
    int64_t size;
    int64_t changed_ns, modified_ns;
    mode_t mode; /* with the type: a file, a directory or a link */
};

struct manifest {
    struct manifest_entry *entries; /* by path, as strcmp() has it */
    size_t count, room;
    int64_t bytes; /* of all files */
};

/* Of the parts of a box, an open directory: its workspace, tmp, home and shells. Sockets, pipes and
 * devices are no part of it. ERR_TOO_LARGE past the maxima. *ret_manifest needs no init. */
int manifest_read(int box, struct manifest *ret_manifest, struct err *err);
void manifest_done(struct manifest *manifest);
static inline void auto_manifest(struct manifest *manifest)
{
    manifest_done(manifest);
}

/* Goes through both by path: fn gets what is there only once as NULL on the other side, and what
 * differs; not what is the same. Returns what fn returned last. */
typedef int manifest_fn(const struct manifest_entry *before, const struct manifest_entry *after,
                        void *arg);
int manifest_compare(const struct manifest *before, const struct manifest *after, manifest_fn *fn,
                     void *arg);

/* The parts, ending with NULL. */
extern const char *const manifest_parts[];

#endif
