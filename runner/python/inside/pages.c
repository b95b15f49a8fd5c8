#include "runner/python/inside/pages.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE (UINT64_C(2) << 20)
#define SMALL 4096
#define RANGES_MAX 1024

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* --- arenas -------------------------------------------------------------------------------- */

static char *rest; /* the rest of the piece that was mapped last */
static size_t rest_bytes;

/* Maps a piece at a multiple of its size; NULL when that fails. */
static char *map_large(void)
{
    char *at = mmap(NULL, 2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    const size_t before = (size_t)(-(uintptr_t)at & (LARGE - 1));
    if (before > 0)
        munmap(at, before);
    munmap(at + before + LARGE, LARGE - before);
    return at + before;
}

static void *map_plain(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void *pages_take(void *unused, size_t size)
{
    (void)unused;
    if (size == 0 || size > LARGE || size % SMALL)
        return map_plain(size);
    if (size > rest_bytes) {
        if (rest_bytes > 0)
            munmap(rest, rest_bytes);
        rest = map_large();
        rest_bytes = rest ? LARGE : 0;
    }
    if (!rest) /* near the memory limit of a child */
        return map_plain(size);
    char *at = rest;
    rest += size;
    rest_bytes -= size;
    return at;
}

void pages_give(void *unused, void *at, size_t size)
{
    (void)unused;
    munmap(at, size);
}

/* --- joining ------------------------------------------------------------------------------- */

struct range {
    uintptr_t from, to;
};

/* True when the line ("FROM-TO RIGHTS OFFSET DEVICE INODE …") is private memory without a file. */
static bool take_range(const char *line, struct range *ret_range)
{
    char *at;
    ret_range->from = strtoull(line, &at, 16);
    if (*at != '-')
        return false;
    ret_range->to = strtoull(at + 1, &at, 16);
    if (strncmp(at, " rw-p ", 6) != 0 && strncmp(at, " rwxp ", 6) != 0)
        return false;
    at += 6;
    for (int i = 0; i < 2; i++) { /* past the offset and the device */
        at += strcspn(at, " ");
        at += *at == ' ';
    }
    return strtoull(at, NULL, 10) == 0;
}

static size_t find_ranges(struct range ranges[RANGES_MAX])
{
    char line[512];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && count < RANGES_MAX && fgets(line, sizeof(line), maps)) {
        if (take_range(line, &ranges[count]))
            count++;
    }
    if (maps)
        fclose(maps);
    return count;
}

/* At least three quarters must be resident, because a large page occupies memory for the rest
 * too. */
static bool is_full(uintptr_t at)
{
    unsigned char resident[LARGE / SMALL];
    size_t count = 0;
    if (mincore((void *)at, LARGE, resident))
        return false;
    for (size_t i = 0; i < sizeof(resident); i++)
        count += resident[i] & 1;
    return count >= sizeof(resident) * 3 / 4;
}

void pages_join(void)
{
    if (sysconf(_SC_PAGESIZE) != SMALL)
        return;
    struct range *ranges = malloc(RANGES_MAX * sizeof(*ranges));
    const size_t count = ranges ? find_ranges(ranges) : 0;
    for (size_t i = 0; i < count; i++) {
        uintptr_t at = (ranges[i].from + LARGE - 1) & ~(uintptr_t)(LARGE - 1);
        for (; at + LARGE <= ranges[i].to; at += LARGE)
            if (is_full(at))
                madvise((void *)at, LARGE, MADV_COLLAPSE);
    }
    free(ranges);
}
