/*
 * Processes: starting them so that they die with the test, and looking at them through /proc.
 */
#ifndef TESTLIB_PROC_H
#define TESTLIB_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Starts argv[0] with exactly this environment; stdin is /dev/null, stdout and stderr are appended
 * to the files (NULL: /dev/null). It is killed when the test program dies. */
pid_t proc_start(char *const argv[], char *const env[], const char *out, const char *err);
/* The same as another user, who owns nothing here and is in no group but his own. */
pid_t proc_start_as(uid_t uid, char *const argv[], char *const env[], const char *out,
                    const char *err);

/* Runs a script of bash; fails the test unless it ends well within 20 s. */
void proc_shell(const char *script);

/* Waits for a child that proc_start made. False: still running after ms × slowness(). The status
 * is the exit status, or 128 + the signal. */
bool proc_wait(pid_t pid, int ms, int *ret_status);

/* Exists and is no zombie. */
bool proc_alive(pid_t pid);

/* -1 when there is no such process. Children are direct ones, zombies included. */
int proc_threads(pid_t pid);
int proc_fds(pid_t pid);
int proc_children(pid_t pid);
long proc_rss_kib(pid_t pid);
long proc_uid(pid_t pid);

/* How many live processes run this very file (told by inode: any mount namespace); the first pids
 * go to `pids` when it isn't NULL. */
size_t proc_running_file(const char *path, pid_t *pids, size_t max);

/* How many live processes have the text in their command line, or NAME=VALUE in their
 * environment. */
size_t proc_with_argument(const char *text);
size_t proc_with_environment(const char *assignment);

/* How many live processes descend from this one; the first pids go to `pids`. */
size_t proc_descendants(pid_t ancestor, pid_t *pids, size_t max);

/* Where a process has the text: "environ", "cmdline" or "mem", or NULL. Its memory is what is
 * mapped, readable and in use, but for files that it cannot write to. Root can look. */
const char *proc_holds(pid_t pid, const char *text);

/* Ends what proc_running_file finds: the last resort of a failed test. */
void proc_kill_file(const char *path);

#endif
