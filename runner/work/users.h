/*
 * Users for programs, one each, from a range: where no namespace keeps programs apart, another user
 * does. What a program's user may write is given to it before it begins and taken back when it has
 * ended, so that whoever prepares it and looks at what it left knows one user for all of them.
 *
 * Threads: any.
 */
#ifndef WORK_USERS_H
#define WORK_USERS_H

#include "base/err.h"

#include <sys/types.h>

struct users;

#define USERS_MAX 4096

/* The users `first` to `last`, at most USERS_MAX of them, each with the group of the same number.
 * Nobody else may use them. */
struct users *users_new(uid_t first, uid_t last, struct err *err);
void users_free(struct users *users);

/* One that nobody has, until users_give(); 0 when there is none. Who was given back last is taken
 * last. */
uid_t users_take(struct users *users);
void users_give(struct users *users, uid_t uid);

/* Who a tree belongs to. */
struct owner {
    uid_t uid;
    gid_t gid;
};

/* Gives `dir` and what is below it and belongs to `from` to `to`. Follows no link; what is deeper
 * than WALK_DEPTH_MAX stays as it is. As root only. */
int users_hand_over(const char *dir, struct owner from, struct owner to, struct err *err);

#endif
