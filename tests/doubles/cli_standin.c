/*
 * cli-standin: in the place of the `claude` CLI, doing on demand what the real one does rarely.
 *
 * Takes any arguments (--version prints one), reads the prompt from stdin to its end; a first line
 * "standin: BEHAVIOUR ARGS" chooses what happens (see `behaviours`), any other prompt is echoed as
 * the result. Output has the real CLI's shape. Linked to libc only and without start-up work, so
 * that a bench may compare the runner with a bare spawn of it.
 */
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
#include <time.h>
#include <unistd.h>

#define SESSION "00000000-0000-4000-8000-000000000000"
#define VERSION "2.1.332"

enum { PROMPT_MAX = 4 * 1024 * 1024, FORKS_MAX = 200 };

extern char **environ;

static char **the_argv;

/* ---- output ---- */

static void put(const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t n = write(STDOUT_FILENO, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(74);
        p += n;
        size -= (size_t)n;
    }
}

static void puts_raw(const char *text)
{
    put(text, strlen(text));
}

/* Appends `text` as the inside of a JSON string. */
static void json_escape(FILE *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p == '\n')
            fputs("\\n", out);
        else if (*p < 0x20)
            fprintf(out, "\\u%04x", *p);
        else
            fputc(*p, out);
    }
}

static void put_init(void)
{
    puts_raw("{\"type\":\"system\",\"subtype\":\"init\",\"cwd\":\"/\",\"session_id\":\"" SESSION
             "\",\"tools\":[\"Bash\",\"Read\",\"Write\"],\"mcp_servers\":[],\"model\":\"standin\","
             "\"permissionMode\":\"default\",\"apiKeySource\":\"none\","
             "\"claude_code_version\":\"" VERSION "\"}\n");
}

static void put_assistant(const char *text)
{
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);
    fputs(
        "{\"type\":\"assistant\",\"message\":{\"id\":\"msg_standin\",\"type\":\"message\","
        "\"role\":\"assistant\",\"model\":\"standin\",\"content\":[{\"type\":\"text\",\"text\":\"",
        out);
    json_escape(out, text);
    fputs("\"}],\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":2}},"
          "\"parent_tool_use_id\":null,\"session_id\":\"" SESSION "\"}\n",
          out);
    fclose(out);
    put(line, size);
    free(line);
}

/* The result line; `subtype`, is_error and the rest as the real CLI combines them. `text` NULL: no
 * result field. `tail`: more fields, or "". */
static char *result_line(const char *subtype, bool is_error, const char *text, const char *tail)
{
    char *line = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&line, &size);
    fprintf(out,
            "{\"type\":\"result\",\"subtype\":\"%s\",\"is_error\":%s,\"api_error_status\":null,"
            "\"duration_ms\":5,\"duration_api_ms\":1,\"num_turns\":1,",
            subtype, is_error ? "true" : "false");
    if (text) {
        fputs("\"result\":\"", out);
        json_escape(out, text);
        fputs("\",", out);
    }
    fprintf(out,
            "\"session_id\":\"" SESSION "\",\"total_cost_usd\":0.000125,"
            "\"usage\":{\"input_tokens\":3,\"cache_creation_input_tokens\":0,"
            "\"cache_read_input_tokens\":0,\"output_tokens\":2},\"modelUsage\":{},"
            "\"permission_denials\":[],\"terminal_reason\":\"completed\"%s}\n",
            tail);
    fclose(out);
    return line;
}

static void put_result(const char *text)
{
    char *line = result_line("success", false, text, "");
    puts_raw(line);
    free(line);
}

static void put_filler(long size)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (; size > 0; size -= (long)sizeof block)
        put(block, size < (long)sizeof block ? (size_t)size : sizeof block);
}

static void nap(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
}

__attribute__((noreturn)) static void hang(void)
{
    for (;;)
        pause();
}

/* ---- behaviours; each gets what follows its name and returns the exit status ---- */

static int do_done(const char *text)
{
    put_init();
    put_assistant(text);
    put_result(text);
    return 0;
}

