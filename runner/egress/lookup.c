/* Names: which are allowed, their substitute addresses, and their real addresses. */
#include "runner/egress/egress_private.h"

#include "base/clock.h"
#include "base/lock.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define STANDS_FOR 0xc6120000u /* 198.18.0.0/15, which is assigned to nobody */
#define FRESH_MS 30000

static void resolve(const char *host, struct found *ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *all = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &all);
    ret->count = 0;
    for (const struct addrinfo *at = all; rc == 0 && at; at = at->ai_next)
        if (ret->count < ADDRESSES_MAX && at->ai_addrlen <= sizeof(ret->at[0]))
            memcpy(&ret->at[ret->count++], at->ai_addr, at->ai_addrlen);
    if (all)
        freeaddrinfo(all);
    ret->code = ret->count > 0                         ? NAMES_OK
                : rc == EAI_NONAME || rc == EAI_NODATA ? NAMES_UNKNOWN
                                                       : NAMES_FAILED;
}

static void *look_up(void *arg)
{
    struct lookup *lookup = arg;
    struct egress_gate *gate = lookup->gate;
    resolve(lookup->host, &lookup->found);
    lock_take(&gate->lock);
    lookup->next = gate->done;
    gate->done = lookup;
    lock_drop(&gate->lock);
    gate_wake(gate);
    gate_unref(gate);
    return NULL;
}

/* Starts it on a thread of its own. False when that cannot be done. */
static bool start(struct egress_gate *gate, struct lookup *lookup)
{
    struct err ignored;
    gate_ref(gate);
    if (thread_start_detached("egress-name", THREAD_STACK_SMALL, look_up, lookup, &ignored)) {
        gate_unref(gate);
        return false;
    }
    gate->running[gate->lookups++] = lookup;
    return true;
}

/* True when the same name is being looked up. */
static bool is_running(const struct egress_gate *gate, const char *host)
{
    for (size_t i = 0; i < gate->lookups; i++)
        if (strcmp(gate->running[i]->host, host) == 0)
            return true;
    return false;
}

static void tell(struct egress_gate *gate, struct lookup *lookup, struct known *known);

void lookup_start(struct egress_gate *gate, struct lookup *lookup)
{
    const bool running = is_running(gate, lookup->host);
    lookup->gate = gate;
    lookup->serving = gate->serving;
    lookup->found.code = NAMES_FAILED;
    if (lookup->conn)
        lookup->conn->awaited = true;
    if (!running && gate->lookups < GATE_LOOKUPS_MAX) {
        if (!start(gate, lookup))
            tell(gate, lookup, NULL);
    } else if (gate->waiting_count == GATE_WAITING_MAX) {
        tell(gate, lookup, NULL);
    } else {
        gate->waiting_count++;
        *(gate->waiting ? &gate->waiting_last->next : &gate->waiting) = lookup;
        gate->waiting_last = lookup;
    }
}

struct known *lookup_find(struct egress_gate *gate, const char *host)
{
    for (size_t i = 0; i < gate->known_count; i++)
        if (strcmp(gate->known[i].host, host) == 0)
            return &gate->known[i];
    return NULL;
}

/* The entry of a name, which is made when it is new; NULL when there are too many. */
static struct known *know(struct egress_gate *gate, const char *host)
{
    struct known *found = lookup_find(gate, host);
    if (found || gate->known_count == GATE_NAMES_MAX)
        return found;
    if ((gate->known_count & (gate->known_count - 1)) == 0) { /* doubles the room */
        size_t room = gate->known_count ? 2 * gate->known_count : 1;
        struct known *all = realloc(gate->known, room * sizeof(*all));
        if (!all)
            return NULL;
        gate->known = all;
    }
    struct known *known = &gate->known[gate->known_count];
    *known = (struct known){.host = strdup(host)};
    gate->known_count += known->host != NULL;
    return known->host ? known : NULL;
}

struct known *lookup_known(struct egress_gate *gate, const struct in_addr *address)
{
    uint32_t index = ntohl(address->s_addr) - STANDS_FOR - 1;
    return index < gate->known_count ? &gate->known[index] : NULL;
}

/* --- questions ------------------------------------------------------------------------------ */

static void answer(struct egress_gate *gate, const struct lookup *lookup, enum dns_code code,
                   const void *address)
{
    unsigned char text[NAMES_MESSAGE_MAX];
    size_t len = dns_answer(&lookup->question, code, address, text);
    if (lookup->conn)
        way_answer(lookup->conn, text, len);
    else if (gate->sockets[1] >= 0 && lookup->serving == gate->serving)
        (void)!sendto(gate->sockets[1], text, len, MSG_DONTWAIT,
                      (const struct sockaddr *)&lookup->client, sizeof(lookup->client));
}

