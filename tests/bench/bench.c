/*
 * The stop-watch of tests/bench/run.
 *
 *   bench spawn N PROGRAM PROMPT             starts PROGRAM N times, one after another, with PROMPT
 *                                            on stdin and stdout in a file, as the runner does
 *   bench execute N CALLERS PORT SECRET PROMPT
 *                                            N times POST /execute, spread over CALLERS connections
 *   bench submit N CALLERS PORT SECRET PROMPT
 *                                            the same with POST /run-async
 *   bench python N CALLERS PORT SECRET CODE  the same with Python code to POST /run
 *   bench start PORT PROGRAM ARG...          starts PROGRAM, waits until /healthz on PORT answers,
 *                                            ends it again
 *   bench port                               prints a port that is free
 *
 * spawn, execute, submit and python print "p50_us p99_us per_second failures", start prints
 * milliseconds.
 */
#include "measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { CALLERS_MAX = 256, START_LIMIT_MS = 30000 };

/* One measured run: every caller takes the next number and notes how long it took. */
struct run {
    long count;
    atomic_long next;
    atomic_long failures;
    int64_t *took_us;
    uint16_t port;
    const char *request;
    const char *wanted; /* in a good answer */
};

static long number(const char *text)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 1) {
        fprintf(stderr, "'%s' is no number above 0\n", text);
        exit(2);
    }
    return value;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_run(struct run *run, int64_t whole_us)
{
    qsort(run->took_us, (size_t)run->count, sizeof(*run->took_us), by_size);
    printf("%lld %lld %.1f %ld\n", (long long)run->took_us[run->count / 2],
           (long long)run->took_us[run->count * 99 / 100],
           (double)run->count * 1e6 / (double)whole_us, atomic_load(&run->failures));
}

static struct run *run_new(long count)
{
    struct run *run = calloc(1, sizeof(*run));
    if (!run || !(run->took_us = calloc((size_t)count, sizeof(*run->took_us))))
        die("memory");
    run->count = count;
    return run;
}

/* ---- spawn ---- */

static pid_t spawn(const char *program, char *const argv[], int in, int out)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    if ((errno = posix_spawnp(&pid, program, &actions, NULL, argv, environ)))
        die(program);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* A file without a name that holds `text`, to be read from its start. */
static int file_with(const char *text)
{
    int fd = memfd_create("prompt", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || lseek(fd, 0, SEEK_SET))
        die("memfd");
    return fd;
}

static bool spawn_once(const char *program, const char *prompt)
{
    char path[] = "/tmp/claude-runner-bench-XXXXXX";
    char *const argv[] = {(char *)(uintptr_t)program, NULL};
    int out = mkostemp(path, O_CLOEXEC), in = file_with(prompt), status = 0;

    if (out < 0)
        die(path);
    waitpid(spawn(program, argv, in, out), &status, 0);
    off_t size = lseek(out, 0, SEEK_END);
    unlink(path);
    close(out);
    close(in);
    return status == 0 && size > 0;
}

static int do_spawn(char **args)
{
    struct run *run = run_new(number(args[0]));
    int64_t began = now_us();

    for (long i = 0; i < run->count; i++) {
        int64_t start = now_us();
        if (!spawn_once(args[1], args[2]))
            atomic_fetch_add(&run->failures, 1);
        run->took_us[i] = now_us() - start;
    }
    print_run(run, now_us() - began);
    return 0;
}

/* ---- HTTP ---- */

static int connect_to(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* One request on a connection of its own, "Connection: close": reads to the end of the answer. */
static bool ask(uint16_t port, const char *request, char *answer, size_t size)
{
    int fd = connect_to(port);
    size_t have = 0;
    ssize_t n = -1;

    if (fd < 0)
        return false;
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request))
        while ((n = read(fd, answer + have, size - 1 - have)) > 0 && have < size - 1)
            have += (size_t)n;
    close(fd);
    answer[have] = '\0';
    return n == 0 && strncmp(answer, "HTTP/1.1 20", 11) == 0;
}

