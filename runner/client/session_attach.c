#include "runner/client/session_attach.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "runner/client/client.h"
#include "websocket/websocket.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define CONNECT_MS 10000
#define ANSWER_MS 30000
#define WRITE_MS 30000
#define PIECE_BYTES 16384
#define HEAD_MAX 65536
#define TEXT_MAX (1u << 20)
#define KEY_LEAVE '\x1d' /* Ctrl-] */

struct attached {
    struct net_wire *wire;
    struct websocket_reader reader;
    struct buf early; /* bytes of frames that came with the head */
    bool leaving;     /* KEY_LEAVE was typed */
    bool left, live, over, lost;
    int exit_code;
};

static volatile sig_atomic_t resized, ended;

static void on_resize(int sig)
{
    (void)sig;
    resized = 1;
}

static void on_end(int sig)
{
    ended = sig;
}

/* --- sending ------------------------------------------------------------------------------- */

static int send_frame(struct attached *a, enum websocket_kind kind, const void *data, size_t len,
                      struct err *err)
{
    unsigned char mask[WEBSOCKET_MASK_SIZE];
    AUTO(buf) struct buf frame = BUF_INIT(TEXT_MAX);
    id_random(mask, sizeof(mask));
    websocket_add(&frame, kind, data, len, mask);
    return buf_check(&frame, "input", err)
               ? -1
               : net_wire_write(a->wire, frame.data, frame.len, WRITE_MS, err);
}

static void size_of_terminal(int *ret_cols, int *ret_rows)
{
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    *ret_cols = !known ? 80 : size.ws_col > 1000 ? 1000 : size.ws_col;
    *ret_rows = !known ? 24 : size.ws_row > 1000 ? 1000 : size.ws_row;
}

static int send_size(struct attached *a, struct err *err)
{
    char text[96];
    int cols, rows;
    size_of_terminal(&cols, &rows);
    int n = snprintf(text, sizeof(text), "{\"resize\":{\"cols\":%d,\"rows\":%d}}", cols, rows);
    return send_frame(a, WEBSOCKET_TEXT, text, (size_t)n, err);
}

/* Sends typed bytes. After the key that leaves, 'd' leaves, the key itself is sent once, and any
 * other key is sent with it. */
static int send_typed(struct attached *a, const char *data, size_t len, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT((size_t)4 * PIECE_BYTES);
    for (size_t i = 0; i < len && !a->left; i++) {
        bool was = a->leaving;
        a->leaving = !was && data[i] == KEY_LEAVE;
        a->left = was && (data[i] == 'd' || data[i] == '.');
        if (was && data[i] != KEY_LEAVE && !a->left)
            buf_addc(&out, KEY_LEAVE);
        if (!a->leaving && !a->left)
            buf_addc(&out, data[i]);
    }
    return out.len > 0 ? send_frame(a, WEBSOCKET_BINARY, out.data, out.len, err) : 0;
}

/* --- receiving ----------------------------------------------------------------------------- */

static void take_text(struct attached *a, const char *text, size_t len)
{
    struct err ignored;
    int64_t exit = 1;
    AUTO(json) struct json *root = json_parse(text, len, &ignored);
    const char *type = text_of(root, "type");
    if (strcmp(type, "live") == 0) {
        a->live = true;
    } else if (strcmp(type, "exit") == 0) {
        a->over = true;
        a->lost = client_is_true(root, "lost");
        json_int(json_get(root, "exitCode"), &exit);
        a->exit_code = exit >= 0 && exit < 256 ? (int)exit : 1;
    }
}

static int take(enum websocket_kind kind, int code, const char *data, size_t len, void *arg)
{
    struct attached *a = arg;
    struct err ignored;
    (void)code;
    if (kind == WEBSOCKET_BINARY)
        return fd_write_all(STDOUT_FILENO, data, len) ? WEBSOCKET_GOING : 0;
    if (kind == WEBSOCKET_TEXT)
        take_text(a, data, len);
    else if (kind == WEBSOCKET_PING)
        return send_frame(a, WEBSOCKET_PONG, data, len, &ignored) ? WEBSOCKET_GOING : 0;
    return 0;
}

