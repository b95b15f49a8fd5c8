#include "git/offer.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "git/git_private.h"
#include "git/pkt.h"
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define REFS_TYPE "application/x-git-upload-pack-advertisement"
#define PACK_TYPE "application/x-git-upload-pack-result"
#define CHUNK_BYTES (64u << 10)
#define WORDS_MAX (16u << 10)
#define SILENCE_MS 300000 /* the remote may take long to count objects */

static const char service_line[] = "001e# service=git-upload-pack\n0000";

struct offer {
    const struct offer_job *job;
    struct remote remote;
    bool begun; /* the answer's head was written */
    int status; /* http: the remote's status */
    struct err *err;
};

int offer_head(int out_fd, int status, const char *type, struct err *err)
{
    char line[200];
    int n = snprintf(line, sizeof(line), "%d %s\n", status, type);
    return fd_write_all(out_fd, line, (size_t)n) ? err_sys(err, "the client") : 0;
}

static bool asks_refs(const struct offer *offer)
{
    return offer->job->body_fd < 0;
}

static int begin(struct offer *offer, struct err *err)
{
    if (offer->begun)
        return 0;
    offer->begun = true;
    return offer_head(offer->job->out_fd, 200, asks_refs(offer) ? REFS_TYPE : PACK_TYPE, err);
}

/* --- http ---------------------------------------------------------------------------------- */

static ssize_t read_body(char *to, size_t size, void *arg)
{
    const struct offer *offer = arg;
    return read(offer->job->body_fd, to, size);
}

static int take_head(int status, const struct buf *head, void *arg)
{
    struct offer *offer = arg;
    (void)head;
    offer->status = status;
    return status == 200 ? begin(offer, offer->err) : 0;
}

static int take_piece(const char *data, size_t len, void *arg)
{
    const struct offer *offer = arg;
    return offer->status == 200 ? fd_write_all(offer->job->out_fd, data, len) : 0;
}

static int judge_status(const struct offer *offer, struct err *err)
{
    int status = offer->status;
    return status == 200                    ? 0
           : status == 401 || status == 403 ? err_set(err, ERR_FORBIDDEN,
                                                      "the repository's host refuses the runner's "
                                                      "credentials (%d)",
                                                      status)
           : status == 404
               ? err_set(err, ERR_NOT_FOUND, "the host knows no such repository")
               : err_set(err, ERR_UPSTREAM, "the repository's host answered %d", status);
}

static void add_headers(const struct offer *offer, struct strlist *headers)
{
    AUTO(buf_wipe) struct buf credentials = BUF_INIT(32768);
    remote_add_authorization(&offer->remote, &credentials);
    if (credentials.len > 0)
        strlist_add(headers, buf_str(&credentials));
    if (offer->job->protocol[0])
        strlist_addf(headers, "Git-Protocol: %s", offer->job->protocol);
    strlist_add(headers, "User-Agent: git/claude-runner");
    if (!asks_refs(offer)) {
        strlist_add(headers, "Content-Type: application/x-git-upload-pack-request");
        strlist_add(headers, "Accept: " PACK_TYPE);
    }
}

static int by_http(struct offer *offer, struct err *err)
{
    char url[sizeof(offer->remote.text) + 64];
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(buf) struct buf pin = BUF_INIT(1024);
    bool refs = asks_refs(offer), https = offer->remote.url.scheme == GIT_HTTPS;
    snprintf(url, sizeof(url), "%s/%s", offer->remote.text,
             refs ? "info/refs?service=git-upload-pack" : "git-upload-pack");
    remote_pin(&offer->remote, &pin);
    add_headers(offer, &headers);
    const struct net_relay relay = {.method = refs ? "GET" : "POST",
                                    .url = url,
                                    .headers = &headers,
                                    .body_len = refs ? 0 : offer->job->body_len,
                                    .silence_ms = SILENCE_MS,
                                    .pin = pin.len > 0 ? buf_str(&pin) : NULL,
                                    .proxy = https && pin.len == 0 ? getenv("https_proxy") : NULL,
                                    .plain = !https,
                                    .fresh = true,
                                    .arg = offer,
                                    .read = read_body,
                                    .head = take_head,
                                    .write = take_piece};
    struct net_link *link = headers.failed ? NULL : net_link_new();
    if (!link)
        return err_sys(err, "fetch");
    int rc = net_relay(link, &relay, err);
    net_link_free(link);
    return rc ? -1 : judge_status(offer, err);
}

/* --- a program ----------------------------------------------------------------------------- */

