#include "git/pkt.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX 4096
#define BAND_MAX (PKT_DATA_MAX - 1)

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

ssize_t pkt_read(const char *data, size_t len, struct pkt *ret_pkt)
{
    size_t size = 0;
    for (size_t i = 0; i < PKT_HEAD; i++) {
        if (i >= len)
            return 0;
        int value = digit(data[i]);
        if (value < 0)
            return -1;
        size = size << 4 | (size_t)value;
    }
    *ret_pkt = (struct pkt){.kind = PKT_DATA};
    if (size < PKT_HEAD) {
        ret_pkt->kind = (enum pkt_kind)(PKT_FLUSH + size);
        return size == 3 ? -1 : PKT_HEAD;
    }
    if (size > PKT_HEAD + PKT_DATA_MAX)
        return -1;
    if (size > len)
        return 0;
    ret_pkt->data = data + PKT_HEAD;
    ret_pkt->len = size - PKT_HEAD;
    return (ssize_t)size;
}

void pkt_add(struct buf *out, const void *data, size_t len)
{
    if (len > PKT_DATA_MAX) {
        out->failed = true;
        return;
    }
    buf_addf(out, "%04zx", len + PKT_HEAD);
    buf_add(out, data, len);
}

void pkt_addf(struct buf *out, const char *fmt, ...)
{
    va_list ap;
    AUTO(buf) struct buf text = BUF_INIT(TEXT_MAX);
    va_start(ap, fmt);
    buf_addv(&text, fmt, ap);
    va_end(ap);
    out->failed |= !buf_ok(&text);
    pkt_add(out, buf_str(&text), text.len);
}

void pkt_add_flush(struct buf *out)
{
    buf_adds(out, "0000");
}

void pkt_add_band(struct buf *out, int band, const void *data, size_t len)
{
    REQUIRE(band >= 1 && band <= 3);
    const char *from = data;
    while (len > 0) {
        size_t n = len < BAND_MAX ? len : BAND_MAX;
        buf_addf(out, "%04zx%c", n + 1 + PKT_HEAD, band);
        buf_add(out, from, n);
        from += n;
        len -= n;
    }
}
