/*
 * A session's terminal: the handshake, valid and invalid frames, the pty behind them, several
 * viewers, reconnection, and the end.
 */
#include "session.h"
#include "socket.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct runner *shared;

static struct runner *get(void)
{
    static const char *const settings[] = {"SESSIONS_MAX", "10", NULL};
    return runner_shared(&shared, settings);
}

static int start(void **state)
{
    (void)state;
    session_make(get(), "t");
    return 0;
}

/* Opens a terminal by that query, and reads its first output. */
static struct socket *look(const char *query)
{
    char *path = textf("/sessions/t/terminal?%s", query);
    struct socket *socket = socket_open(get()->base, path, RUNNER_AUTH);
    free(path);
    assert_int_equal(socket->status, 101);
    socket_until_said(socket, "\"live\"");
    return socket;
}

static void leave(struct socket *socket, int code)
{
    socket_say(socket, "{\"end\":true}");
    assert_int_equal(socket_until_closed(socket), code);
    socket_free(socket);
}

static void a_shell_is_typed_into_and_tells_its_end(void **state)
{
    (void)state;
    done_free(session_run(get(), "t",
                          "mkdir -p d && cd d && export A=from-the-shell; f() { echo f-$1; }", ""));
    struct socket *socket = look("cols=99&rows=31");
    assert_non_null(strstr(socket->head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_non_null(
        strstr(socket->text, "\"type\":\"open\",\"session\":\"t\",\"shell\":\"default\""));
    assert_non_null(strstr(socket->text, "\"cols\":99,\"rows\":31,\"fresh\":true,\"replay\":"));
    socket_type(socket, "stty size; echo $A; f 1; pwd; tty; echo $TERM\r");
    socket_until(socket, "\r\n31 99\r\nfrom-the-shell\r\nf-1\r\n/workspace/d\r\n/dev/pts/");
    socket_until(socket, "\r\nxterm-256color\r\n");
    socket_say(socket, "{\"resize\":{\"cols\":120,\"rows\":40}}");
    socket_type(socket, "stty size\r");
    socket_until(socket, "\r\n40 120\r\n");
    socket_say(socket, "{\"input\":\"exit 7\\r\"}");
    assert_int_equal(socket_until_closed(socket), 1000);
    assert_non_null(strstr(socket->text, "{\"type\":\"exit\",\"exitCode\":7,\"lost\":false}"));
    socket_free(socket);
    done_free(session_run(get(), "t", "cd /workspace", ""));
}

static void keys_reach_what_runs(void **state)
{
    (void)state;
    struct socket *socket = look("shell=keys");
    socket_type(socket, "bash -c 'trap \"echo got; exit 9\" INT; echo up-$((1+1)); "
                        "while :; do sleep .05; done'\r");
    socket_until(socket, "\r\nup-2\r\n");
    socket_type(socket, "\003");
    socket_until(socket, "got\r\n");
    socket_type(socket, "echo code-$?\r");
    socket_until(socket, "\r\ncode-9\r\n");
    socket_type(socket, "echo up-$((1+2)); cat >typed.bin; echo over\r");
    socket_until(socket, "\r\nup-3\r\n");
    socket_type(socket, "a\xff\xc3z\r\004");
    socket_until(socket, "\r\nover\r\n");
    struct done *done = session_run(get(), "t", "od -An -tx1 typed.bin", "");
    assert_non_null(strstr(done->out, "61 ff c3 7a 0a"));
    done_free(done);
    leave(socket, 1000);
}

static void frames_may_be_cut_anywhere(void **state)
{
    (void)state;
    struct socket *socket = look("shell=cut");
    for (size_t step = 1; step <= 3; step++) {
        char *command = textf("echo cut-%zu-$((6*7))\r", step),
             *want = textf("\r\ncut-%zu-42\r\n", step);
        size_t half = strlen(command) / 2;
        assert_true(socket_send(socket, 2, false, command, half, step));
        assert_true(socket_send(socket, 9, true, "hey", 3, step)); /* a ping between the pieces of a
                                                                    * message */
        assert_true(socket_send(socket, 0, false, "", 0, step));
        assert_true(socket_send(socket, 0, true, command + half, strlen(command) - half, step));
        socket_until(socket, want);
        free(command);
        free(want);
    }
    EVENTUALLY(20000, (socket_read(socket, 50) || true) && socket->pongs > 0);
    assert_true(socket_send(socket, 1, false, "{\"resize\":{\"co", 14, 1));
    assert_true(socket_send(socket, 0, true, "ls\":77,\"rows\":22}}", 18, 2));
    socket_type(socket, "stty size\r");
    socket_until(socket, "\r\n22 77\r\n");
    assert_true(socket_send(socket, 8, true,
                            "\x0f\xa0"
                            "bye",
                            5, 1)); /* 4,000 bytes */
    assert_int_equal(socket_until_closed(socket), 4000);
    socket_free(socket);
}

static void what_is_wrong_is_closed_with_its_code(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        int code;
    } cases[] = {
        {"\x82\x01x", 3, 1002},                           /* not masked */
        {"\xc2\x80\0\0\0\0", 6, 1002},                    /* a reserved bit */
        {"\x83\x80\0\0\0\0", 6, 1002},                    /* an unknown kind */
        {"\x80\x80\0\0\0\0", 6, 1002},                    /* a continuation of no message */
        {"\x09\x80\0\0\0\0", 6, 1002},                    /* a ping in pieces */
        {"\x89\xfe\0\x7e\0\0\0\0", 8, 1002},              /* a ping that is too long */
        {"\x82\xff\xff\0\0\0\0\0\0\0\0\0\0\0", 14, 1002}, /* 2^63 and more */
        {"\x81\x82\0\0\0\0\xc3\x28", 8, 1007},            /* no UTF-8 */
        {"\x81\xff\0\0\0\0\0\x02\0\0\0\0\0\0", 14, 1009}, /* a text of 128 KiB */
        {"\x88\x82\0\0\0\0\x03\xed", 8, 1002},            /* a peer must not send 1005 */
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct socket *socket = look("shell=wrong");
        socket_raw(socket, cases[i].bytes, cases[i].size);
        int code = socket_until_closed(socket);
        if (code != cases[i].code)
            fail_msg("case %zu: closed with %d", i, code);
        socket_free(socket);
    }
    static const char *const texts[] = {"x",
                                        "[]",
                                        "{\"resize\":{}}",
                                        "{\"resize\":{\"cols\":0,\"rows\":1}}",
                                        "{\"resize\":{\"cols\":80,\"rows\":1001}}",
                                        "{\"input\":1}",
                                        "{\"what\":1}",
                                        "{\"end\":\"yes\"}"};
    struct socket *socket = look("shell=wrong");
    for (size_t i = 0; i < COUNT(texts); i++) {
        socket_say(socket, texts[i]);
        EVENTUALLY(20000, (socket_read(socket, 50) || true) &&
                              text_count(socket->text, "\"type\":\"error\"") == i + 1);
    }
    leave(socket, 1000); /* the errors have not ended the terminal */
}

static void handshakes_are_checked(void **state)
{
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         426},
        {"", 426},
        {"Connection: Upgrade\r\nUpgrade: h2c\r\n", 426},
        {"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", 400},
        {"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: short\r\n",
         400},
        {"Connection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         400},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char version[16] = "", *headers = textf(RUNNER_AUTH "%s", cases[i].headers);
        struct reply *reply = http_call(get()->base, "GET", "/sessions/t/terminal", headers, NULL);
        assert_problem(reply, cases[i].status, NULL);
        bool told = reply_header(reply, "Sec-WebSocket-Version", version, sizeof(version));
        assert_int_equal(told, cases[i].status == 426);
        reply_free(reply);
        free(headers);
    }
    static const struct {
        const char *path, *headers;
        int status;
    } others[] = {
        {"/sessions/t/terminal", "", 403},
        {"/sessions/t/terminal", "X-Runner-Secret: wrong-secret-0123456789\r\n", 403},
        {"/sessions/none/terminal", RUNNER_AUTH, 404},
        {"/sessions/t/terminal?cols=0", RUNNER_AUTH, 400},
        {"/sessions/t/terminal?rows=x", RUNNER_AUTH, 400},
        {"/sessions/t/terminal?what=x", RUNNER_AUTH, 400},
        {"/sessions/t/terminal?shell=../x", RUNNER_AUTH, 400},
        {"/sessions/t/terminal?shell=other", RUNNER_AUTH "Origin: http://elsewhere.example\r\n",
         101},
    };
    for (size_t i = 0; i < COUNT(others); i++) {
        struct socket *socket = socket_open(get()->base, others[i].path, others[i].headers);
        if (socket->status != others[i].status)
            fail_msg("case %zu: %d", i, socket->status);
        if (socket->status == 101)
            leave(socket, 1000);
        else
            socket_free(socket);
    }
}

