#include "runner/upkeep/gnutar.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOME_DIFFER 1 /* tar's exit status when files changed under its hands */

int gnutar_run(const struct strlist *arguments, struct err *err)
{
    pid_t pid;
    int status;
    char **argv = calloc(arguments->count + 2, sizeof(*argv));
    if (!argv || arguments->failed) {
        free(argv);
        return err_set(err, ERR_INTERNAL, "out of memory");
    }
    static char name[] = "tar";
    argv[0] = name;
    for (size_t i = 0; i < arguments->count; i++)
        argv[i + 1] = arguments->items[i];
    errno = posix_spawnp(&pid, name, NULL, NULL, argv, environ);
    free(argv);
    if (errno)
        return err_sys(err, "cannot run tar");
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_sys(err, "tar");
    if (WIFEXITED(status) && WEXITSTATUS(status) <= SOME_DIFFER)
        return 0;
    return err_set(err, ERR_INTERNAL, "tar has failed, see above");
}
