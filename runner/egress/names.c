#include "runner/egress/names.h"

#include "base/check.h"

#include <ctype.h>
#include <string.h>

#define HEAD 12
#define CLASS_IN 1
#define TTL_SECONDS 60
#define ANSWER_SIZE 16

static unsigned number_at(const unsigned char *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* Reads a name's labels. Returns the offset after it, or 0. */
static size_t read_host(const unsigned char *data, size_t len, char host[NAMES_HOST_SIZE])
{
    size_t at = HEAD, n = 0;
    while (at < len && data[at] != 0) {
        size_t label = data[at++];
        if (label > 63 || at + label > len || n + label + 1 >= NAMES_HOST_SIZE)
            return 0;
        if (n > 0)
            host[n++] = '.';
        for (size_t i = 0; i < label; i++, at++) {
            if (!isalnum(data[at]) && data[at] != '-' && data[at] != '_')
                return 0;
            host[n++] = (char)tolower(data[at]);
        }
    }
    host[n] = '\0';
    return at < len && n > 0 ? at + 1 : 0;
}

int dns_read(const void *message, size_t len, struct dns_question *ret_question)
{
    const unsigned char *data = message;
    char host[NAMES_HOST_SIZE];
    if (len < HEAD || (data[2] & 0xf8) || number_at(data + 4) != 1) /* Accepts a query with one
                                                                     * question only. */
        return -1;
    size_t end = read_host(data, len, host);
    if (end == 0 || end + 4 > len || end + 4 + ANSWER_SIZE > NAMES_MESSAGE_MAX ||
        number_at(data + end + 2) != CLASS_IN)
        return -1;
    memcpy(ret_question->text, data, end + 4);
    memcpy(ret_question->host, host, sizeof(host));
    ret_question->len = end + 4;
    ret_question->type = number_at(data + end);
    return 0;
}

size_t dns_answer(const struct dns_question *question, enum dns_code code, const void *address,
                  unsigned char *to)
{
    REQUIRE(question->len > 0 && to);
    const unsigned char record[ANSWER_SIZE - 4] = {0xc0, HEAD, 0, NAMES_A,     0, CLASS_IN,
                                                   0,    0,    0, TTL_SECONDS, 0, 4};
    memcpy(to, question->text, question->len);
    to[2] = (unsigned char)(0x80 | (to[2] & 0x01)); /* An answer; keep whether recursion was
                                                     * wanted. */
    to[3] = (unsigned char)(0x80 | code);
    memset(to + 6, 0, 6);
    if (!address)
        return question->len;
    to[7] = 1;
    memcpy(to + question->len, record, sizeof(record));
    memcpy(to + question->len + sizeof(record), address, 4);
    return question->len + ANSWER_SIZE;
}
