/*
 * What `claude-runner doctor` has in its parts: the way to a runner (doctor.c), and what the runner
 * says of itself (doctor_runner.c).
 *
 * Threads: one. Private to runner/client. Ownership: everything is borrowed for the call.
 */
#ifndef CLIENT_DOCTOR_H
#define CLIENT_DOCTOR_H

#include "runner/client/settings.h"

#include <stdbool.h>

struct doctor {
    struct settings *to;
    bool here; /* the runner is on this machine */
    int failed;
};

/* Prints a line, and the hint below it when something is not fine. Returns `fine`. */
bool doctor_say(struct doctor *doctor, bool fine, const char *what, const char *found,
                const char *hint);

/* Asks the runner for all that it knows of itself, and prints it with what to do. */
void doctor_examine(struct doctor *doctor);

#endif