static int do_ok(char *args)
{
    return do_done(args);
}

static int do_hang_start(char *args)
{
    (void)args;
    hang();
}

static int do_hang_middle(char *args)
{
    put_init();
    put_assistant(args);
    hang();
}

static int do_hang_result(char *args)
{
    do_ok(args);
    hang();
}

static int do_big_line(char *args)
{
    put_init();
    puts_raw("{\"type\":\"assistant\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":"
             "\"text\",\"text\":\"");
    put_filler(strtol(args, NULL, 10));
    puts_raw("\"}]},\"session_id\":\"" SESSION "\"}\n");
    put_result("after the big line");
    return 0;
}

static int do_big_result(char *args)
{
    long size = strtol(args, NULL, 10);
    char *text = malloc((size_t)size + 1);
    if (!text)
        return 70;
    memset(text, 'r', (size_t)size);
    text[size] = '\0';
    put_init();
    put_result(text);
    free(text);
    return 0;
}

static int do_bad_utf8(char *args)
{
    (void)args;
    put_init();
    puts_raw("{\"type\":\"assistant\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":"
             "\"text\",\"text\":\"bad \xff\xfe \xc3( \xed\xa0\x80 end\"}]}}\n");
    puts_raw("not json at all \x80\x81\n");
    put_result("valid again");
    return 0;
}

static int do_bad_result(char *args)
{
    (void)args;
    put_init();
    put_result("bad \xff\xfe result");
    return 0;
}

static int do_garbage(char *args)
{
    (void)args;
    put_init();
    puts_raw("plain text\n\n   \n{\"type\":\n[1,2,3]\n\"result\"\nnull\n"
             "{\"type\":\"result\"}trailing\n{\"type\":42}\n{\"subtype\":\"success\"}\n");
    put_result("after garbage");
    return 0;
}

static int do_nul(char *args)
{
    (void)args;
    put_init();
    put("nul\0byte\n", 9);
    put_result("after nul");
    return 0;
}

static int do_no_result(char *args)
{
    put_init();
    put_assistant(args);
    return 0;
}

static int do_silent(char *args)
{
    (void)args;
    return 0;
}

static int do_exit(char *args)
{
    put_init();
    return (int)strtol(args, NULL, 10);
}

static int do_ok_exit(char *args)
{
    do_ok(args);
    return (int)strtol(args, NULL, 10);
}

static int do_ignore_term(char *args)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    put_init();
    put_assistant(args);
    hang();
}

/* The child appends a byte to the file for ever; its pid is the file's first line. */
static void write_for_ever(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        _exit(73);
    dprintf(fd, "%d\n", (int)getpid());
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
    pid_t child = fork();
    if (child == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        if (fork() != 0)
            _exit(0);
        prctl(PR_SET_NAME, "innocent", 0, 0, 0);
        if (!keep_fds)
            for (int fd = 0; fd < 64; fd++)
                close(fd);
        write_for_ever(path);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
    for (int tries = 0; access(path, F_OK) != 0 && tries < 500; tries++)
        nap(10);
}

static int do_daemon(char *args)
{
    daemonize(args, false);
    return do_done("daemon started");
}

static int do_daemon_holding(char *args)
{
    daemonize(args, true);
    return do_done("daemon started");
}

static int do_daemon_hang(char *args)
{
    daemonize(args, false);
    return do_hang_middle(args);
}

/* Does not go on until the children sleep, so that whoever sees the result sees them too. */
static int do_forkbomb(char *args)
{
    long n = strtol(args, NULL, 10);
    put_init();
    for (long i = 0; i < n && i < FORKS_MAX; i++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            signal(SIGTERM, SIG_IGN);
            if (i % 2)
                setsid();
            hang();
        }
    }
    put_result("forked");
    return 0;
}