static void *caller(void *arg)
{
    struct run *run = arg;
    char answer[16384];
    long i;

    while ((i = atomic_fetch_add(&run->next, 1)) < run->count) {
        int64_t start = now_us();
        if (!ask(run->port, run->request, answer, sizeof(answer)) || !strstr(answer, run->wanted)) {
            if (atomic_fetch_add(&run->failures, 1) == 0)
                fprintf(stderr, "first failure: %s\n", answer);
        }
        run->took_us[i] = now_us() - start;
    }
    return NULL;
}

__attribute__((format(printf, 1, 2))) static char *format(const char *pattern, ...)
{
    va_list args;
    char *text;

    va_start(args, pattern);
    if (vasprintf(&text, pattern, args) < 0)
        die("memory");
    va_end(args);
    return text;
}

static int post(char **args, const char *path, const char *body, const char *wanted)
{
    struct run *run = run_new(number(args[0]));
    long callers = number(args[1]);
    pthread_t threads[CALLERS_MAX];

    if (callers > CALLERS_MAX)
        callers = CALLERS_MAX;
    run->port = (uint16_t)number(args[2]);
    run->wanted = wanted;
    run->request = format("POST %s HTTP/1.1\r\nHost: localhost\r\nX-Runner-Secret: %s\r\n"
                          "Content-Type: application/json\r\nConnection: close\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          path, args[3], strlen(body), body);

    int64_t began = now_us();
    for (long i = 0; i < callers; i++)
        if ((errno = pthread_create(&threads[i], NULL, caller, run)))
            die("thread");
    for (long i = 0; i < callers; i++)
        pthread_join(threads[i], NULL);
    print_run(run, now_us() - began);
    return 0;
}

static int do_calls(char **args, const char *path, const char *wanted)
{
    return post(args, path, format("{\"prompt\":\"%s\",\"timeout_ms\":600000}", args[4]), wanted);
}

/* The code as it stands in JSON. */
static int do_python(char **args)
{
    return post(args, "/run", format("{\"code\":\"%s\"}", args[4]), "\"status\":\"success\"");
}

static int do_execute(char **args)
{
    return do_calls(args, "/execute", "\"success\":true");
}

static int do_submit(char **args)
{
    return do_calls(args, "/run-async", "\"status\":\"pending\"");
}

/* ---- start ---- */

static int do_start(char **args)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
                                  "Connection: close\r\n\r\n";
    uint16_t port = (uint16_t)number(args[0]);
    int quiet = open("/dev/null", O_RDWR | O_CLOEXEC);
    char answer[1024];

    int64_t began = now_us();
    pid_t pid = spawn(args[1], args + 1, quiet, quiet);
    while (!ask(port, request, answer, sizeof(answer))) {
        if (now_us() - began > START_LIMIT_MS * INT64_C(1000) || waitpid(pid, NULL, WNOHANG)) {
            fprintf(stderr, "%s does not answer on port %u\n", args[1], port);
            kill(pid, SIGKILL);
            return 1;
        }
        usleep(200);
    }
    printf("%.1f\n", (double)(now_us() - began) / 1000);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    return 0;
}

static int do_port(char **args)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)args;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&at, len) || getsockname(fd, (struct sockaddr *)&at, &len))
        die("bind");
    close(fd);
    printf("%d\n", ntohs(at.sin_port));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int args; /* at least */
        int (*run)(char **args);
    } commands[] = {{"spawn", 3, do_spawn},   {"execute", 5, do_execute}, {"submit", 5, do_submit},
                    {"python", 5, do_python}, {"start", 2, do_start},     {"port", 0, do_port}};

    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
        if (argc > 1 && strcmp(argv[1], commands[i].name) == 0 && argc - 2 >= commands[i].args)
            return commands[i].run(argv + 2);
    fprintf(stderr, "bench spawn|execute|submit|python|start|port: see the top of bench.c\n");
    return 2;
}
