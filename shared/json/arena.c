#include "json/arena.h"

#include "base/check.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MAP_FROM ((size_t)64 << 10) /* smaller ones are malloc()'s */
#define ALIGN alignof(max_align_t)

struct arena {
    size_t size; /* of all, this header included */
    size_t used;
    size_t last; /* where the latest piece begins */
    bool mapped;
    alignas(max_align_t) char first[];
};

static _Thread_local struct arena *in_use;
static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

static void *take(size_t size)
{
    struct arena *arena = in_use;
    if (!arena)
        return malloc(size);
    size_t room = arena->size - arena->used;
    if (size > room) /* The check has counted wrong. The tree is refused, as when memory runs
                      * out. */
        return NULL;
    void *memory = (char *)arena + arena->used;
    size_t rounded = (size + ALIGN - 1) & ~(ALIGN - 1);
    arena->last = arena->used;
    arena->used += rounded < room ? rounded : room;
    return memory;
}

/* Memory of an arena is freed with the arena. Only the latest piece is given back at once, because
 * some versions of cJSON copy each number to read it. */
static void give(void *memory)
{
    struct arena *arena = in_use;
    if (!arena)
        free(memory);
    else if (memory == (char *)arena + arena->last)
        arena->used = arena->last;
}

static void set_hooks(void)
{
    cJSON_Hooks hooks = {take, give};
    cJSON_InitHooks(&hooks);
}

struct arena *arena_new(size_t size)
{
    REQUIRE(size > 0);
    struct arena *arena;
    if (size > SIZE_MAX / 2)
        return NULL;
    size += sizeof(*arena);
    bool mapped = size >= MAP_FROM;
    if (mapped) {
        arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        arena = arena == MAP_FAILED ? NULL : arena;
    } else {
        arena = malloc(size);
    }
    if (!arena)
        return NULL;
    arena->size = size;
    arena->used = arena->last = offsetof(struct arena, first);
    arena->mapped = mapped;
    return arena;
}

void arena_free(struct arena *arena)
{
    if (!arena)
        return;
    if (arena->mapped)
        munmap(arena, arena->size);
    else
        free(arena);
}

void arena_use(struct arena *arena)
{
    pthread_once(&hooks_once, set_hooks);
    in_use = arena;
}

void *arena_first(struct arena *arena)
{
    return arena->first;
}

struct arena *arena_of(void *first)
{
    return (struct arena *)(void *)((char *)first - offsetof(struct arena, first));
}