/* Signs in at the console. Returns its cookie as a header line. */
static char *cookie(void)
{
    char value[512] = "";
    struct reply *reply =
        http_call(get()->base, "POST", "/console/session", "Content-Type: application/json\r\n",
                  "{\"secret\":\"" RUNNER_SECRET "\"}");
    assert_status(reply, 201);
    assert_true(reply_header(reply, "Set-Cookie", value, sizeof(value)));
    reply_free(reply);
    value[strcspn(value, ";")] = '\0';
    return textf("Cookie: %s\r\n", value);
}

static void a_page_of_another_site_gets_none(void **state)
{
    (void)state;
    char *session = cookie();
    const struct {
        char *headers;
        int status;
    } cases[] = {
        {textf("%sOrigin: %s\r\n", session, get()->base), 101},
        {textf("%sOrigin: http://elsewhere.example\r\n", session), 403},
        {textf("%sOrigin: null\r\n", session), 403},
        {textf("%sOrigin: %s.example\r\n", session, get()->base), 403},
        {textf("%sOrigin: %s\r\nSec-Fetch-Site: cross-site\r\n", session, get()->base), 403},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct socket *socket =
            socket_open(get()->base, "/sessions/t/terminal?shell=page", cases[i].headers);
        if (socket->status != cases[i].status)
            fail_msg("%s: %d", cases[i].headers, socket->status);
        if (socket->status == 101)
            leave(socket, 1000);
        else
            socket_free(socket);
        free(cases[i].headers);
    }
    free(session);
}

