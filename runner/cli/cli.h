/*
 * Set-up at Google Cloud, as a command.
 *
 * Threads: the program's only one. Returns the exit status.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

int cli_cloud(int argc, char **argv);

#endif