static int do_lines(char *args)
{
    char *end;
    long n = strtol(args, &end, 10);
    long len = strtol(end, NULL, 10);
    put_init();
    static const char head[] = "{\"type\":\"system\",\"subtype\":\"line\",\"text\":\"";
    size_t size = sizeof head - 1 + (size_t)len + 3;
    char *line = malloc(size);
    if (!line)
        return 70;
    memcpy(line, head, sizeof head - 1);
    memset(line + sizeof head - 1, 'l', (size_t)len);
    memcpy(line + size - 3, "\"}\n", 3);
    for (long i = 0; i < n; i++)
        put(line, size);
    free(line);
    put_result("lines done");
    return 0;
}

/* Lines of 4 KiB until that many bytes are out. */
static int do_print_bytes(char *args)
{
    static char block[256 * 1024];
    static const char head[] = "{\"type\":\"system\",\"subtype\":\"bytes\",\"text\":\"";
    long long left = strtoll(args, NULL, 10);
    memset(block, 'b', sizeof block);
    for (size_t at = 0; at < sizeof block; at += 4096) {
        memcpy(block + at, head, sizeof head - 1);
        memcpy(block + at + 4093, "\"}\n", 3);
    }
    put_init();
    for (; left > 0; left -= (long long)sizeof block)
        put(block, sizeof block);
    put_result("bytes done");
    return 0;
}

static int do_partial_line(char *args)
{
    char *line = result_line("success", false, args, "");
    put_init();
    put(line, strlen(line) - 1); /* all but the newline */
    free(line);
    return 0;
}

static int do_half_line(char *args)
{
    char *line = result_line("success", false, args, "");
    put_init();
    put(line, strlen(line) / 2);
    free(line);
    return 0;
}

static int do_split(char *args)
{
    long ms = strtol(args, NULL, 10);
    char *line = result_line("success", false, "h\xc3\xa9llo in pieces", "");
    put_init();
    for (size_t at = 0, size = strlen(line); at < size; at += 7) {
        put(line + at, size - at < 7 ? size - at : 7);
        nap(ms);
    }
    free(line);
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
static int do_env(char *args)
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

static int do_crash(char *args)
{
    put_init();
    int sig = (int)strtol(args, NULL, 10);
    signal(sig, SIG_DFL);
    raise(sig ? sig : SIGSEGV);
    hang();
}

static int do_error(const char *subtype, const char *text, const char *tail)
{
    char *line = result_line(subtype, true, text, tail);
    put_init();
    puts_raw(line);
    free(line);
    return 1;
}

/* What the real CLI prints in the model's place: `error` says what kind of failure it is. */
static void put_synthetic(const char *text, const char *error)
{
    char line[1024];
    int n =
        snprintf(line, sizeof line,
                 "{\"type\":\"assistant\",\"message\":{\"id\":\"" SESSION "\",\"model\":"
                 "\"<synthetic>\",\"role\":\"assistant\",\"stop_reason\":\"stop_sequence\","
                 "\"type\":\"message\",\"usage\":{\"input_tokens\":0,\"output_tokens\":0},"
                 "\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]},"
                 "\"parent_tool_use_id\":null,\"session_id\":\"" SESSION "\",\"error\":\"%s\"}\n",
                 text, error);
    put(line, (size_t)n);
}

static int do_not_logged_in(char *args)
{
    static const char text[] = "Not logged in \xc2\xb7 Please run /login";
    (void)args;
    put_init();
    put_synthetic(text, "authentication_failed");
    char *line = result_line("success", true, text, "");
    puts_raw(line);
    free(line);
    return 1;
}

static int do_max_turns(char *args)
{
    (void)args;
    return do_error("error_max_turns", NULL,
                    ",\"errors\":[\"Reached maximum number of turns (1)\"]");
}

/* As the real CLI: is_error with exit status 0 must still be a failure. */
static int do_error_exit_0(char *args)
{
    do_error("error_during_execution", args, "");
    return 0;
}

static int do_usage_limit(char *args)
{
    (void)args;
    put_init();
    char line[512];
    snprintf(line, sizeof line,
             "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\","
             "\"resetsAt\":%lld,\"rateLimitType\":\"five_hour\",\"isUsingOverage\":false},"
             "\"session_id\":\"" SESSION "\"}\n",
             (long long)time(NULL) + 3600);
    puts_raw(line);
    put_synthetic("You've hit your session limit", "rate_limit");
    char *result = result_line("success", true, "You've hit your session limit", "");
    char *status = strstr(result, "\"api_error_status\":null");
    memcpy(status + 19, "429 ", 4);
    puts_raw(result);
    free(result);
    return 1;
}

static int do_closed_stdout(char *args)
{
    put_init();
    put_result(args);
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    hang();
}

static int do_closed_early(char *args)
{
    (void)args;
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    hang();
}

static int do_sleep(char *args)
{
    put_init();
    nap(strtol(args, NULL, 10));
    put_assistant("slept");
    put_result("slept");
    return 0;
}

/* Ticks: N lines, one every MS milliseconds. */
static int do_tick(char *args)
{
    char *end;
    long n = strtol(args, &end, 10);
    long ms = strtol(end, NULL, 10);
    put_init();
    for (long i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "tick %ld", i);
        nap(ms);
        put_assistant(text);
    }
    put_result("ticked");
    return 0;
}

