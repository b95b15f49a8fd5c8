/*
 * How a jail shows the program that is started in it. Programs outside of /usr, /opt and /bin are
 * shown read-only where they really are; one in a node_modules together with the outermost one.
 * CLAUDE_BIN is often a link or a script of a package manager, so what it leads to is shown, too:
 *
 *   - the end of a chain of links, and a link there in place of the chain;
 *   - what a script names by a whole path, or by a path that begins at its own directory
 *     ("$dir/../x"), and what `exec NAME` and `env NAME` find in PATH, if it is executable or lies
 *     in a node_modules;
 *   - the same for scripts that these execute.
 *
 * Anything else (a path that a script computes) has to be named in JAIL_PATHS.
 *
 * Threads: any.
 */
#ifndef WALLS_SHOWN_H
#define WALLS_SHOWN_H

#include "proc/plan.h"

/* Adds what the program argv[0] of the plan needs to the plan's jail, and makes argv[0] its real
 * path when it is outside of the system's directories. */
int shown_program(struct plan *plan, struct err *err);

#endif