static void answer_found(struct egress_gate *gate, struct lookup *lookup, struct known *known)
{
    struct in_addr address;
    if (!known) {
        answer(gate, lookup, NAMES_FAILED, NULL);
        return;
    }
    address.s_addr = htonl(STANDS_FOR + 1 + (uint32_t)(known - gate->known));
    answer(gate, lookup, NAMES_OK, &address);
}

/* Answers the connection or question that waits for the lookup, and frees it. */
static void tell(struct egress_gate *gate, struct lookup *lookup, struct known *known)
{
    struct conn *conn = lookup->conn;
    if (conn)
        conn->awaited = false;
    if (conn && conn->state == CONN_CLOSED) {
        ; /* The gate frees it in its next round. */
    } else if (lookup->asks && lookup->found.code == NAMES_OK) {
        answer_found(gate, lookup, known);
    } else if (lookup->asks) {
        answer(gate, lookup, lookup->found.code, NULL);
    } else if (conn) {
        conn->found = lookup->found;
        way_resolved(conn);
    }
    free(lookup);
}

/* Takes the first lookup that waits for this name; of any name when `host` is NULL. */
static struct lookup *take_waiting(struct egress_gate *gate, const char *host)
{
    struct lookup *before = NULL, *lookup = gate->waiting;
    while (lookup && host && strcmp(lookup->host, host) != 0) {
        before = lookup;
        lookup = lookup->next;
    }
    if (!lookup)
        return NULL;
    *(before ? &before->next : &gate->waiting) = lookup->next;
    if (gate->waiting_last == lookup)
        gate->waiting_last = before;
    lookup->next = NULL;
    gate->waiting_count--;
    return lookup;
}

/* True when nobody is there any more to hear of it. */
static bool is_idle(const struct egress_gate *gate, const struct lookup *lookup)
{
    return lookup->conn ? lookup->conn->state == CONN_CLOSED : lookup->serving != gate->serving;
}

/* Starts those that wait, as far as there is room. */
static void start_waiting(struct egress_gate *gate)
{
    struct lookup *lookup;
    while (gate->lookups < GATE_LOOKUPS_MAX && (lookup = take_waiting(gate, NULL)))
        if (is_idle(gate, lookup) || !start(gate, lookup))
            tell(gate, lookup, NULL);
}

void lookup_finish(struct egress_gate *gate, struct lookup *lookup)
{
    const struct found found = lookup->found;
    struct known *known = found.code == NAMES_OK ? know(gate, lookup->host) : NULL;
    char host[NAMES_HOST_SIZE];
    size_t i = 0;
    memcpy(host, lookup->host, sizeof(host));
    while (gate->running[i] != lookup)
        i++;
    gate->running[i] = gate->running[--gate->lookups];
    if (known) {
        known->found = found;
        known->until_ms = clock_mono_ms() + FRESH_MS;
    }
    do {
        lookup->found = found;
        tell(gate, lookup, known);
    } while ((lookup = take_waiting(gate, host)));
    start_waiting(gate);
}

void lookup_forget_waiting(struct egress_gate *gate)
{
    for (struct lookup *lookup; (lookup = take_waiting(gate, NULL));)
        free(lookup);
}

bool lookup_is_localhost(const char *host)
{
    size_t len = strlen(host);
    return strcmp(host, "localhost") == 0 ||
           (len > 10 && strcmp(host + len - 10, ".localhost") == 0);
}

void lookup_question(struct egress_gate *gate, const void *data, size_t len, struct conn *conn,
                     const struct sockaddr_in *client)
{
    struct in_addr own = {.s_addr = htonl(INADDR_LOOPBACK)};
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (!lookup || dns_read(data, len, &lookup->question)) {
        free(lookup);
        if (conn)
            way_close(conn, true);
        return;
    }
    const char *host = lookup->question.host;
    memcpy(lookup->host, host, sizeof(lookup->host));
    lookup->conn = conn;
    lookup->client = client ? *client : (struct sockaddr_in){0};
    lookup->asks = true;
    lookup->serving = gate->serving;
    bool allowed = egress_allows_name(&gate->egress, host, 0), direct = true;
    if (lookup_is_localhost(host))
        answer(gate, lookup, NAMES_OK, lookup->question.type == NAMES_A ? &own : NULL);
    else if (!allowed)
        answer(gate, lookup, NAMES_UNKNOWN, NULL);
    else if (lookup->question.type != NAMES_A)
        answer(gate, lookup, NAMES_OK, NULL);
    else
        direct = false;
    if (!allowed && !lookup_is_localhost(host) && lookup->question.type == NAMES_A)
        gate_deny(gate, host, 0, "its name is not in the task's egress", DENIED_NAME);
    if (direct)
        free(lookup);
    else
        lookup_start(gate, lookup);
}