static bool session_shows(const char *text)
{
    struct reply *reply = runner_get(get(), "/sessions/t");
    bool shows = strstr(reply->body, text) != NULL;
    reply_free(reply);
    return shows;
}

static void who_comes_back_sees_the_last_screen(void **state)
{
    (void)state;
    struct socket *first = look("shell=back&cols=70&rows=20");
    socket_type(first, "N=kept; echo mark-$((40+2))\r");
    socket_until(first, "\r\nmark-42\r\n");
    socket_free(first); /* the connection is cut, not closed */
    struct socket *again = look("shell=back");
    assert_non_null(strstr(again->text, "\"cols\":70,\"rows\":20,\"fresh\":false"));
    socket_until(again, "\r\nmark-42\r\n");
    struct socket *other = look("shell=back");
    socket_type(other, "echo $N-$((1+1))\r");
    socket_until(again, "\r\nkept-2\r\n");
    socket_until(other, "\r\nkept-2\r\n");
    socket_say(other, "{\"resize\":{\"cols\":90,\"rows\":25}}");
    socket_until_said(again, "{\"type\":\"resize\",\"cols\":90,\"rows\":25}");
    EVENTUALLY(20000, session_shows("\"terminals\":[{\"shell\":\"back\"") &&
                          session_shows("\"viewers\":2")); /* the first one's end is noticed */
    socket_type(other, "exit\r");
    assert_int_equal(socket_until_closed(again), 1000);
    assert_int_equal(socket_until_closed(other), 1000);
    socket_free(again);
    socket_free(other);
    struct socket *fresh = look("shell=back");
    assert_non_null(strstr(fresh->text, "\"fresh\":true"));
    leave(fresh, 1000);
}

/* Checks that the lines "line N" of the output follow each other. Returns the last number. */
static long last_line(const struct socket *socket)
{
    char want[32] = "\nline 1\r";
    const char *at = strstr(socket->binary, want);
    long line = 0;
    while (at && strncmp(at, want, strlen(want)) == 0) {
        at += strlen(want);
        line++;
        snprintf(want, sizeof(want), "\nline %ld\r", line + 1);
    }
    return line;
}

