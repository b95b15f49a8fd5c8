/* A network of its own behind a gate: every connection of the program arrives at one listener, or
 * those that it makes to it as to a proxy. And a fence round link-local addresses in the network
 * that we are in. */
#include "jail/jail_private.h"

#include "base/check.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define OWN_ADDRESS "192.0.2.2"
#define GATE_PORT 53 /* a port that no program in the jail may bind */
#define GATE_BACKLOG 512
#define TABLE "gate"
#define FENCE_TABLE "claude-runner"
#define CHAIN "out"
#define PRIORITY (-100) /* NAT of destinations */

static void set_address(struct sockaddr *to, const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    inet_pton(AF_INET, text, &in.sin_addr);
    memcpy(to, &in, sizeof(in));
}

/* Gives loopback one more address, by a label of its own. */
static int add_address(int fd, const char *label, const char *address, struct err *err)
{
    struct ifreq own = {.ifr_flags = 0};
    snprintf(own.ifr_name, sizeof(own.ifr_name), "%s", label);
    set_address(&own.ifr_addr, address);
    if (ioctl(fd, SIOCSIFADDR, &own))
        return jail_fail(err, "the network's address");
    set_address(&own.ifr_netmask, "255.255.255.255");
    return ioctl(fd, SIOCSIFNETMASK, &own) ? jail_fail(err, "the network's mask") : 0;
}

/* Brings up loopback with a second address, without which programs would take the network for
 * absent. */
static int raise_loopback(int fd, struct err *err)
{
    struct ifreq up = {.ifr_name = "lo"};
    up.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &up))
        return jail_fail(err, "loopback");
    return add_address(fd, "lo:0", OWN_ADDRESS, err);
}

/* Routes everything to loopback. */
static int route_all(int fd, struct err *err)
{
    char lo[] = "lo";
    struct rtentry route = {.rt_flags = RTF_UP, .rt_dev = lo};
    set_address(&route.rt_dst, "0.0.0.0");
    set_address(&route.rt_genmask, "0.0.0.0");
    return ioctl(fd, SIOCADDRT, &route) ? jail_fail(err, "the network's route") : 0;
}

/* --- nf_tables ------------------------------------------------------------------------------ */

/* The messages of one transaction. Their size is known: see prepare(). */
struct batch {
    char data[4096];
    size_t len;
    size_t message; /* where the current one begins */
    unsigned asked; /* messages that the kernel answers */
};

static void put(struct batch *batch, const void *data, size_t len)
{
    size_t padded = NLMSG_ALIGN(len);
    memcpy(batch->data + batch->len, data, len);
    memset(batch->data + batch->len + len, 0, padded - len);
    batch->len += padded;
}

