#include "testbase.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void redirect(int fd, const char *path, int flags)
{
    int opened = open(path ? path : "/dev/null", flags, 0644);
    if (opened < 0 || dup2(opened, fd) < 0)
        _exit(126);
    if (opened != fd)
        close(opened);
}

static void become(uid_t uid)
{
    if (uid == geteuid())
        return;
    if (setgroups(0, NULL) || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) ||
        setresuid(uid, uid, uid) || prctl(PR_SET_DUMPABLE, 1))
        _exit(126);
}

pid_t proc_start(char *const argv[], char *const env[], const char *out, const char *err)
{
    return proc_start_as(geteuid(), argv, env, out, err);
}

pid_t proc_start_as(uid_t uid, char *const argv[], char *const env[], const char *out,
                    const char *err)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    become(uid); /* first: it takes the next line back */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    redirect(STDIN_FILENO, NULL, O_RDONLY);
    redirect(STDOUT_FILENO, out, O_WRONLY | O_CREAT | O_APPEND);
    redirect(STDERR_FILENO, err, O_WRONLY | O_CREAT | O_APPEND);
    close_range(3, ~0U, 0); /* nothing of the test's own, nor of who started the test */
    execve(argv[0], argv, env);
    dprintf(STDERR_FILENO, "cannot start %s\n", argv[0]);
    _exit(127);
}

bool proc_wait(pid_t pid, int ms, int *ret_status)
{
    int64_t end = now_ms() + (int64_t)ms * slowness();
    int status;
    bool late = false; /* it is looked at once more after the end */
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (late)
            return false;
        poll_pause();
        late = now_ms() > end;
    }
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

void proc_shell(const char *script)
{
    char *argv[] = {strdup("/bin/bash"), strdup("-c"), strdup(script), NULL};
    char *env[] = {strdup("PATH=/usr/bin:/bin"), strdup("HOME=/nonexistent"), NULL};
    int status = -1;
    if (!proc_wait(proc_start(argv, env, NULL, NULL), 60000, &status) || status != 0)
        fail_msg("exit status %d of: %s", status, script);
    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
    for (size_t i = 0; env[i]; i++)
        free(env[i]);
}

/* A field of /proc/PID/status as a number, -1 when the process is gone. */
static long status_field(pid_t pid, const char *name)
{
    char path[64], line[256];
    long value = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = strtol(line + strlen(name) + 1, NULL, 10);
    if (file)
        fclose(file);
    return value;
}

/* The state letter and the parent from /proc/PID/stat; 0 when the process is gone. */
static char stat_of(pid_t pid, pid_t *ret_parent)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[n] = '\0';
    char *after = strrchr(text, ')'); /* the name may hold anything */
    if (!after || strlen(after) < 5)
        return 0;
    if (ret_parent)
        *ret_parent = (pid_t)strtol(after + 4, NULL, 10);
    return after[2];
}

bool proc_alive(pid_t pid)
{
    char state = stat_of(pid, NULL);
    return state && state != 'Z' && state != 'X';
}

int proc_threads(pid_t pid)
{
    return (int)status_field(pid, "Threads");
}

long proc_uid(pid_t pid)
{
    return status_field(pid, "Uid");
}

bool proc_has_pending(pid_t pid, int signal)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    char *text = read_file(path, NULL), *at = text ? strstr(text, "\nShdPnd:") : NULL;
    bool pending = at && strtoull(at + strlen("\nShdPnd:"), NULL, 16) >> (signal - 1) & 1;
    free(text);
    return pending;
}

long proc_rss_kib(pid_t pid)
{
    return status_field(pid, "VmRSS");
}

int proc_fds(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* Calls `match` for every process and counts those it takes. */
static size_t count_processes(bool (*match)(pid_t pid, const void *what), const void *what,
                              pid_t *pids, size_t max)
{
    size_t n = 0;
    DIR *dir = opendir("/proc");
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || !match(pid, what))
            continue;
        if (pids && n < max)
            pids[n] = pid;
        n++;
    }
    closedir(dir);
    return n;
}

static bool is_child(pid_t pid, const void *what)
{
    pid_t parent = 0;
    return stat_of(pid, &parent) && parent == *(const pid_t *)what;
}

int proc_children(pid_t pid)
{
    return proc_alive(pid) ? (int)count_processes(is_child, &pid, NULL, 0) : -1;
}

static bool descends(pid_t pid, const void *what)
{
    pid_t ancestor = *(const pid_t *)what, parent = 0;
    if (!proc_alive(pid))
        return false;
    while (stat_of(pid, &parent) && parent > 1 && parent != ancestor)
        pid = parent;
    return parent == ancestor;
}

size_t proc_descendants(pid_t ancestor, pid_t *pids, size_t max)
{
    return count_processes(descends, &ancestor, pids, max);
}

static bool runs_file(pid_t pid, const void *what)
{
    const struct stat *wanted = what;
    struct stat st;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    return stat(path, &st) == 0 && st.st_dev == wanted->st_dev && st.st_ino == wanted->st_ino &&
           proc_alive(pid);
}

size_t proc_running_file(const char *path, pid_t *pids, size_t max)
{
    struct stat st;
    return stat(path, &st) == 0 ? count_processes(runs_file, &st, pids, max) : 0;
}

/* Whether /proc/PID/NAME, a list of NUL-ended strings, holds the text. */
static bool list_holds(pid_t pid, const char *name, const char *text, bool whole)
{
    char path[64];
    size_t size = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    char *list = pid == getpid() ? NULL : read_file(path, &size);
    bool found = false;
    for (size_t at = 0; list && at < size && !found; at += strlen(list + at) + 1)
        found = whole ? strcmp(list + at, text) == 0 : strstr(list + at, text) != NULL;
    free(list);
    return found && proc_alive(pid);
}

static bool has_argument(pid_t pid, const void *what)
{
    return list_holds(pid, "cmdline", what, false);
}

static bool has_environment(pid_t pid, const void *what)
{
    return list_holds(pid, "environ", what, true);
}

bool proc_has_argument(pid_t pid, const char *argument)
{
    return list_holds(pid, "cmdline", argument, true);
}

char *proc_mark(int seconds)
{
    return textf("%d.%07d", seconds, (int)getpid());
}

size_t proc_with_argument(const char *text)
{
    return count_processes(has_argument, text, NULL, 0);
}

size_t proc_with_environment(const char *assignment)
{
    return count_processes(has_environment, assignment, NULL, 0);
}

void proc_kill_file(const char *path)
{
    pid_t pids[512];
    size_t n = proc_running_file(path, pids, COUNT(pids));
    for (size_t i = 0; i < n && i < COUNT(pids); i++)
        kill(pids[i], SIGKILL);
}
