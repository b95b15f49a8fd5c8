/*
 * Users for programs, one for each, from a range. Where no namespace separates programs, different
 * users do. The files that a program's user may write are given to that user before the program
 * begins and taken back when it has ended; so the code that prepares a program and reads its
 * results handles one user for all of them.
 *
 * Threads: any. Ownership: the caller of users_new() frees the range by users_free(), and gives
 * each number of users_take() back by users_give().
 */
#ifndef WORK_USERS_H
#define WORK_USERS_H

#include "base/err.h"

#include <sys/types.h>

struct users;

#define USERS_MAX 4096

/* The range from `first` to `last`, at most USERS_MAX users, each with the group of the same
 * number. No other program of the host may use them. */
struct users *users_new(uid_t first, uid_t last, struct err *err);
void users_free(struct users *users);

/* Takes a free user, until users_give(); 0 when there is none. The user that was given back last is
 * taken last. */
uid_t users_take(struct users *users);
void users_give(struct users *users, uid_t uid);

/* The owner of a tree. */
struct owner {
    uid_t uid;
    gid_t gid;
};

/* Changes the owner of `dir`, and of all below it that belongs to `from`, to `to`. Follows no link;
 * what is deeper than WALK_DEPTH_MAX stays as it is. Needs root. */
int users_hand_over(const char *dir, struct owner from, struct owner to, struct err *err);

#endif