/* Reads what has arrived. Returns 1 when the other side has closed. */
static int receive(struct attached *a, struct err *err)
{
    char piece[PIECE_BYTES];
    size_t len;
    int got = 1;
    while (!a->reader.closed && (got = net_wire_read(a->wire, piece, sizeof(piece), &len, err)) > 0)
        if (websocket_read(&a->reader, piece, len, take, a))
            return err_set(err, ERR_UPSTREAM, "what the runner sends makes no sense");
    if (a->over || a->reader.closed)
        return 1;
    return got < 0 ? -1 : 0;
}

/* --- the handshake ------------------------------------------------------------------------- */

static int add_request(const struct settings *to, const char *session, const char *shell,
                       const char *key, struct buf *out, struct err *err)
{
    int cols, rows;
    const char *host = strstr(to->url, "://") + 3;
    size_t host_len = strcspn(host, "/?#");
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    if (client_headers(to, "*/*", &headers, err))
        return -1;
    size_of_terminal(&cols, &rows);
    buf_addf(out, "GET %s/sessions/", host + host_len);
    str_add_url(out, session, "");
    buf_addf(out, "/terminal?cols=%d&rows=%d&shell=", cols, rows);
    str_add_url(out, shell ? shell : "default", "");
    buf_addf(out,
             " HTTP/1.1\r\nHost: %.*s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             "Sec-WebSocket-Version: " WEBSOCKET_VERSION "\r\nSec-WebSocket-Key: %s\r\n",
             (int)host_len, host, key);
    for (size_t i = 0; i < headers.count; i++)
        buf_addf(out, "%s\r\n", headers.items[i]);
    buf_adds(out, "\r\n");
    return buf_check(out, "the request", err);
}

/* Reads until the head is complete, or the connection is over. Returns the head's length; 0: there
 * was none. */
static size_t read_head(struct attached *a, struct buf *in, struct err *err)
{
    char piece[PIECE_BYTES];
    size_t len;
    const char *end = NULL;
    for (int waited = 0; !end && waited < ANSWER_MS && !ended;) {
        struct pollfd wait = {.fd = net_wire_fd(a->wire), .events = POLLIN};
        int got = net_wire_read(a->wire, piece, sizeof(piece), &len, err);
        if (got < 0 || buf_add(in, piece, len))
            return 0;
        end = in->len > 0 ? strstr(in->data, "\r\n\r\n") : NULL;
        if (got == 0 && poll(&wait, 1, 100) == 0)
            waited += 100;
    }
    if (!end)
        err_set(err, ERR_TIMEOUT, "the runner does not answer");
    return end ? (size_t)(end - in->data) + 4 : 0;
}

/* Explains an answer that is no upgrade by its body. */
static int explain(struct attached *a, const struct settings *to, struct buf *in, size_t head,
                   int status, struct err *err)
{
    char text[32];
    AUTO(buf) struct buf lines = BUF_INIT(HEAD_MAX);
    buf_add(&lines, in->data, head);
    const char *length = net_header(&lines, "Content-Length", text, sizeof(text));
    size_t want = length ? head + strtoul(length, NULL, 10) : head;
    char piece[PIECE_BYTES];
    size_t len = 0;
    for (int i = 0; i < 100 && in->len < want; i++) {
        struct pollfd wait = {.fd = net_wire_fd(a->wire), .events = POLLIN};
        int got = net_wire_read(a->wire, piece, sizeof(piece), &len, err);
        if (got < 0 || buf_add(in, piece, len))
            break;
        if (got == 0)
            poll(&wait, 1, 100);
    }
    return client_explain(to, status, in->data + head, in->len - head, err);
}

static int shake_hands(struct attached *a, const struct settings *to, const char *session,
                       const char *shell, struct err *err)
{
    unsigned char random[16];
    char key[WEBSOCKET_KEY_SIZE], want[WEBSOCKET_ACCEPT_SIZE] = "", got[64];
    AUTO(buf_wipe) struct buf ask = BUF_INIT(HEAD_MAX);
    AUTO(buf) struct buf in = BUF_INIT(TEXT_MAX), lines = BUF_INIT(HEAD_MAX);
    id_random(random, sizeof(random));
    websocket_key(random, key);
    if (add_request(to, session, shell, key, &ask, err) ||
        net_wire_write(a->wire, ask.data, ask.len, WRITE_MS, err))
        return -1;
    size_t head = read_head(a, &in, err);
    if (head == 0)
        return -1;
    int status = strncmp(in.data, "HTTP/1.1 ", 9) == 0 ? (int)strtol(in.data + 9, NULL, 10) : 0;
    if (status != 101)
        return explain(a, to, &in, head, status, err);
    buf_add(&lines, in.data, head);
    if (websocket_accept(key, want) ||
        !net_header(&lines, "Sec-WebSocket-Accept", got, sizeof(got)) || strcmp(got, want) != 0)
        return err_set(err, ERR_UPSTREAM, "%s does not speak as a runner", to->url);
    buf_add(&a->early, in.data + head, in.len - head);
    return buf_check(&a->early, "the answer", err);
}

