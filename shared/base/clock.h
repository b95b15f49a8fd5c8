/*
 * Time, as the program sees it. Everything that measures or stamps asks here, so that a test can
 * put its own clock in place and needs no sleeping.
 *
 * Threads: reading from any; clock_use() only while no other thread runs.
 * Ownership: nothing is allocated.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*mono_us)(void *arg); /* never steps */
    int64_t (*real_ms)(void *arg); /* Unix time; may step */
    void *arg;
};

int64_t clock_mono_us(void);
int64_t clock_mono_ms(void);
int64_t clock_real_ms(void);
/* The clock by which file systems stamp files: never later than the time of a file that changes
 * after the call. */
int64_t clock_files_ms(void);

/* Puts `clock` (borrowed, NULL for the system's) in place. */
void clock_use(const struct clock *clock);

#define CLOCK_TEXT_SIZE 32

/* RFC 3339 in UTC with milliseconds: 2026-01-02T03:04:05.678Z. Returns text. */
char *clock_format(int64_t real_ms, char text[CLOCK_TEXT_SIZE]);

/* Reads RFC 3339: any fraction (cut to milliseconds), Z or an offset. -1 when it is something
 * else. */
int clock_parse(const char *text, int64_t *ret_real_ms);

#endif