static void begin(struct batch *batch, unsigned type, unsigned flags, uint8_t family, uint16_t res)
{
    const struct nlmsghdr head = {.nlmsg_type = (uint16_t)type,
                                  .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
    const struct nfgenmsg gen = {
        .nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(res)};
    batch->message = batch->len;
    put(batch, &head, sizeof(head));
    put(batch, &gen, sizeof(gen));
    batch->asked += (flags & NLM_F_ACK) != 0;
}

static void end(struct batch *batch)
{
    uint32_t len = (uint32_t)(batch->len - batch->message);
    memcpy(batch->data + batch->message, &len, sizeof(len));
}

static void put_attr(struct batch *batch, unsigned type, const void *data, size_t len)
{
    const struct nlattr attr = {.nla_len = (uint16_t)(sizeof(attr) + len),
                                .nla_type = (uint16_t)type};
    put(batch, &attr, sizeof(attr));
    put(batch, data, len);
}

static void put_text(struct batch *batch, unsigned type, const char *text)
{
    put_attr(batch, type, text, strlen(text) + 1);
}

static void put_number(struct batch *batch, unsigned type, uint32_t number)
{
    uint32_t big = htonl(number);
    put_attr(batch, type, &big, sizeof(big));
}

static size_t open_nest(struct batch *batch, unsigned type)
{
    size_t at = batch->len;
    put_attr(batch, type | NLA_F_NESTED, "", 0);
    return at;
}

static void close_nest(struct batch *batch, size_t at)
{
    uint16_t len = (uint16_t)(batch->len - at);
    memcpy(batch->data + at, &len, sizeof(len));
}

/* The frame of one expression, whose attributes are added between begin and end. */
struct expr {
    size_t element, data;
};

static struct expr open_expr(struct batch *batch, const char *name)
{
    struct expr expr = {.element = open_nest(batch, NFTA_LIST_ELEM)};
    put_text(batch, NFTA_EXPR_NAME, name);
    expr.data = open_nest(batch, NFTA_EXPR_DATA);
    return expr;
}

static void close_expr(struct batch *batch, struct expr expr)
{
    close_nest(batch, expr.data);
    close_nest(batch, expr.element);
}

static void put_value(struct batch *batch, unsigned type, const void *data, size_t len)
{
    size_t at = open_nest(batch, type);
    put_attr(batch, NFTA_DATA_VALUE, data, len);
    close_nest(batch, at);
}

static void add_compare(struct batch *batch, unsigned how, const void *data, size_t len)
{
    struct expr expr = open_expr(batch, "cmp");
    put_number(batch, NFTA_CMP_SREG, NFT_REG_1);
    put_number(batch, NFTA_CMP_OP, how);
    put_value(batch, NFTA_CMP_DATA, data, len);
    close_expr(batch, expr);
}

static void add_protocol(struct batch *batch, uint8_t protocol)
{
    struct expr expr = open_expr(batch, "meta");
    put_number(batch, NFTA_META_DREG, NFT_REG_1);
    put_number(batch, NFTA_META_KEY, NFT_META_L4PROTO);
    close_expr(batch, expr);
    add_compare(batch, NFT_CMP_EQ, &protocol, sizeof(protocol));
}

static void add_load(struct batch *batch, unsigned base, unsigned offset, unsigned len)
{
    struct expr expr = open_expr(batch, "payload");
    put_number(batch, NFTA_PAYLOAD_DREG, NFT_REG_1);
    put_number(batch, NFTA_PAYLOAD_BASE, base);
    put_number(batch, NFTA_PAYLOAD_OFFSET, offset);
    put_number(batch, NFTA_PAYLOAD_LEN, len);
    close_expr(batch, expr);
}

static void add_redirect(struct batch *batch)
{
    const uint16_t port = htons(GATE_PORT);
    struct expr expr = open_expr(batch, "immediate");
    put_number(batch, NFTA_IMMEDIATE_DREG, NFT_REG_1);
    put_value(batch, NFTA_IMMEDIATE_DATA, &port, sizeof(port));
    close_expr(batch, expr);
    expr = open_expr(batch, "redir");
    put_number(batch, NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
    close_expr(batch, expr);
}

/* With `names` it matches only queries to name servers, whatever their address; else everything but
 * loopback. */
static void add_rule(struct batch *batch, uint8_t protocol, bool names)
{
    const uint16_t port = htons(53);
    const uint8_t loopback = 127;
    begin(batch, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE,
          NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, NFPROTO_IPV4, 0);
    put_text(batch, NFTA_RULE_TABLE, TABLE);
    put_text(batch, NFTA_RULE_CHAIN, CHAIN);
    size_t list = open_nest(batch, NFTA_RULE_EXPRESSIONS);
    add_protocol(batch, protocol);
    if (names) {
        add_load(batch, NFT_PAYLOAD_TRANSPORT_HEADER, 2, sizeof(port)); /* destination port */
        add_compare(batch, NFT_CMP_EQ, &port, sizeof(port));
    } else {
        add_load(batch, NFT_PAYLOAD_NETWORK_HEADER, 16, 1); /* destination's first byte */
        add_compare(batch, NFT_CMP_NEQ, &loopback, sizeof(loopback));
    }
    add_redirect(batch);
    close_nest(batch, list);
    end(batch);
}

static void add_chain(struct batch *batch, const char *table, const char *type, int priority)
{
    begin(batch, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK,
          NFPROTO_IPV4, 0);
    put_text(batch, NFTA_TABLE_NAME, table);
    end(batch);
    begin(batch, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK,
          NFPROTO_IPV4, 0);
    put_text(batch, NFTA_CHAIN_TABLE, table);
    put_text(batch, NFTA_CHAIN_NAME, CHAIN);
    size_t hook = open_nest(batch, NFTA_CHAIN_HOOK);
    put_number(batch, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT);
    put_number(batch, NFTA_HOOK_PRIORITY, (uint32_t)priority);
    close_nest(batch, hook);
    put_text(batch, NFTA_CHAIN_TYPE, type);
    end(batch);
}

static void prepare(struct batch *batch)
{
    begin(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    end(batch);
    add_chain(batch, TABLE, "nat", PRIORITY);
    add_rule(batch, IPPROTO_UDP, true);
    add_rule(batch, IPPROTO_TCP, true);
    add_rule(batch, IPPROTO_TCP, false);
    begin(batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    end(batch);
}

/* Reads the answers: 0 when every message was accepted, else -1 with errno. */
static int read_answers(int fd, unsigned wanted)
{
    char data[4096] __attribute__((aligned(NLMSG_ALIGNTO)));
    while (wanted > 0) {
        ssize_t n = recv(fd, data, sizeof(data), 0);
        if (n <= 0)
            return -1;
        size_t left = (size_t)n;
        for (struct nlmsghdr *at = (void *)data; NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
            struct nlmsgerr answer;
            if (at->nlmsg_type != NLMSG_ERROR || at->nlmsg_len < NLMSG_LENGTH(sizeof(answer)))
                continue;
            memcpy(&answer, NLMSG_DATA(at), sizeof(answer));
            if (answer.error) {
                errno = -answer.error;
                return -1;
            }
            wanted -= wanted > 0;
        }
    }
    return 0;
}

static int send_batch(const struct batch *batch, struct err *err)
{
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    const struct timeval patience = {.tv_sec = 5};
    AUTO(fd) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0)
        return jail_fail(err, "nf_tables");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (sendto(fd, batch->data, batch->len, 0, (const struct sockaddr *)&kernel, sizeof(kernel)) <
            0 ||
        read_answers(fd, batch->asked))
        return jail_fail(err, "nf_tables");
    return 0;
}

static int redirect_all(struct err *err)
{
    struct batch batch = {.len = 0};
    prepare(&batch);
    return send_batch(&batch, err);
}

/* --- the fence ------------------------------------------------------------------------------ */

static void add_verdict(struct batch *batch, uint32_t code)
{
    struct expr expr = open_expr(batch, "immediate");
    put_number(batch, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    size_t data = open_nest(batch, NFTA_IMMEDIATE_DATA);
    size_t verdict = open_nest(batch, NFTA_DATA_VERDICT);
    put_number(batch, NFTA_VERDICT_CODE, code);
    close_nest(batch, verdict);
    close_nest(batch, data);
    close_expr(batch, expr);
}

/* Packets of TCP from sockets of that user to 169.254.0.0/16, but for names (port 53). */
static void add_fence(struct batch *batch, uint32_t uid)
{
    static const uint8_t link_local[] = {169, 254};
    const uint16_t names = htons(53);
    begin(batch, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE,
          NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, NFPROTO_IPV4, 0);
    put_text(batch, NFTA_RULE_TABLE, FENCE_TABLE);
    put_text(batch, NFTA_RULE_CHAIN, CHAIN);
    size_t list = open_nest(batch, NFTA_RULE_EXPRESSIONS);
    struct expr expr = open_expr(batch, "meta");
    put_number(batch, NFTA_META_DREG, NFT_REG_1);
    put_number(batch, NFTA_META_KEY, NFT_META_SKUID);
    close_expr(batch, expr);
    add_compare(batch, NFT_CMP_EQ, &uid, sizeof(uid));
    add_load(batch, NFT_PAYLOAD_NETWORK_HEADER, 16, sizeof(link_local));
    add_compare(batch, NFT_CMP_EQ, link_local, sizeof(link_local));
    add_protocol(batch, IPPROTO_TCP);
    add_load(batch, NFT_PAYLOAD_TRANSPORT_HEADER, 2, sizeof(names));
    add_compare(batch, NFT_CMP_NEQ, &names, sizeof(names));
    add_verdict(batch, NF_DROP);
    close_nest(batch, list);
    end(batch);
}

int jail_fence(uid_t uid, struct err *err)
{
    struct batch batch = {.len = 0};
    begin(&batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    end(&batch);
    add_chain(&batch, FENCE_TABLE, "filter", 0);
    add_fence(&batch, uid);
    begin(&batch, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    end(&batch);
    return send_batch(&batch, err);
}

/* --- the gate ------------------------------------------------------------------------------- */

/* Listens on a high descriptor, away from the program's own. */
static int listen_at(int type, in_addr_t address, unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(address);
    AUTO(fd) int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) ||
        (type == SOCK_STREAM && listen(fd, GATE_BACKLOG)))
        return -1;
    return fcntl(fd, F_DUPFD_CLOEXEC, 64);
}

static int listen_all(struct jail *jail, in_addr_t address, unsigned port, struct err *err)
{
    jail->gate[JAIL_GATE_TCP] = listen_at(SOCK_STREAM, address, port);
    jail->gate[JAIL_GATE_NAMES] = listen_at(SOCK_DGRAM, INADDR_LOOPBACK, GATE_PORT);
    return jail->gate[JAIL_GATE_TCP] < 0 || jail->gate[JAIL_GATE_NAMES] < 0
               ? jail_fail(err, "the gate's sockets")
               : 0;
}

/* Without a route, what is not sent to the proxy fails at once (ENETUNREACH). */
static int build_proxy(struct jail *jail, int fd, struct err *err)
{
    static const char *const addresses[] = JAIL_PROXY_ADDRESSES;
    for (size_t i = 0; i < COUNT_OF(addresses); i++) {
        char label[IFNAMSIZ];
        snprintf(label, sizeof(label), "lo:%zu", i + 1);
        if (add_address(fd, label, addresses[i], err))
            return -1;
    }
    return listen_all(jail, INADDR_ANY, JAIL_PROXY_PORT, err);
}

int jail_net_build(struct jail *jail, struct err *err)
{
    AUTO(fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return jail_fail(err, "loopback");
    if (raise_loopback(fd, err))
        return -1;
    if (jail->net == JAIL_NET_PROXY)
        return build_proxy(jail, fd, err);
    if (route_all(fd, err) || listen_all(jail, INADDR_LOOPBACK, GATE_PORT, err))
        return -1;
    return redirect_all(err);
}

const int *jail_gate(const struct jail *jail)
{
    return jail->net == JAIL_NET_GATE || jail->net == JAIL_NET_PROXY ? jail->gate : NULL;
}
