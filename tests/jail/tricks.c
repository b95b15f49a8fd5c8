/*
 * Inside a jail: `jail-tricks NAME` plays one trick and prints ESCAPED when it worked;
 * `jail-tricks` lists their names.
 */
#include "tricks.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void escaped(const char *what)
{
    printf("ESCAPED: %s\n", what);
}

void never(const char *what, long result)
{
    if (result != -1)
        escaped(what);
}

long house_number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : -1;
}

const char *house_path(const char *name)
{
    const char *text = getenv(name);
    return text ? text : "/nowhere";
}

int may_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int main(int argc, char **argv)
{
    const struct trick *const all[] = {file_tricks, process_tricks, memory_tricks, kernel_tricks};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        for (const struct trick *at = all[i]; at->name; at++) {
            if (argc < 2) {
                puts(at->name);
            } else if (strcmp(at->name, argv[1]) == 0) {
                at->play();
                puts("PLAYED");
                return 0;
            }
        }
    return argc < 2 ? 0 : 2;
}