/* --- the loop ------------------------------------------------------------------------------ */

/* Does one turn. Returns 1 when the session is over. */
static int turn(struct attached *a, struct err *err)
{
    char typed[PIECE_BYTES];
    struct pollfd fds[] = {{.fd = net_wire_fd(a->wire), .events = POLLIN},
                           {.fd = a->live ? STDIN_FILENO : -1, .events = POLLIN}};
    if (resized) {
        resized = 0;
        if (send_size(a, err))
            return -1;
    }
    if (poll(fds, COUNT_OF(fds), 1000) < 0 && errno != EINTR)
        return err_sys(err, "waiting");
    if (ended)
        return 1;
    if (fds[1].revents) {
        ssize_t n = read(STDIN_FILENO, typed, sizeof(typed));
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return 1; /* This terminal is gone. */
        if (n > 0 && send_typed(a, typed, (size_t)n, err))
            return -1;
    }
    return a->left ? 1 : receive(a, err);
}

static int talk(struct attached *a, struct err *err)
{
    int rc = a->early.len > 0 && websocket_read(&a->reader, a->early.data, a->early.len, take, a)
                 ? err_set(err, ERR_UPSTREAM, "what the runner sends makes no sense")
                 : 0;
    if (rc == 0)
        rc = receive(a, err); /* TLS may hold back decrypted bytes. */
    while (rc == 0)
        rc = turn(a, err);
    return rc;
}

static void say_goodbye(struct attached *a)
{
    struct err ignored;
    unsigned char mask[WEBSOCKET_MASK_SIZE];
    AUTO(buf) struct buf frame = BUF_INIT(256);
    id_random(mask, sizeof(mask));
    websocket_add_close(&frame, WEBSOCKET_OK, "", mask);
    net_wire_write(a->wire, frame.data, frame.len, 1000, &ignored);
}

/* Puts this terminal into raw mode, and restores it at the end. */
static int talk_raw(struct attached *a, struct err *err)
{
    struct termios before, raw;
    const struct sigaction size = {.sa_handler = on_resize}, end = {.sa_handler = on_end};
    if (tcgetattr(STDIN_FILENO, &before))
        return err_sys(err, "terminal");
    raw = before;
    cfmakeraw(&raw);
    sigaction(SIGWINCH, &size, NULL);
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGHUP, &end, NULL);
    sigaction(SIGINT, &end, NULL);
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw))
        return err_sys(err, "terminal");
    int rc = talk(a, err);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    return rc;
}

static int result(const struct attached *a, const char *session, int rc, struct err *err)
{
    if (rc < 0)
        return err_wrap(err, "the terminal of '%.64s' goes on; attach again", session);
    if (a->left || ended) {
        fprintf(stderr, "\r\nleft the terminal of '%s', which goes on\n", session);
        return ended ? 128 + ended : 0;
    }
    if (a->lost)
        return err_set(err, ERR_BUSY, "session '%.64s' has ended its processes", session);
    return a->over ? a->exit_code
                   : err_set(err, ERR_UPSTREAM, "the runner has closed the terminal");
}

int attach_terminal(const struct settings *to, const char *session, const char *shell,
                    struct err *err)
{
    AUTO(net_wire) struct net_wire *wire = net_wire_open(to->url, CONNECT_MS, err);
    struct attached a = {.wire = wire};
    if (!wire)
        return -1;
    buf_init(&a.early, TEXT_MAX);
    websocket_reader_init(&a.reader, false, TEXT_MAX);
    int rc = shake_hands(&a, to, session, shell, err);
    if (rc == 0) {
        rc = talk_raw(&a, err);
        if (a.left || ended)
            say_goodbye(&a);
        rc = result(&a, session, rc, err);
    }
    websocket_reader_done(&a.reader);
    buf_done(&a.early);
    return rc;
}