/* A running git-upload-pack, here or behind ssh, with its three pipes. */
struct server {
    pid_t pid;
    int in, out, words; /* our ends of the pipes */
};

static void add_ssh(const struct offer *offer, struct strlist *argv)
{
    const struct git_url *url = &offer->remote.url;
    AUTO(buf) struct buf command = BUF_INIT(16384);
    AUTO(buf) struct buf line = BUF_INIT(65536);
    buf_addf(&line, "exec %s \"$@\"", offer->remote.ssh_command);
    buf_adds(&command, "git-upload-pack ");
    git_add_quoted(&command, url->path);
    strlist_add(argv, "/bin/sh");
    strlist_add(argv, "-c");
    strlist_add(argv, buf_str(&line));
    strlist_add(argv, "ssh");
    strlist_add(argv, "-oSendEnv=GIT_PROTOCOL");
    if (url->port)
        strlist_addf(argv, "-p%d", url->port);
    if (url->user[0])
        strlist_addf(argv, "-l%s", url->user);
    strlist_add(argv, "--");
    strlist_add(argv, url->host);
    strlist_add(argv, buf_str(&command));
}

static void add_local(const struct offer *offer, struct strlist *argv)
{
    strlist_add(argv, "git");
    strlist_add(argv, "-c");
    strlist_add(argv, "safe.directory=*");
    strlist_add(argv, "upload-pack");
    strlist_add(argv, "--");
    strlist_add(argv, offer->remote.url.path);
}

static int spawn(const struct strlist *argv, const struct strlist *env, int fds[3][2],
                 pid_t *ret_pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t all;
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    for (int i = 0; i < 3; i++)
        posix_spawn_file_actions_adddup2(&files, fds[i][i > 0], i);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigdefault(&attr, &all);
    int sys = posix_spawnp(ret_pid, argv->items[0], &files, &attr, argv->items, env->items);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return sys;
}

