/*
 * What the files of jail-tricks share: each trick is one way out that takes more than a shell.
 */
#ifndef JAIL_TRICKS_H
#define JAIL_TRICKS_H

#include <stddef.h>

struct trick {
    const char *name;
    void (*play)(void);
};

/* Says that it worked. */
void escaped(const char *what);
/* The same when `result` is not -1. */
void never(const char *what, long result);
/* Of the house: a number or a path of the environment. */
long house_number(const char *name);
const char *house_path(const char *name);
/* True when the file may be opened so. */
int may_open(const char *path, int flags);

/* Ends with one without a name. */
extern const struct trick file_tricks[], process_tricks[], memory_tricks[], kernel_tricks[];

#endif
