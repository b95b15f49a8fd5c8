/*
 * `claude-runner doctor [--public URL]`: tests the whole way to a runner from outside: its name,
 * the tunnel, Cloudflare Access, the secret, whether events arrive as they happen, and whether a
 * connection survives 100 s without an answer; then prints what the runner reports about itself.
 */
#include "runner/client/doctor.h"
#include "base/auto.h"
#include "base/clock.h"
#include "base/form.h"
#include "net/net.h"
#include "runner/client/commands.h"
#include "runner/client/follow.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#define SILENT_S 105

bool doctor_say(struct doctor *doctor, bool fine, const char *what, const char *found,
                const char *hint)
{
    printf("%s %-9s %s\n", fine ? "ok  " : "FAIL", what, found);
    if (!fine && hint)
        printf("               %s\n", hint);
    fflush(stdout);
    doctor->failed += !fine;
    return fine;
}

/* The host of the URL, without its port. */
static void host_of(const char *url, char *host, size_t size)
{
    const char *start = strstr(url, "://");
    start = start ? start + 3 : url;
    size_t len = *start == '[' ? strcspn(++start, "]") : strcspn(start, ":/");
    snprintf(host, size, "%.*s", (int)len, start);
}

/* Nothing is on the way to a runner on this machine, unless its public address is asked for. */
static bool is_here(const struct settings *to, const char *public)
{
    struct form_url form;
    return !public && !to->access_id && form_url(to->url, &form) == 0 && form.loopback;
}

static bool check_name(struct doctor *doctor)
{
    char host[256], text[INET6_ADDRSTRLEN] = "", found[400];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    host_of(doctor->to->url, host, sizeof(host));
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc) {
        snprintf(found, sizeof(found), "%s: %s", host, gai_strerror(rc));
        return doctor_say(doctor, false, "name", found,
                          "point the name at the tunnel: cloudflared tunnel route dns TUNNEL NAME");
    }
    getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(list);
    snprintf(found, sizeof(found), "%s is %s", host, text);
    return doctor_say(doctor, true, "name", found, NULL);
}

/* Makes a GET with these header lines. Returns 0, or -1 after reporting that nobody answers. */
static int ask(struct doctor *doctor, const char *what, const char *path,
               const struct strlist *headers, struct net_answer *answer)
{
    struct err err;
    AUTO(str) char *url = NULL;
    if (asprintf(&url, "%s%s", doctor->to->url, path) < 0)
        return -1;
    const struct net_request request = {.method = "GET",
                                        .url = url,
                                        .headers = headers,
                                        .reach = NET_PLAIN,
                                        .answer_max = 1u << 20};
    if (net_call(&request, answer, &err) == 0)
        return 0;
    doctor_say(doctor, false, what, err.msg,
               doctor->here ? "does it run? `systemctl status claude-runner`; "
                              "`claude-runner serve --check` looks at its settings"
                            : "is the address right, and its certificate?");
    return -1;
}

static const char *hint_of(int status)
{
    switch (status) {
    case 530:
        return "the tunnel is not connected: is cloudflared running, with this tunnel's "
               "credentials?";
    case 502:
        return "cloudflared runs and finds no runner: is `service:` right, and the runner up?";
    case 404:
        return "cloudflared has no rule for this host name: see `ingress:`";
    case 524:
        return "the runner took more than 100 s to answer";
    default:
        return "this is not a runner's answer";
    }
}

/* True for Access's answer to strangers: a redirect to its login, or 403. */
static bool is_access(const struct net_answer *answer)
{
    char value[1024];
    return answer->status == 302 &&
           net_header(&answer->head, "Location", value, sizeof(value)) != NULL &&
           strstr(value, "cloudflareaccess.com") != NULL;
}

static bool check_way(struct doctor *doctor, const struct strlist *headers)
{
    char found[160];
    AUTO(net_answer) struct net_answer stranger = {0};
    AUTO(net_answer) struct net_answer known = {0};
    if (ask(doctor, "tunnel", "/healthz", NULL, &stranger))
        return false;
    bool access = is_access(&stranger) || stranger.status == 403;
    if (!access) {
        snprintf(found, sizeof(found), "/healthz answers %d", stranger.status);
        if (doctor->here)
            return doctor_say(doctor, stranger.status == 200, "runner", found, NULL);
        if (!doctor_say(doctor, stranger.status == 200, "tunnel", found, hint_of(stranger.status)))
            return false;
        return doctor_say(doctor, true, "access",
                          "none is in front: the secret is the only lock (cloudflared/README.md)",
                          NULL);
    }
    doctor_say(doctor, true, "access", "asks strangers for a login", NULL);
    if (ask(doctor, "access", "/healthz", headers, &known))
        return false;
    if (is_access(&known) || known.status == 403)
        return doctor_say(doctor, false, "access", "does not take the service token",
                          doctor->to->access_id ? "is it in a policy of the kind Service Auth?"
                                                : "none is configured: access_client_id");
    snprintf(found, sizeof(found), "/healthz answers %d", known.status);
    return doctor_say(doctor, known.status == 200, "tunnel", found, hint_of(known.status));
}

