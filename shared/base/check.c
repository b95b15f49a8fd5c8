#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void require_failed(const char *file, int line, const char *function, const char *what)
{
    char text[512];
    int len = snprintf(text, sizeof(text), "%s:%d: %s(): broken: %s\n", file, line, function, what);
    size_t size = len < 0 ? 0 : (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
    /* One write, so that the text of other threads cannot come between. */
    (void)!write(STDERR_FILENO, text, size);
    abort();
}
