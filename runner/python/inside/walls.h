/*
 * The jail of a child: no network, no files but its own scratch, one process.
 *
 * Threads: one.
 * Ownership: the caller of walls_open() frees it by walls_free().
 */
#ifndef INSIDE_WALLS_H
#define INSIDE_WALLS_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct walls;

/* Finds out what the host can do. Call once, before there is a child. */
int walls_prepare(const char *tier, uid_t uid, gid_t gid, struct err *err);

/* Plans the jail of one child, and makes its scratch directory where the jail has none of its own.
 * NULL with err; the caller frees it by walls_free(). */
struct walls *walls_open(const char *name, int memory_mb, struct err *err);
void walls_free(struct walls *walls);

/* Forks into the jail; -1 with errno. */
pid_t walls_clone(struct walls *walls);
/* Call after walls_clone() in the parent and in the child. The child is confined once walls_enter()
 * has returned. */
int walls_parent(struct walls *walls, pid_t pid, struct err *err);
int walls_enter(struct walls *walls, struct err *err);

/* The child's working directory. */
const char *walls_scratch(const struct walls *walls);

int walls_limit(struct walls *walls, int memory_mb, struct err *err);
/* The limits that were met, as enum jail_exceeded. */
unsigned walls_look(struct walls *walls);
/* True when the kernel counts a child's memory; else the caller must. */
bool walls_count_memory(void);

#endif
