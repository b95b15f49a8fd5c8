/*
 * Questions to a name server and answers: the part of DNS that programs in a jail need.
 *
 * Threads: no shared state.
 */
#ifndef EGRESS_NAMES_H
#define EGRESS_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAMES_HOST_SIZE 254
#define NAMES_MESSAGE_MAX 512

enum dns_type { NAMES_A = 1, NAMES_AAAA = 28 };
enum dns_code { NAMES_OK = 0, NAMES_FAILED = 2, NAMES_UNKNOWN = 3, NAMES_UNABLE = 4 };

struct dns_question {
    unsigned char text[NAMES_MESSAGE_MAX]; /* the message up to the end of the question */
    size_t len;
    char host[NAMES_HOST_SIZE]; /* lower case, without the last dot */
    unsigned type;
};

/* Reads a message with one question; -1 for anything else, which gets no answer. */
int dns_read(const void *data, size_t len, struct dns_question *ret_question);

/* Writes an answer of at most NAMES_MESSAGE_MAX bytes, with `address` (4 bytes) or without one
 * (NULL). Returns its size. */
size_t dns_answer(const struct dns_question *question, enum dns_code code, const void *address,
                  unsigned char *to);

#endif