static void one_that_looks_alone_misses_nothing(void **state)
{
    (void)state;
    struct socket *socket = look("shell=much");
    socket_type(socket, "seq -f 'line %.0f' 200000; echo all-$((1+1))\r"); /* 2 MB, far more than
                                                                            * the runner keeps */
    socket_until(socket, "echo all-");
    poll_pause(); /* meanwhile nobody reads, so the program must wait */
    socket_until(socket, "\r\nall-2\r\n");
    assert_int_equal(last_line(socket), 200000);
    assert_null(strstr(socket->text, "skipped"));
    leave(socket, 1000);
}

static void much_that_is_typed_arrives_whole(void **state)
{
    enum { SIZE = 1000000 };
    (void)state;
    struct socket *socket = look("shell=paste");
    socket_type(socket,
                "stty raw -echo; echo ready-$((1+1)); head -c 1000000 | sha256sum >sum; stty sane; "
                "echo done-$((2+1))\r");
    socket_until(socket, "ready-2");
    char *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 31 >> 3);
    assert_true(socket_send(socket, 2, true, bytes, SIZE, 100000));
    socket_until(socket, "done-3");
    struct reply *reply = session_send(get(), "PUT", "/sessions/t/files/same", bytes, SIZE);
    reply_free(reply);
    struct done *done = session_run(get(), "t", "sha256sum <same | cmp - sum && echo equal", "");
    assert_string_equal(done->out, "equal\n");
    done_free(done);
    free(bytes);
    leave(socket, 1000);
}

static void the_session_s_end_is_told(void **state)
{
    (void)state;
    session_make(get(), "gone");
    struct socket *socket = socket_open(get()->base, "/sessions/gone/terminal", RUNNER_AUTH);
    assert_int_equal(socket->status, 101);
    socket_until(socket, "$ ");
    struct reply *reply = runner_delete(get(), "/sessions/gone");
    assert_status(reply, 200);
    reply_free(reply);
    assert_int_equal(socket_until_closed(socket), 1001);
    assert_non_null(strstr(socket->text, "{\"type\":\"exit\",\"exitCode\":null,\"lost\":true}"));
    socket_free(socket);
}

static void there_are_so_many_and_no_more(void **state)
{
    struct socket *sockets[16];
    (void)state;
    session_make(get(), "many");
    for (size_t i = 0; i < COUNT(sockets); i++) {
        char *path = textf("/sessions/many/terminal?shell=s%zu", i);
        sockets[i] = socket_open(get()->base, path, RUNNER_AUTH);
        assert_int_equal(sockets[i]->status, 101);
        free(path);
    }
    struct socket *more =
        socket_open(get()->base, "/sessions/many/terminal?shell=more", RUNNER_AUTH);
    assert_int_equal(more->status, 429);
    socket_free(more);
    for (size_t i = 0; i < COUNT(sockets); i++)
        leave(sockets[i], 1000);
    EVENTUALLY(20000,
               (more = socket_open(get()->base, "/sessions/many/terminal?shell=more", RUNNER_AUTH))
                           ->status == 101 ||
                   (socket_free(more), false));
    leave(more, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shell_is_typed_into_and_tells_its_end),
        cmocka_unit_test(keys_reach_what_runs),
        cmocka_unit_test(frames_may_be_cut_anywhere),
        cmocka_unit_test(what_is_wrong_is_closed_with_its_code),
        cmocka_unit_test(handshakes_are_checked),
        cmocka_unit_test(a_page_of_another_site_gets_none),
        cmocka_unit_test(who_comes_back_sees_the_last_screen),
        cmocka_unit_test(one_that_looks_alone_misses_nothing),
        cmocka_unit_test(much_that_is_typed_arrives_whole),
        cmocka_unit_test(the_session_s_end_is_told),
        cmocka_unit_test(there_are_so_many_and_no_more),
    };
    return cmocka_run_group_tests_name("session_terminal", tests, start, shared_stop);
}
