/*
 * Reads what a person types.
 *
 * Threads: one.
 */
#ifndef CLIENT_TERMINAL_H
#define CLIENT_TERMINAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/* Reads a line from stdin, without its end; what does not fit is dropped. `hidden`: without echo.
 * -1 at the end of stdin, or once *stop is set (NULL: never). */
int terminal_read_line(char *line, size_t size, bool hidden, const volatile sig_atomic_t *stop);

#endif
