/* Malicious repositories and remotes, and a relay to the ssh server that can be cut. */
#ifndef TESTS_REPOS_HOSTILE_SCENE_H
#define TESTS_REPOS_HOSTILE_SCENE_H

#include "githost.h"
#include "testing.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUSH "\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true}}"
#define REBOUND "git.example.org" /* a public name that resolves to 127.0.0.1 */
#define RELAY_BYTES 65536

static struct runner *runner;

/* A relay to the ssh server that can be cut. */
static struct line {
    volatile long allowed; /* bytes towards the runner; then it is cut, or silent */
    volatile int silent;
} * line;

static pid_t line_pid;
static int line_port;
static inline void start_line(void);

/* ---- the world ---- */

/* Makes a public name resolve to loopback, for this process and those that it starts. */
static inline void rebind_name(void)
{
    char *hosts = textf("%s/hosts", host.dir);
    write_file(hosts, "127.0.0.1 localhost " REBOUND "\n", 0644);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL))
        fail_msg("cannot put another hosts file in place");
    free(hosts);
}

static inline int start_all(void **state)
{
    (void)state;
    if (!githost_start())
        return 0;
    rebind_name();
    runner = githost_runner("");
    runner_set(runner, "MAX_CONCURRENT_TASKS", "16");
    runner_start(runner);
    start_line();
    return 0;
}

static inline int stop_all(void **state)
{
    (void)state;
    if (line_pid > 0)
        kill(line_pid, SIGKILL); /* and with it the relay */
    runner_free(runner);
    githost_stop();
    return 0;
}

static inline void need_host(void)
{
    if (!runner)
        SKIP_BECAUSE("needs root, sshd, nginx and fcgiwrap");
}

/* Runs a task in a repository of the host's directory. */
static inline struct reply *in(struct runner *where, const char *repo, const char *prompt,
                               const char *more)
{
    char *fields =
        textf("\"repoUrl\":\"file://%s/%s\"%s%s", host.dir, repo, *more ? "," : "", more);
    struct reply *reply = runner_execute(where, prompt, fields);
    free(fields);
    assert_status(reply, 200);
    return reply;
}

static inline void assert_failed(struct reply *reply, const char *reason, const char *error)
{
    if (!cJSON_IsFalse(json_at(reply->json, "success")))
        fail_msg("it succeeded: %s", reply->body);
    assert_json_text(reply->json, "reason", reason);
    assert_json_contains(reply->json, "error", error);
    reply_free(reply);
}

/* The number that a shell printed. */
static inline int number(const char *said)
{
    char *end;
    long value = strtol(said, &end, 10);
    if (end == said)
        fail_msg("no number: %s", said);
    return (int)value;
}

/* ---- the line ---- */

static inline int connect_to(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static inline int listen_on(int *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

/* Passes on what one side has sent; false when the connection is over. */
static inline bool pass(int from, int to, bool counted, long *passed)
{
    char data[RELAY_BYTES];
    ssize_t n = read(from, data, sizeof data);
    if (n <= 0)
        return false;
    *passed += counted ? n : 0;
    if (counted && *passed > line->allowed) {
        while (line->silent)
            poll(NULL, 0, 20);
        return false;
    }
    return write(to, data, (size_t)n) == n;
}

static inline void relay(int client)
{
    long passed = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int server = connect_to(host.ssh_port);
    struct pollfd fds[] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    bool open = server >= 0;
    while (open && poll(fds, 2, 20000) > 0)
        open = (!fds[0].revents || pass(client, server, false, &passed)) &&
               (!fds[1].revents || pass(server, client, true, &passed));
    _exit(0);
}

static inline void start_line(void)
{
    int port, listener = listen_on(&port);
    line = mmap(NULL, sizeof *line, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    line_port = port;
    line_pid = fork();
    if (line_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGCHLD, SIG_IGN);
        for (;;) {
            int client = accept(listener, NULL, NULL);
            if (client >= 0 && fork() == 0)
                relay(client);
            close(client);
        }
    }
    close(listener);
}

#endif