static int start(const struct offer *offer, struct server *server, struct err *err)
{
    int fds[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, sys = ENOMEM;
    AUTO(strlist) struct strlist argv = STRLIST_INIT;
    AUTO(strlist) struct strlist env = STRLIST_INIT;
    if (offer->remote.url.scheme == GIT_SSH)
        add_ssh(offer, &argv);
    else
        add_local(offer, &argv);
    program_add_environment(&env);
    if (offer->job->protocol[0])
        strlist_addf(&env, "GIT_PROTOCOL=%s", offer->job->protocol);
    bool ready = !argv.failed && !env.failed;
    for (int i = 0; i < 3 && ready; i++)
        ready = pipe2(fds[i], O_CLOEXEC) == 0;
    if (ready)
        sys = spawn(&argv, &env, fds, &server->pid);
    for (int i = 0; i < 3; i++)
        fd_close(&fds[i][i > 0]);
    server->in = fds[0][1];
    server->out = fds[1][0];
    server->words = fds[2][0];
    for (int i = 0; i < 3 && sys == 0; i++)
        fcntl(i == 0 ? server->in : i == 1 ? server->out : server->words, F_SETFL, O_NONBLOCK);
    errno = sys;
    return sys ? err_sys(err, "cannot ask the repository's host") : 0;
}

static void stop(struct server *server)
{
    fd_close(&server->in);
    fd_close(&server->out);
    fd_close(&server->words);
    kill(-server->pid, SIGKILL);
    while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* --- its talk ------------------------------------------------------------------------------ */

struct talk {
    struct offer *offer;
    struct server server;
    struct buf first; /* the server's output up to its first flush packet, as far as it has
                       * arrived */
    bool past_first;
    char chunk[CHUNK_BYTES]; /* of the request */
    size_t at, len;
    struct buf words;
};

/* Sends more of the request. After its end the server's input is closed. */
static void feed(struct talk *talk)
{
    if (talk->at == talk->len) {
        ssize_t n = asks_refs(talk->offer)
                        ? 0
                        : read(talk->offer->job->body_fd, talk->chunk, sizeof(talk->chunk));
        talk->at = 0;
        talk->len = n > 0 ? (size_t)n : 0;
        if (n <= 0) {
            fd_close(&talk->server.in);
            return;
        }
    }
    ssize_t n = write(talk->server.in, talk->chunk + talk->at, talk->len - talk->at);
    if (n > 0)
        talk->at += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        fd_close(&talk->server.in); /* The server has said why on stderr, or is finished. */
}

/* The offset after the first flush packet in `first`; 0 when it has not arrived, -1 when this is
 * not git's protocol. */
static ssize_t find_flush(const struct buf *first)
{
    struct pkt pkt;
    size_t at = 0;
    for (;;) {
        ssize_t n = pkt_read(buf_str(first) + at, first->len - at, &pkt);
        if (n <= 0)
            return n;
        at += (size_t)n;
        if (pkt.kind == PKT_FLUSH)
            return (ssize_t)at;
    }
}

static int send_on(struct talk *talk, const char *data, size_t len, struct err *err)
{
    if (len == 0)
        return 0;
    if (begin(talk->offer, err))
        return -1;
    return fd_write_all(talk->offer->job->out_fd, data, len) ? err_sys(err, "the client") : 0;
}

static int take_first(struct talk *talk, struct err *err)
{
    ssize_t end = find_flush(&talk->first);
    if (end < 0 || !buf_ok(&talk->first))
        return err_set(err, ERR_UPSTREAM, "the repository's host does not speak git's protocol");
    if (end == 0)
        return 0;
    talk->past_first = true;
    if (!asks_refs(talk->offer))
        return send_on(talk, talk->first.data + end, talk->first.len - (size_t)end, err);
    return send_on(talk, service_line, sizeof(service_line) - 1, err) ||
                   send_on(talk, talk->first.data, (size_t)end, err)
               ? -1
               : 0;
}

/* Reads the server's output; closes server.out at its end. */
static int take(struct talk *talk, struct err *err)
{
    char data[CHUNK_BYTES];
    ssize_t n = read(talk->server.out, data, sizeof(data));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        fd_close(&talk->server.out);
        return 0;
    }
    if (talk->past_first)
        return asks_refs(talk->offer) ? 0 : send_on(talk, data, (size_t)n, err);
    buf_add(&talk->first, data, (size_t)n);
    return take_first(talk, err);
}

static void take_words(struct talk *talk)
{
    char data[4096];
    ssize_t n = read(talk->server.words, data, sizeof(data));
    if (n > 0 && talk->words.len + (size_t)n < talk->words.max)
        buf_add(&talk->words, data, (size_t)n);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        fd_close(&talk->server.words);
}

static int converse(struct talk *talk, struct err *err)
{
    int64_t deadline = talk->offer->job->remote.deadline_ms;
    struct server *server = &talk->server;
    bool enough = false;
    while (server->out >= 0 && !enough) {
        int64_t left = deadline - clock_mono_ms();
        bool sends = server->in >= 0 && talk->past_first;
        struct pollfd fds[] = {{.fd = sends ? server->in : -1, .events = POLLOUT},
                               {.fd = server->out, .events = POLLIN},
                               {.fd = server->words, .events = POLLIN}};
        if (left <= 0)
            return err_set(err, ERR_TIMEOUT, "the repository's host took too long");
        poll(fds, 3, left < 60000 ? (int)left : 60000);
        if (fds[0].revents)
            feed(talk);
        if (fds[2].revents)
            take_words(talk);
        if (fds[1].revents && take(talk, err))
            return -1;
        enough = talk->past_first && asks_refs(talk->offer);
    }
    while (server->words >= 0 && !talk->past_first)
        take_words(talk); /* Its stderr says why there was no output. */
    return 0;
}

static int by_program(struct offer *offer, struct err *err)
{
    struct talk *talk = calloc(1, sizeof(*talk));
    if (!talk)
        return err_sys(err, "fetch");
    talk->offer = offer;
    buf_init(&talk->first, PROGRAM_OUTPUT_MAX);
    buf_init(&talk->words, WORDS_MAX);
    int rc = start(offer, &talk->server, err);
    if (rc == 0) {
        rc = converse(talk, err);
        if (rc == 0 && !talk->past_first)
            rc = program_explain("upload-pack", &talk->words, err);
        stop(&talk->server);
    }
    if (rc == 0)
        rc = begin(offer, err); /* An empty answer needs a head as well. */
    buf_done(&talk->first);
    buf_done(&talk->words);
    free(talk);
    return rc;
}

int offer_run(const struct offer_job *job, bool *ret_begun, struct err *err)
{
    REQUIRE(job->out_fd >= 0);
    struct offer offer = {.job = job, .remote = REMOTE_INIT, .err = err};
    int rc = remote_open(&offer.remote, &job->remote, err);
    if (rc == 0) {
        bool http = offer.remote.url.scheme == GIT_HTTPS || offer.remote.url.scheme == GIT_HTTP;
        rc = http ? by_http(&offer, err) : by_program(&offer, err);
    }
    remote_close(&offer.remote);
    *ret_begun = offer.begun;
    return rc;
}
