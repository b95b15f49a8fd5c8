/*
 * `claude-runner login`: a login from a terminal, through the runner's API. The code is read
 * without echo; ctrl-C cancels the login before it ends the program.
 */
#include "base/auto.h"
#include "base/clock.h"
#include "runner/client/client.h"
#include "runner/client/commands.h"
#include "runner/client/phone_link.h"
#include "runner/client/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOOK_EVERY_MS 500
#define LOOK_FOR_MS 900000 /* The runner ends a login long before. */
#define CODE_MAX 2048

/* --- the login ----------------------------------------------------------------------------- */

struct login_state {
    const struct settings *to;
    char path[128]; /* path of this login; "" before it has begun */
    char state[24];
    char url[2048];
    char reason[240];
};

static int take_state(struct login_state *login, struct json *root, struct err *err)
{
    AUTO(json) struct json *owned = root;
    const char *id = json_text(json_get(owned, "loginId"));
    const char *state = json_text(json_get(owned, "state"));
    const char *url = json_text(json_get(owned, "url"));
    const char *reason = json_text(json_get(owned, "error"));
    if (!owned)
        return -1;
    if (!id || !state)
        return err_set(err, ERR_UPSTREAM, "that is no runner of this version");
    snprintf(login->path, sizeof(login->path), "/oauth/login/%.64s", id);
    snprintf(login->state, sizeof(login->state), "%s", state);
    snprintf(login->url, sizeof(login->url), "%s", url ? url : "");
    snprintf(login->reason, sizeof(login->reason), "%s", reason ? reason : "");
    return 0;
}

static bool is_state(const struct login_state *login, const char *state)
{
    return strcmp(login->state, state) == 0;
}

/* Waits until the runner has news. */
static int await_news(struct login_state *login, struct err *err)
{
    int64_t deadline = clock_mono_ms() + LOOK_FOR_MS;
    while (is_state(login, "starting") || is_state(login, "verifying")) {
        if (client_signals || clock_mono_ms() > deadline)
            return err_set(err, ERR_TIMEOUT, "given up");
        poll(NULL, 0, LOOK_EVERY_MS);
        if (take_state(login, client_call(login->to, "GET", login->path, NULL, err), err))
            return -1;
    }
    return 0;
}

static int send_code(struct login_state *login, const char *code, struct err *err)
{
    struct json_writer w;
    AUTO(buf_wipe) struct buf body = BUF_INIT(16384);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_add_text(&w, "code", code);
    json_close(&w);
    if (take_state(login, client_call(login->to, "POST", login->path, buf_str(&body), err), err))
        return -1;
    return await_news(login, err);
}

/* Asks for codes until the login has ended. After a malformed code it asks again. */
static int ask(struct login_state *login, struct err *err)
{
    char code[CODE_MAX];
    while (is_state(login, "awaiting_code")) {
        if (login->reason[0])
            fprintf(stderr, "%s\n", login->reason);
        fputs("Code: ", stderr);
        if (terminal_read_line(code, sizeof(code), true, &client_signals))
            return err_set(err, ERR_INVALID, "no code was given; the login is cancelled");
        int rc = send_code(login, code, err);
        explicit_bzero(code, sizeof(code));
        if (rc && err->code != ERR_INVALID)
            return -1;
        if (rc)
            snprintf(login->reason, sizeof(login->reason), "%s", err->msg);
    }
    return 0;
}

static int run(struct login_state *login, struct err *err)
{
    if (take_state(login, client_call(login->to, "POST", "/oauth/login", NULL, err), err) ||
        await_news(login, err))
        return -1;
    if (is_state(login, "awaiting_code")) {
        printf("Open this address in a browser, anywhere, and sign in:\n\n%s\n\n", login->url);
        fflush(stdout);
    }
    if (ask(login, err))
        return -1;
    if (is_state(login, "succeeded"))
        return 0;
    return err_set(err, ERR_LOGIN, "the login %s%s%s",
                   is_state(login, "failed")      ? "failed"
                   : is_state(login, "cancelled") ? "was cancelled"
                                                  : "took too long",
                   login->reason[0] ? ": " : "", login->reason);
}

/* Cancels the login: nobody is left to enter a code. */
static void take_back(struct login_state *login)
{
    struct err ignored;
    AUTO(json) struct json *answer = NULL;
    if (login->path[0])
        answer = client_call(login->to, "DELETE", login->path, NULL, &ignored);
}

/* Offers a link for a phone that can reach the runner. A runner without links is no failure. */
static void offer_link(const struct settings *to, const char *public)
{
    struct err err;
    if (!isatty(STDOUT_FILENO) || !phone_link_leads_here(public ? public : to->url))
        return;
    if (phone_link_print(to, public, &err) && err.code != ERR_NOT_FOUND)
        fprintf(stderr, "no link for a phone: %s\n", err.msg);
}

int client_login(struct call *call, struct err *err)
{
    struct login_state login = {.to = &call->to};
    const char *public = options_value(&call->given, "public");
    if (settings_find(&call->to, &call->given, err))
        return -1;
    if (options_value(&call->given, "console"))
        return phone_link_print(&call->to, public, err);
    offer_link(&call->to, public);
    client_catch_signals();
    if (run(&login, err)) {
        take_back(&login);
        return -1;
    }
    puts("Logged in.");
    return 0;
}
