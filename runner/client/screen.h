/*
 * Text on a terminal: its width, cut to fit, and without control characters. A task's output is
 * untrusted: no escape sequence in it may reach the terminal.
 *
 * Threads: no shared state.
 */
#ifndef CLIENT_SCREEN_H
#define CLIENT_SCREEN_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* Columns that valid UTF-8 takes: 2 for wide characters, 0 for combining ones. The locale does not
 * matter. */
size_t screen_width(const char *text, size_t len);

/* Appends one line of at most `width` columns: what does not fit ends in "…"; line ends and other
 * control characters become spaces, invalid bytes U+FFFD. */
void screen_add_line(struct buf *out, const char *text, size_t width);

/* Appends text of many lines: line ends and tabs stay, other control characters become spaces. */
void screen_add_text(struct buf *out, const char *text, size_t len);

/* Size of the terminal that fd is; 80 by 24 when it is none or has no size. */
void screen_size(int fd, int *ret_columns, int *ret_rows);

/* "12.3 s", "4 min 05 s", "2 h 10 min". */
void screen_add_duration(struct buf *out, double seconds);
/* "$0.0123". */
void screen_add_cost(struct buf *out, double usd);

#endif
