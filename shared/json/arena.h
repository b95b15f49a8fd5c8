/*
 * The memory of one tree: one piece, sized by what the check has counted, given back whole.
 *
 * Theory of operation. A tree of small values costs cJSON two or three small allocations a value,
 * which the allocator keeps for ever once they are free, and which it takes time to free. Here they
 * come from one block, which is the kernel's again when the tree goes (above a page or so, mmap).
 * cJSON's hooks are global, so the arena that is being filled is the calling thread's; without one
 * they are malloc() and free().
 *
 * Threads: any; an arena belongs to one thread at a time.
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

/* The first memory that was taken from an arena: what the tree's root is. */
void *arena_first(struct arena *arena);

/* The arena whose first memory that is. */
struct arena *arena_of(void *first);

#endif