/* The text of a line is the monotonic clock in microseconds when it was written. */
static int do_stamps(char *args)
{
    char *end;
    long n = strtol(args, &end, 10);
    long us = strtol(end, NULL, 10);
    struct timespec due, now;
    put_init();
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (long i = 0; i < n; i++) {
        char line[96];
        due.tv_nsec += us * 1000;
        due.tv_sec += due.tv_nsec / 1000000000;
        due.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        int len = snprintf(line, sizeof line,
                           "{\"type\":\"system\",\"subtype\":\"line\",\"at\":\"%018lld\"}\n",
                           (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
        put(line, (size_t)len);
    }
    put_result("stamped");
    return 0;
}

static int do_secret(char *args)
{
    char unset[] = "(unset)";
    char *value = getenv(args);
    return do_ok(value ? value : unset);
}

static int do_stderr_flood(char *args)
{
    long left = strtol(args, NULL, 10);
    char line[1024];
    memset(line, 'e', sizeof line);
    line[sizeof line - 1] = '\n';
    for (; left > 0; left -= (long)sizeof line)
        if (write(STDERR_FILENO, line, sizeof line) < 0)
            break;
    return do_done("flooded");
}

static int do_stderr_fail(char *args)
{
    dprintf(STDERR_FILENO, "%s\n", args);
    return 1;
}

/* A result, then another that says otherwise: the first one is final. */
static int do_two_results(char *args)
{
    (void)args;
    put_init();
    put_result("first");
    put_result("second");
    return 0;
}

static int do_trap_term(char *args)
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
static int do_touch(char *args)
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

/* Files of zeros. */
static int do_write(char *args)
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
static int do_once(char *args)
{
    int fd = open(args, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return do_done("second run");
    close(fd);
    return do_hang_middle(args);
}

static const struct behaviour {
    const char *name;
    int (*run)(char *args);
    const char *help;
} behaviours[] = {
    {"ok", do_ok, "TEXT: init, assistant, result"},
    {"hang-start", do_hang_start, "prints nothing, never ends"},
    {"hang-middle", do_hang_middle, "init and assistant, then never ends"},
    {"hang-result", do_hang_result, "result printed, never ends"},
    {"closed-stdout", do_closed_stdout, "result, closes its output, never ends"},
    {"closed-early", do_closed_early, "closes its output at once, never ends"},
    {"big-line", do_big_line, "N: a line of N bytes of text, result, exit"},
    {"long-line", do_big_line, "N: the same; meant for more than 16 MiB"},
    {"big-result", do_big_result, "N: a result of N bytes"},
    {"bad-utf8", do_bad_utf8, "invalid UTF-8 in an event and in plain text, good result"},
    {"bad-result", do_bad_result, "invalid UTF-8 in the result"},
    {"garbage", do_garbage, "lines of all kinds, good result"},
    {"nul", do_nul, "a NUL byte in a line, good result"},
    {"no-result", do_no_result, "exit 0 without a result"},
    {"silent", do_silent, "exit 0 without a byte"},
    {"exit", do_exit, "N: init, exit N"},
    {"ok-exit", do_ok_exit, "N: good result, exit N"},
    {"error-exit-0", do_error_exit_0, "TEXT: a failed result, exit 0"},
    {"ignore-term", do_ignore_term, "ignores TERM, INT, HUP; never ends"},
    {"trap-term", do_trap_term, "PATH: on TERM creates PATH and exits 143"},
    {"daemon", do_daemon, "PATH: leaves a daemon that appends to PATH for ever; its pid first"},
    {"daemon-holding", do_daemon_holding, "PATH: the same, holding stdout open"},
    {"daemon-hang", do_daemon_hang, "PATH: the same as daemon, then never ends"},
    {"forkbomb", do_forkbomb, "N: that many children (200 at most) that ignore TERM, half setsid"},
    {"lines", do_lines, "N LEN: N lines of LEN bytes of text, result"},
    {"print-bytes", do_print_bytes, "N: about N bytes in lines of 4 KiB, result"},
    {"partial-line", do_partial_line, "TEXT: the result has no final newline"},
    {"half-line", do_half_line, "half of a result line, exit 0"},
    {"split", do_split, "MS: the result line in pieces of 7 bytes, MS apart"},
    {"two-results", do_two_results, "two results, \"first\" and \"second\""},
    {"env", do_env, "result is JSON: env, argv, cwd, uid, gid, pids, signal masks, fds"},
    {"fds", do_env, "the same"},
    {"secret", do_secret, "NAME: prints that environment variable"},
    {"crash", do_crash, "SIG: dies of that signal"},
    {"not-logged-in", do_not_logged_in, "as the real one"},
    {"max-turns", do_max_turns, "as the real one"},
    {"usage-limit", do_usage_limit, "as the real one with a login"},
    {"sleep", do_sleep, "MS: init, waits, result"},
    {"tick", do_tick, "N MS: N lines, one every MS ms, result"},
    {"stamps", do_stamps, "N US: N lines with the time, one every US microseconds, result"},
    {"stderr-flood", do_stderr_flood, "N: N bytes on stderr, result"},
    {"stderr-fail", do_stderr_fail, "TEXT on stderr, nothing on stdout, exit 1"},
    {"once", do_once, "PATH: creates it and never ends; result when it is there already"},
    {"touch", do_touch, "PATH: appends one byte to it, result"},
    {"write", do_write, "PATH BYTES…: files of that many zeros, result"},
};

/* ---- start ---- */

static char *read_prompt(void)
{
    static char prompt[PROMPT_MAX + 1];
    size_t size = 0;
    ssize_t n;
    while (size < PROMPT_MAX && (n = read(STDIN_FILENO, prompt + size, PROMPT_MAX - size)) > 0)
        size += (size_t)n;
    prompt[size] = '\0';
    return prompt;
}

static int help(void)
{
    puts("prompt: \"standin: BEHAVIOUR ARGS\" on the first line; BEHAVIOUR is one of");
    for (size_t i = 0; i < sizeof behaviours / sizeof *behaviours; i++)
        printf("  %-14s %s\n", behaviours[i].name, behaviours[i].help);
    return 0;
}

int main(int argc, char **argv)
{
    the_argv = argv;
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0)) {
        puts(VERSION " (Claude Code)");
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return help();
    char *prompt = read_prompt();
    if (strncmp(prompt, "standin: ", 9) != 0)
        return do_ok(prompt);
    char *name = prompt + 9;
    name[strcspn(name, "\n")] = '\0';
    size_t len = strcspn(name, " ");
    char *args = name + len + (name[len] == ' ');
    for (size_t i = 0; i < sizeof behaviours / sizeof *behaviours; i++)
        if (strlen(behaviours[i].name) == len && strncmp(behaviours[i].name, name, len) == 0)
            return behaviours[i].run(args);
    fprintf(stderr, "cli-standin: unknown behaviour '%.*s'\n", (int)len, name);
    return 64;
}