static bool check_secret(struct doctor *doctor, const struct strlist *headers)
{
    char found[160];
    AUTO(net_answer) struct net_answer answer = {0};
    if (ask(doctor, "secret", "/tasks?limit=1", headers, &answer))
        return false;
    snprintf(found, sizeof(found), "/tasks answers %d", answer.status);
    return doctor_say(doctor, answer.status == 200, "secret", found,
                      answer.status == 403
                          ? "wrong, or CF_ACCESS_AUD is not this application's; its log says which"
                          : hint_of(answer.status));
}

/* When the first and the last output of a command arrived. */
struct heard {
    int64_t first_ms, last_ms;
    bool ended;
};

static void on_event(const char *id, const char *name, const char *data, size_t len, void *arg)
{
    struct heard *heard = arg;
    (void)id, (void)data, (void)len;
    if (strcmp(name, "done") == 0)
        heard->ended = true;
    if (strcmp(name, "stdout") != 0)
        return;
    heard->last_ms = clock_mono_ms();
    if (!heard->first_ms)
        heard->first_ms = heard->last_ms;
}

static int listen_to(struct doctor *doctor, const char *body, struct heard *heard, struct err *err)
{
    AUTO(follow) struct follow follow;
    follower_init(&follow, doctor->to, on_event, heard);
    follow.path = "/exec";
    follow.body = body;
    return follower_run(&follow, err);
}

/* The second time with a longer pause: a machine that stood still for a moment holds back nothing.
 */
static bool check_flow(struct doctor *doctor)
{
    static const int pauses_s[] = {3, 9};
    char found[300], body[80];
    bool fine = false;
    for (size_t i = 0; i < COUNT_OF(pauses_s) && !fine; i++) {
        struct err err;
        struct heard heard = {0};
        snprintf(body, sizeof(body), "{\"command\":\"echo one; sleep %d; echo two\"}", pauses_s[i]);
        if (listen_to(doctor, body, &heard, &err))
            return doctor_say(doctor, false, "events", err.msg,
                              "a command on the runner did not run");
        int64_t apart = heard.last_ms - heard.first_ms;
        snprintf(found, sizeof(found), "two outputs %d s apart came %.1f s apart", pauses_s[i],
                 (double)apart / 1000);
        fine = heard.ended && apart > pauses_s[i] * 1000 / 3;
    }
    return doctor_say(doctor, fine, "events", found,
                      "something on the way holds answers back until they are whole");
}

static bool check_silence(struct doctor *doctor)
{
    struct err err;
    struct heard heard = {0};
    char found[300], body[80];
    int64_t began = clock_mono_ms();
    snprintf(body, sizeof(body), "{\"command\":\"sleep %d; echo one\"}", SILENT_S);
    printf("     … a command that says nothing for %d s (--quick leaves this out)\n", SILENT_S);
    fflush(stdout);
    if (listen_to(doctor, body, &heard, &err))
        return doctor_say(doctor, false, "silence", err.msg, NULL);
    snprintf(found, sizeof(found), "the answer came after %lld s",
             (long long)((clock_mono_ms() - began) / 1000));
    return doctor_say(doctor, heard.ended && heard.first_ms, "silence", found,
                      "something on the way ends quiet connections");
}

int client_doctor(struct call *call, struct err *err)
{
    const char *address = options_value(&call->given, "public");
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    struct doctor doctor = {.to = &call->to};
    if (address && (strlist_add(&call->given, "url") || strlist_add(&call->given, address)))
        return err_set(err, ERR_INTERNAL, "out of memory");
    if (settings_find(&call->to, &call->given, err) ||
        client_headers(&call->to, "*/*", &headers, err))
        return -1;
    doctor.here = is_here(&call->to, address);
    bool through = (doctor.here || check_name(&doctor)) && check_way(&doctor, &headers) &&
                   check_secret(&doctor, &headers);
    if (through && check_flow(&doctor) && !doctor.here && !options_value(&call->given, "quick"))
        check_silence(&doctor);
    if (through)
        doctor_examine(&doctor);
    return doctor.failed ? 1 : 0;
}
