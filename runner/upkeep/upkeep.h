/*
 * What the owner does on the runner's own machine, as commands: a backup, its way back, a test of
 * the alerts.
 *
 * Threads: the program's only one. Each returns the exit status; argv is borrowed.
 */
#ifndef UPKEEP_UPKEEP_H
#define UPKEEP_UPKEEP_H

int upkeep_alert(int argc, char **argv);
int upkeep_backup(int argc, char **argv);
int upkeep_restore(int argc, char **argv);

#endif
