/*
 * git's packets: four hex digits of length, then the data; and packets of three kinds without data.
 *
 * Threads: no shared state.
 */
#ifndef GIT_PKT_H
#define GIT_PKT_H

#include "base/auto.h"
#include "base/buf.h"

#include <stddef.h>
#include <sys/types.h>

#define PKT_HEAD 4
#define PKT_DATA_MAX 65516 /* bytes of data in one */

enum pkt_kind { PKT_DATA, PKT_FLUSH, PKT_DELIM, PKT_END };

struct pkt {
    enum pkt_kind kind;
    const char *data; /* inside what was read */
    size_t len;
};

/* Reads the packet at the start of data. Returns its size, 0 when it is not complete, or -1 when it
 * is malformed. */
ssize_t pkt_read(const char *data, size_t len, struct pkt *ret_pkt);

/* Append a packet of bytes, a packet of text, and the packet that ends a list. Data longer than
 * PKT_DATA_MAX makes the buffer fail. */
void pkt_add(struct buf *out, const void *data, size_t len);
void pkt_addf(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void pkt_add_flush(struct buf *out);

/* Appends data as packets of a side band: 1 the requested data, 2 messages for people, 3 a fatal
 * error. */
void pkt_add_band(struct buf *out, int band, const void *data, size_t len);

#endif
