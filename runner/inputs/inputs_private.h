/*
 * The stored inputs, their users and the jobs on them, shared by the files of this room. Private to
 * runner/inputs.
 *
 * Threads: any; `_locked` expects the lock of struct inputs held. Ownership: the store owns its
 * lists; a job is its caller's, on the stack.
 */
#ifndef INPUTS_PRIVATE_H
#define INPUTS_PRIVATE_H

#include "runner/inputs/inputs.h"

#include "base/lock.h"

#include <limits.h>
#include <pthread.h>

#define INPUTS_PART ".part" /* prefix of names that are incomplete or being removed */
#define INPUTS_TREE "tree-"
#define INPUTS_TREE_SIZE (sizeof(INPUTS_TREE) - 1 + INPUT_NAME_SIZE)

/* Work that one thread does for all that want it: an upload, or unpacking one. */
struct input_job {
    struct input_job *next;
    char what[INPUTS_TREE_SIZE]; /* the name that exists when the job is done */
};

/* An input that is in use, so that it is not evicted. */
struct input_use {
    struct input_use *next;
    char name[INPUT_NAME_SIZE];
    int count;
};

struct inputs {
    struct inputs_config config;
    char *path;
    int dir;
    struct lock lock; /* guards the fields below; held across no I/O except a stat or a rename */
    pthread_cond_t changed;
    struct input_job *jobs;
    struct input_use *uses;
};

/* Enters a job. Returns 1 when the job is the caller's, who must call input_job_leave(); 0 when its
 * result exists by now; -1 with ERR_BUSY when stopped() became true while another thread did it. */
int input_job_enter(struct inputs *inputs, struct input_job *job, bool (*stopped)(void *arg),
                    void *arg, struct err *err);
void input_job_leave(struct inputs *inputs, struct input_job *job);

/* INPUTS_MAX_MB in bytes. */
int64_t inputs_bytes_max(const struct inputs *inputs);

/* Evicts the inputs that were unused for longest until there is room for `more` bytes, except
 * `spare` and those in use or needed by a task. ERR_NO_SPACE when that is not enough. */
int inputs_make_room(struct inputs *inputs, int64_t more, const char *spare, struct err *err);

/* ERR_NO_SPACE when less than DISK_MIN_FREE_MB would be left of the disk. */
int inputs_check_disk(const struct inputs *inputs, struct err *err);

/* Removes what earlier processes left unfinished. */
void inputs_sweep(struct inputs *inputs);

/* An unpacked input. */
struct input_tree {
    char *files;               /* directory with the archive's content */
    char single[NAME_MAX + 1]; /* name of its only file, or "" */
};
void input_tree_done(struct input_tree *tree);

/* Unpacks an input that the caller holds, once for everybody; the files belong to the tasks' user.
 * ERR_MISMATCH, ERR_TOO_LARGE: the archive is invalid. ERR_BUSY: stopped. The caller ends *ret_tree
 * by input_tree_done(). */
int input_tree_get(struct inputs *inputs, const char *name, bool (*stopped)(void *arg), void *arg,
                   struct input_tree *ret_tree, struct err *err);

/* What an unpacked input takes on disk; 0 when it is not unpacked. */
int64_t input_tree_bytes(const struct inputs *inputs, const char *name);

/* Copies directory `from` (a descriptor) into directory `to`: files, directories, and links as
 * links. Names at the top for which skip() is true are left out; NULL: none. The copies belong to
 * the user. */
struct copy_wish {
    uid_t uid;
    gid_t gid;
    bool (*skip)(const char *name);
    bool replace; /* replace existing files; else they are an error */
};
int copy_tree(int from, int to, const struct copy_wish *wish, struct err *err);
/* Copies one file. */
int copy_file(int from_dir, const char *name, int to_dir, const char *to_name,
              const struct copy_wish *wish, struct err *err);
/* Gives a whole tree to the user. */
int copy_own(int dir, uid_t uid, gid_t gid, struct err *err);

#endif
