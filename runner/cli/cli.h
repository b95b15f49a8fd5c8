/* The commands that talk to a runner over HTTP. Each returns the exit status. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

int cli_login(int argc, char **argv);
int cli_status(int argc, char **argv);

#endif
