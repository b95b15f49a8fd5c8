#include "token_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORM                                                              \
    "{\"grant_type\":\"refresh_token\",\"refresh_token\":\"refresh-%d\"," \
    "\"client_id\":\"9d1c250a-e61b-44d9-88ed-5944d1962f5e\",\"scope\":\""

static void call(void (*function)(void *), void *arg)
{
    if (function)
        function(arg);
}

/* The serial of the refresh token in a well-formed request, or -1. */
static int serial_of(struct loopback_call *http, const char *body)
{
    int serial = -1;
    char type[64], want[256];
    if (strcmp(http->method, "POST") != 0 || strcmp(http->path, "/token") != 0 ||
        !loopback_header(http, "Content-Type", type, sizeof type) ||
        strcmp(type, "application/json") != 0)
        return -1;
    const char *at = strstr(body, "refresh-");
    if (!at || sscanf(at, "refresh-%d\"", &serial) != 1)
        return -1;
    snprintf(want, sizeof want, FORM, serial);
    return strncmp(body, want, strlen(want)) == 0 ? serial : -1;
}

static bool grant(struct token_server *server, struct loopback_call *http, int serial)
{
    char answer[512], refresh[64] = "";
    const char *expires_in = atomic_load(&server->expires_in);
    int next = serial + 1;
    if (!atomic_load(&server->keeps_refresh)) {
        atomic_store(&server->serial, next);
        snprintf(refresh, sizeof refresh, ",\"refresh_token\":\"refresh-%d\"", next);
    }
    atomic_fetch_add(&server->granted, 1);
    snprintf(answer, sizeof answer,
             "{\"token_type\":\"Bearer\",\"access_token\":\"access-%d\"%s%s}", next,
             expires_in ? expires_in : ",\"expires_in\":3600", refresh);
    call(atomic_load(&server->after), server->arg);
    bool sent = loopback_answer(http, 200, "Content-Type: application/json\r\n", answer);
    call(atomic_load(&server->sent), server->arg);
    return sent;
}

/* Waits as the script says. False when the client has gone. */
static bool ponder(struct token_server *server, struct loopback_call *http)
{
    if (atomic_load(&server->silent)) {
        loopback_await_close(http, 60000);
        return false;
    }
    call(atomic_load(&server->before), server->arg);
    return !loopback_await_close(http, atomic_load(&server->delay_ms));
}

static bool judge(struct token_server *server, struct loopback_call *http, const char *body)
{
    int serial = serial_of(http, body);
    int status = atomic_load(&server->status);
    bool there = ponder(server, http);
    atomic_fetch_sub(&server->at_once, 1); /* who has the answer may send the next */
    if (!there)
        return false;
    const char *other = atomic_load(&server->body);
    if (status)
        return loopback_answer(http, status, "", other ? other : "{}");
    if (serial < 0)
        return loopback_answer(http, 400, "", "{\"error\":\"invalid_request\"}");
    if (serial != atomic_load(&server->serial))
        return loopback_answer(http, 400, "", "{\"error\":\"invalid_grant\"}");
    return grant(server, http, serial);
}

static bool handle(struct loopback_call *http, void *arg)
{
    struct token_server *server = arg;
    int now = atomic_fetch_add(&server->at_once, 1) + 1;
    int most = atomic_load(&server->crowd);
    while (now > most && !atomic_compare_exchange_weak(&server->crowd, &most, now))
        continue;
    atomic_fetch_add(&server->asked, 1);
    char *body = loopback_body(http);
    bool go_on = judge(server, http, body);
    free(body);
    return go_on;
}

void token_server_start(struct token_server *server)
{
    memset(server, 0, sizeof *server);
    atomic_store(&server->serial, 1);
    server->http = loopback_start(handle, server);
    server->url = loopback_url(server->http, "/token");
}

void token_server_stop(struct token_server *server)
{
    loopback_stop(server->http);
    free(server->url);
}
