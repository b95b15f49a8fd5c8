/*
 * A client that reads an endless answer as it arrives, without the chunk framing, until a condition
 * holds or a number of bytes is there.
 */
#ifndef TESTLIB_STREAM_H
#define TESTLIB_STREAM_H

#include <stdbool.h>
#include <stddef.h>

struct stream {
    int fd;
    int status; /* 0 before the head is there */
    char *head; /* NULL before */
    char *body; /* NUL-terminated */
    size_t body_size, body_cap;
    bool ended;  /* the last chunk has come */
    bool closed; /* the connection has ended */

    char *raw; /* not decoded yet */
    size_t raw_size, raw_cap;
    size_t chunk_left; /* of the chunk that is being read */
    bool in_chunk, chunked;
};

/* Sends a request as http_begin() does. */
struct stream *stream_open(const char *base, const char *method, const char *path,
                           const char *headers, const char *body);
void stream_free(struct stream *stream); /* closes */

/* Reads once, waiting up to ms; false when nothing came. */
bool stream_read(struct stream *stream, int ms);

/* Reads on until the text is in the body; fails the test when it doesn't come. */
void stream_until(struct stream *stream, const char *text, int ms);

/* Reads on until so many bytes of body are there; false when the stream ended before. */
bool stream_until_size(struct stream *stream, size_t size, int ms);

/* Reads to the end; fails the test unless the answer is 200 and complete. */
void stream_until_end(struct stream *stream, int ms);

/* How often the text is in the body. */
size_t stream_count(const struct stream *stream, const char *text);

/* The same of any text. */
size_t text_count(const char *text, const char *wanted);

#endif
