/*
 * The daemon: builds all parts, serves, and takes them apart again.
 *
 * Threads: called from main() before there are any.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

/* `claude-runner serve [--check] [--env-file FILE]`; returns the exit status. */
int daemon_serve(int argc, char **argv);

#endif
