/* cli-standin: what a process does beside printing: it hangs, forks, ignores signals, dies. */
#include "cli_standin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKS_MAX = 200 };

int do_hang_start(char *args)
{
    (void)args;
    hang();
}

int do_hang_middle(char *args)
{
    put_init();
    put_assistant(args);
    hang();
}

int do_hang_result(char *args)
{
    do_ok(args);
    hang();
}

int do_ignore_term(char *args)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    put_init();
    put_assistant(args);
    hang();
}

/* Children hold the pipe's writing end until they are where they are meant to be, or have ended. */
static void await_children(const int ready[2])
{
    char none;
    ssize_t n;
    close(ready[1]);
    do
        n = read(ready[0], &none, 1);
    while (n > 0 || (n < 0 && errno == EINTR));
    close(ready[0]);
}

/* The child appends a byte to the file for ever; its pid is the file's first line, after which it
 * closes `ready`. */
static void write_for_ever(const char *path, int ready)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        _exit(73);
    dprintf(fd, "%d\n", (int)getpid());
    close(ready);
    for (;;) {
        if (write(fd, ".", 1) < 0)
            _exit(74);
        nap(20);
    }
}

/* A daemon in the old way: double fork and setsid, no longer our child. Closes what it inherited
 * unless `keep_fds`: then it also holds the output open. */
static void daemonize(const char *path, bool keep_fds)
{
    enum { INHERITED = 64 };
    int ends[2], ready[2] = {-1, -1};
    if (pipe(ends))
        _exit(71);
    for (int i = 0; i < 2; i++) { /* above what the daemon closes */
        ready[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, INHERITED);
        close(ends[i]);
    }
    pid_t child = fork();
    if (child == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        if (fork() != 0)
            _exit(0);
        prctl(PR_SET_NAME, "innocent", 0, 0, 0);
        if (!keep_fds)
            for (int fd = 0; fd < INHERITED; fd++)
                close(fd);
        write_for_ever(path, ready[1]);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
    await_children(ready);
}

int do_daemon(char *args)
{
    daemonize(args, false);
    return do_done("daemon started");
}

int do_daemon_holding(char *args)
{
    daemonize(args, true);
    return do_done("daemon started");
}

int do_daemon_hang(char *args)
{
    daemonize(args, false);
    return do_hang_middle(args);
}

/* Does not go on until the children sleep, so that whoever sees the result sees them too. */
int do_forkbomb(char *args)
{
    long n = strtol(args, NULL, 10);
    int ready[2];
    if (pipe(ready))
        return 71;
    put_init();
    for (long i = 0; i < n && i < FORKS_MAX; i++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            signal(SIGTERM, SIG_IGN);
            if (i % 2)
                setsid();
            close(ready[0]);
            close(ready[1]);
            hang();
        }
    }
    await_children(ready);
    put_result("forked");
    return 0;
}

int do_wait(char *args)
{
    put_init();
    put_assistant("waiting");
    while (access(args, F_OK) != 0)
        nap(10);
    put_assistant("waited");
    put_result("waited");
    return 0;
}

static void json_string(FILE *out, const char *text)
{
    fputc('"', out);
    json_escape(out, text);
    fputc('"', out);
}

/* "fds":{"0":"/dev/null",…}: what this process was given. */
static void json_fds(FILE *out)
{
    DIR *dir = opendir("/proc/self/fd");
    const char *comma = "";
    fputs("\"fds\":{", out);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char target[512];
        int fd = (int)strtol(entry->d_name, NULL, 10);
        ssize_t n = entry->d_name[0] == '.' || fd == dirfd(dir)
                        ? -1
                        : readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        if (n < 0)
            continue;
        target[n] = '\0';
        fprintf(out, "%s\"%d\":", comma, fd);
        json_string(out, target);
        comma = ",";
    }
    if (dir)
        closedir(dir);
    fputc('}', out);
}

static void json_strings(FILE *out, const char *name, char *const *strings)
{
    fprintf(out, "\"%s\":[", name);
    for (size_t i = 0; strings[i]; i++) {
        fputs(i ? "," : "", out);
        json_string(out, strings[i]);
    }
    fputs("],", out);
}

/* The ignored and blocked signals, as the kernel shows them. */
static void json_signals(FILE *out)
{
    char line[256];
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "SigBlk:", 7) == 0 || strncmp(line, "SigIgn:", 7) == 0)
            fprintf(out, "\"%.6s\":\"%.16s\",", line, line + 8);
    if (status)
        fclose(status);
}

/* Everything the runner decides about a child, as JSON in the result's text. */
int do_env(char *args)
{
    (void)args;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    char cwd[4096];
    fputc('{', out);
    json_strings(out, "env", environ);
    json_strings(out, "argv", the_argv);
    fputs("\"cwd\":", out);
    json_string(out, getcwd(cwd, sizeof cwd) ? cwd : "");
    fprintf(out,
            ",\"uid\":%d,\"gid\":%d,\"groups\":%d,\"pid\":%d,\"ppid\":%d,\"pgid\":%d,\"sid\":%d,"
            "\"no_new_privs\":%d,\"dumpable\":%d,",
            (int)getuid(), (int)getgid(), getgroups(0, NULL), (int)getpid(), (int)getppid(),
            (int)getpgid(0), (int)getsid(0), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
            prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    json_signals(out);
    json_fds(out);
    fputc('}', out);
    fclose(out);
    put_init();
    put_result(text);
    free(text);
    return 0;
}

int do_crash(char *args)
{
    put_init();
    int sig = (int)strtol(args, NULL, 10);
    signal(sig, SIG_DFL);
    raise(sig ? sig : SIGSEGV);
    hang();
}

int do_closed_stdout(char *args)
{
    put_init();
    put_result(args);
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    hang();
}

int do_closed_early(char *args)
{
    (void)args;
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    hang();
}

int do_secret(char *args)
{
    char unset[] = "(unset)";
    char *value = getenv(args);
    return do_ok(value ? value : unset);
}

int do_trap_term(char *args)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    put_init();
    siginfo_t info;
    sigwaitinfo(&set, &info);
    put_assistant("terminating");
    int fd = open(args, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0)
        close(fd);
    return 143;
}

/* Leaves a marker file, so that a test sees how often a task ran. */
int do_touch(char *args)
{
    int fd = open(args, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, "x", 1) < 0)
        return do_error("error_during_execution", strerror(errno), "");
    close(fd);
    return do_done("touched");
}

static bool write_zeros(const char *name, long size)
{
    static const char zeros[65536];
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ssize_t n = 0;
    for (; fd >= 0 && size > 0 && n >= 0; size -= n)
        n = write(fd, zeros, size < (long)sizeof zeros ? (size_t)size : sizeof zeros);
    if (fd >= 0)
        close(fd);
    return fd >= 0 && n >= 0;
}

int do_write(char *args)
{
    char *rest = NULL;
    for (char *name = strtok_r(args, " ", &rest), *size; name; name = strtok_r(NULL, " ", &rest)) {
        size = strtok_r(NULL, " ", &rest);
        if (!size || !write_zeros(name, strtol(size, NULL, 10)))
            return do_error("error_during_execution", strerror(errno), "");
    }
    return do_done("written");
}

/* The first run with this file hangs, every later one succeeds. */
int do_once(char *args)
{
    int fd = open(args, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return do_done("second run");
    close(fd);
    return do_hang_middle(args);
}
