/*
 * The memory of one JSON tree: one block, whose size the check has counted, freed as a whole.
 *
 * Theory of operation. A tree of small values costs cJSON two or three small allocations per value.
 * The allocator keeps these for ever once they are free, and freeing them takes time. Here they
 * come from one block, which goes back to the kernel with the tree (by mmap when it is larger than
 * MAP_FROM). cJSON's hooks are global, so the arena that is being filled is a variable of the
 * calling thread; without one the hooks are malloc() and free().
 *
 * Threads: any; an arena belongs to one thread at a time.
 *
 * Ownership: the caller of arena_new() frees the arena; all that was taken from it goes with it.
 */
#ifndef JSON_ARENA_H
#define JSON_ARENA_H

#include <stddef.h>

struct arena;

/* An arena with room for `size` bytes; NULL without memory. */
struct arena *arena_new(size_t size);
void arena_free(struct arena *arena);

/* From now on the calling thread's cJSON takes its memory from the arena; NULL: from malloc(). */
void arena_use(struct arena *arena);

/* The first allocation from an arena: the root of its tree. */
void *arena_first(struct arena *arena);

/* The arena whose first allocation is `first`. */
struct arena *arena_of(void *first);

#endif
