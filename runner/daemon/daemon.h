/*
 * The daemon: puts the house together, serves, and takes it apart again.
 *
 * Threads: called from main() before there are any.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

/* `claude-runner serve [--check] [--env-file FILE]`; returns the exit status. */
int daemon_serve(int argc, char **argv);

#endif
