/*
 * The zygote's memory, arranged so that its forks are cheap.
 *
 * A fork copies the page table of all resident memory, and the child's end takes the copy apart:
 * with pandas this is most of the time of a short run. Where 2 MiB are one page, one entry is
 * copied instead of 512. A child that writes to the page still gets a copy of 4 KiB only.
 *
 * Threads: one. Ownership: the caller of pages_take() gives the memory back by pages_give().
 */
#ifndef INSIDE_PAGES_H
#define INSIDE_PAGES_H

#include <stddef.h>

/* Memory for Python's arenas, cut from pieces that can be one page. pages_give() is for what
 * pages_take() has returned, with the same size. */
void *pages_take(void *unused, size_t size);
void pages_give(void *unused, void *at, size_t size);

/* Makes large pages of what is resident. Where the kernel can't, nothing changes. */
void pages_join(void);

#endif
