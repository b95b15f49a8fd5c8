/*
 * The names of the objects that are open while text is checked; finds a name that occurs twice.
 *
 * Theory of operation: objects nest, so their names form a stack, and one open-addressing table
 * over that stack finds a name again. Names leave in the reverse order of their arrival, so removal
 * only clears the slot of the latest. The hash is a polynomial with a random base: nobody can
 * choose names that collide. Small texts need no heap.
 *
 * Threads: one at a time.
 */
#ifndef JSON_NAMES_H
#define JSON_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAMES_MAX (1u << 20) /* of all open objects together: 16 MiB */
#define NAMES_SMALL 64

struct name {
    uint32_t at; /* offset of the first byte inside the quotes */
    uint32_t hash;
};

struct names {
    const char *text; /* borrowed */
    uint64_t base;
    struct name *stack;
    uint32_t *slots; /* index into stack, plus 1; 0: free */
    uint32_t count;
    uint32_t slot_count; /* a power of two, at least twice the room of the stack */
    struct name small_stack[NAMES_SMALL];
    uint32_t small_slots[2 * NAMES_SMALL];
};

enum names_result { NAMES_NEW, NAMES_TWICE, NAMES_FULL, NAMES_NO_MEMORY };

void names_init(struct names *names, const char *text);
void names_done(struct names *names);

/* Adds the name whose inside is text[at..at+len) to the object whose names begin at `first`. */
enum names_result names_add(struct names *names, uint32_t first, size_t at, size_t len);

/* Forgets all names from `first` on. */
void names_drop(struct names *names, uint32_t first);

/* True when two insides of strings mean the same, escapes resolved. Both are valid. */
bool names_equal(const char *a, size_t a_len, const char *b, size_t b_len);

/* True when the inside of a string, escapes resolved, is the plain text `name`. */
bool names_is(const char *inside, size_t len, const char *name);

#endif
