/*
 * Locals that own something say so where they are declared and let go at the end of the scope:
 *
 *     AUTO(fd) int file = open(...);
 *     AUTO(str) char *name = strdup(...);
 *     return STEAL_PTR(name);       the caller owns it now
 *
 * AUTO(kind) runs auto_kind(&variable). A module that has an owning type offers an auto_ function
 * beside its free function; DEFINE_AUTO makes one from `void type_free(struct type *)`.
 *
 * Threads: no shared state.
 */
#ifndef BASE_AUTO_H
#define BASE_AUTO_H

#include <stdlib.h>

#define AUTO(kind) __attribute__((cleanup(auto_##kind)))

#define DEFINE_AUTO(kind, type, free_fn)    \
    static inline void auto_##kind(type *p) \
    {                                       \
        if (*p)                             \
            free_fn(*p);                    \
    }

/* Hands out a pointer that an AUTO variable owned. */
#define STEAL_PTR(var)                   \
    (__extension__({                     \
        __typeof__(var) stolen_ = (var); \
        (var) = NULL;                    \
        stolen_;                         \
    }))

static inline void auto_str(char **p)
{
    free(*p);
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
