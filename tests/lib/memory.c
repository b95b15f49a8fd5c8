/* What other processes have in their memory, by /proc. */
#include "testbase.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define BATCH 4096                 /* pages whose entries are read at once */
#define IN_USE (UINT64_C(3) << 62) /* present, or swapped out */

/* One process that is searched. */
struct search {
    int memory, pagemap;
    const char *text;
    size_t len;
    char *data;  /* of one run of pages, after the end of the last one */
    size_t kept; /* bytes of that end: the text may lie across */
};

/* Searches `size` bytes that lie together, at most BATCH pages. */
static bool search_run(struct search *s, uint64_t at, size_t size)
{
    ssize_t n = pread(s->memory, s->data + s->kept, size, (off_t)at);
    if (n <= 0) {
        s->kept = 0;
        return false;
    }
    size_t all = s->kept + (size_t)n, keep = s->len - 1 < all ? s->len - 1 : all;
    bool found = memmem(s->data, all, s->text, s->len) != NULL;
    memmove(s->data, s->data + all - keep, keep);
    s->kept = keep;
    return found;
}

/* Pages that were never touched are passed over: programs map more than there is. */
static bool search_batch(struct search *s, uint64_t at, size_t pages)
{
    static uint64_t entries[BATCH];
    if (pread(s->pagemap, entries, pages * 8, (off_t)(at / PAGE * 8)) != (ssize_t)(pages * 8))
        return false;
    for (size_t i = 0, end; i < pages; i = end) {
        for (end = i; end < pages && entries[end] & IN_USE; end++)
            continue;
        if (end > i && search_run(s, at + i * PAGE, (end - i) * PAGE))
            return true;
        if (end < pages) {
            s->kept = 0;
            end++;
        }
    }
    return false;
}

static bool search_map(struct search *s, const char *line)
{
    uint64_t from, to, inode;
    char mode[8] = "";
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %" SCNu64, &from, &to, mode, &inode) !=
            4 ||
        mode[0] != 'r' || (inode && mode[1] != 'w'))
        return false;
    s->kept = 0;
    for (uint64_t at = from; at < to; at += BATCH * PAGE) {
        uint64_t pages = (to - at) / PAGE;
        if (search_batch(s, at, pages < BATCH ? pages : BATCH))
            return true;
    }
    return false;
}

static int open_of(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static bool memory_holds(pid_t pid, const char *text)
{
    struct search s = {.memory = open_of(pid, "mem"),
                       .pagemap = open_of(pid, "pagemap"),
                       .text = text,
                       .len = strlen(text),
                       .data = malloc(BATCH * PAGE + strlen(text))};
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    char *maps = read_file(path, NULL), *rest = maps;
    assert_non_null(s.data);
    for (char *line; !found && (line = strsep(&rest, "\n"));)
        found = search_map(&s, line);
    close(s.memory);
    close(s.pagemap);
    free(maps);
    free(s.data);
    return found;
}

const char *proc_holds(pid_t pid, const char *text)
{
    static const char *const lists[] = {"environ", "cmdline"};
    for (size_t i = 0; i < COUNT(lists); i++) {
        char path[64];
        size_t size = 0;
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, lists[i]);
        char *list = read_file(path, &size);
        bool found = list && memmem(list, size, text, strlen(text));
        free(list);
        if (found)
            return lists[i];
    }
    return memory_holds(pid, text) ? "mem" : NULL;
}
