/* The commands for a person: those that talk to a runner over HTTP, and set-up at Google Cloud.
 * Each returns the exit status. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

int cli_cloud(int argc, char **argv);
int cli_login(int argc, char **argv);
int cli_status(int argc, char **argv);

#endif
