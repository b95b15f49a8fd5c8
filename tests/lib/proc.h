/*
 * Processes: starts programs that die with the test, and looks at them through /proc.
 */
#ifndef TESTLIB_PROC_H
#define TESTLIB_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Starts argv[0] with exactly this environment. stdin is /dev/null; stdout and stderr are appended
 * to the files (NULL: /dev/null). The program is killed when the test program dies. */
pid_t proc_start(char *const argv[], char *const env[], const char *out, const char *err);
/* The same as another user, who owns no file here and is only in his own group. */
pid_t proc_start_as(uid_t uid, char *const argv[], char *const env[], const char *out,
                    const char *err);

/* Runs a script of bash; fails the test unless it succeeds within 60 s × slowness(). */
void proc_shell(const char *script);

/* Waits for a child that proc_start made. False: still running after ms × slowness(). The status
 * is the exit status, or 128 + the signal. */
bool proc_wait(pid_t pid, int ms, int *ret_status);

/* True when the process exists and is not a zombie. */
bool proc_alive(pid_t pid);

/* Each returns -1 when there is no such process. Children are direct ones, including zombies. */
int proc_threads(pid_t pid);
int proc_fds(pid_t pid);
int proc_children(pid_t pid);
long proc_rss_kib(pid_t pid);
long proc_uid(pid_t pid);

/* Whether the signal was sent to the process and has not been taken by it yet. */
bool proc_has_pending(pid_t pid, int signal);

/* The number of live processes that run this very file, which is identified by its inode, so in any
 * mount namespace. The first pids go to `pids` when it is not NULL. */
size_t proc_running_file(const char *path, pid_t *pids, size_t max);

/* The number of live processes with the text in their command line, or with NAME=VALUE in their
 * environment. */
size_t proc_with_argument(const char *text);
size_t proc_with_environment(const char *assignment);

/* The same of one process and a whole argument. */
bool proc_has_argument(pid_t pid, const char *argument);

/* A number for `sleep` that begins so, and that no process of another test has. The caller
 * frees. */
char *proc_mark(int seconds);

/* The number of live descendants of this process; the first pids go to `pids`. */
size_t proc_descendants(pid_t ancestor, pid_t *pids, size_t max);

/* Where a process holds the text: "environ", "cmdline" or "mem", or NULL. Memory means mapped,
 * readable pages that are in use, except of files that the process cannot write to. Needs root. */
const char *proc_holds(pid_t pid, const char *text);

/* Kills what proc_running_file() finds, after a failed test. */
void proc_kill_file(const char *path);

#endif
