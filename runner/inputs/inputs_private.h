/*
 * The inputs that are kept, those in use and the jobs on them, shared by the files of this room.
 * Private to runner/inputs.
 *
 * Threads: any; `_locked` expects the lock of struct inputs held.
 */
#ifndef INPUTS_PRIVATE_H
#define INPUTS_PRIVATE_H

#include "runner/inputs/inputs.h"

#include "base/lock.h"

#include <limits.h>
#include <pthread.h>

#define INPUTS_PART ".part" /* begins the names of what is not whole yet, or is going */
#define INPUTS_TREE "tree-"
#define INPUTS_TREE_SIZE (sizeof(INPUTS_TREE) - 1 + INPUT_NAME_SIZE)

/* Something that one thread does for all that want it: an upload, or the unpacking of one. */
struct input_job {
    struct input_job *next;
    char what[INPUTS_TREE_SIZE]; /* the name that will be there when it is done */
};

/* An input that somebody uses: it is not evicted. */
struct input_use {
    struct input_use *next;
    char name[INPUT_NAME_SIZE];
    int count;
};

struct inputs {
    struct inputs_config config;
    char *path;
    int dir;
    struct lock lock; /* of what follows; held across no I/O but a stat or a rename */
    pthread_cond_t changed;
    struct input_job *jobs;
    struct input_use *uses;
};

/* 1: the job is the caller's, who owes input_job_leave(); 0: what it makes is there by now; -1
 * with ERR_BUSY: stopped() became true while somebody else worked on it. */
int input_job_enter(struct inputs *inputs, struct input_job *job, bool (*stopped)(void *arg),
                    void *arg, struct err *err);
void input_job_leave(struct inputs *inputs, struct input_job *job);

/* INPUTS_MAX_MB in bytes. */
int64_t inputs_bytes_max(const struct inputs *inputs);

/* Evicts what was used longest ago until there is room for `more` bytes, never `spare` or what is
 * in use or needed by a task. ERR_NO_SPACE: that was not enough. */
int inputs_make_room(struct inputs *inputs, int64_t more, const char *spare, struct err *err);

/* ERR_NO_SPACE when less than DISK_MIN_FREE_MB would be left of the disk. */
int inputs_check_disk(const struct inputs *inputs, struct err *err);

/* Removes what earlier processes left half made. */
void inputs_sweep(struct inputs *inputs);

/* An input, unpacked. */
struct input_tree {
    char *files;               /* directory of what the archive holds */
    char single[NAME_MAX + 1]; /* the one file that it holds, or "" */
};
void input_tree_done(struct input_tree *tree);

/* Unpacks an input that the caller uses, once for everybody; the files are the tasks' user's.
 * ERR_MISMATCH, ERR_TOO_LARGE: the archive is not right. ERR_BUSY: stopped. */
int input_tree_get(struct inputs *inputs, const char *name, bool (*stopped)(void *arg), void *arg,
                   struct input_tree *ret_tree, struct err *err);

/* What an unpacked input takes on the disk; 0 when it is not unpacked. */
int64_t input_tree_bytes(const struct inputs *inputs, const char *name);

/* Copies directory `from` (descriptor) into the directory `to`: files, directories, and links as
 * they are. Names at the top for which skip() is true stay; NULL: none. The copies are the user's.
 */
struct copy_wish {
    uid_t uid;
    gid_t gid;
    bool (*skip)(const char *name);
    bool replace; /* files that are there already; else they are an error */
};
int copy_tree(int from, int to, const struct copy_wish *wish, struct err *err);
/* One file. */
int copy_file(int from_dir, const char *name, int to_dir, const char *to_name,
              const struct copy_wish *wish, struct err *err);
/* Makes a whole tree the user's. */
int copy_own(int dir, uid_t uid, gid_t gid, struct err *err);

#endif
