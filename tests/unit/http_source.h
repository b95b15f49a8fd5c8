/* A source of text or of a file's bytes, and those who read it, for the tests of streams. */
#ifndef TESTS_HTTP_SOURCE_H
#define TESTS_HTTP_SOURCE_H

#include "http_peer.h"

#include <pthread.h>
#include <stdatomic.h>

#define STREAMS_MAX 2010

/* A source: counts up to `made`, or a file, and remembers who streams. */
struct source {
    _Atomic int64_t made; /* bytes there are */
    _Atomic bool over;
    _Atomic bool broken;
    int file; /* -1: bytes of text */
};

struct reader {
    struct source *source;
    _Atomic int64_t at;
    pthread_mutex_t lock;
    struct http_parked *stream;
};

static struct http_server *server;
static struct http_stream_config base_config;
static struct source source;
static struct reader readers[STREAMS_MAX];
static _Atomic int reader_count, done_count, ended_count, last_status;
static _Atomic int64_t fills;

/* The source's bytes from an offset on. */
static inline void add_text(struct buf *out, int64_t at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        buf_addc(out, (char)('a' + (at + (int64_t)i) % 26));
}

static inline enum http_fill fill(struct http_piece *piece, void *arg)
{
    struct reader *reader = arg;
    struct source *from = reader->source;
    atomic_fetch_add(&fills, 1);
    if (atomic_load(&from->broken))
        return HTTP_FILL_BROKEN;
    bool over = atomic_load(&from->over);
    int64_t made = atomic_load(&from->made);
    int64_t left = made - reader->at;
    if (from->file >= 0 && left > 0) {
        piece->file = from->file;
        piece->file_at = reader->at;
        piece->file_len = (size_t)(left > 262144 ? 262144 : left);
        reader->at += (int64_t)piece->file_len;
    } else if (left > 0) {
        size_t len = (size_t)(left > 20000 ? 20000 : left);
        add_text(piece->bytes, reader->at, len);
        reader->at += (int64_t)len;
    }
    if (reader->at < made)
        return HTTP_FILL_MORE;
    return over ? HTTP_FILL_END : HTTP_FILL_WAIT;
}

static inline void on_done(void *arg)
{
    struct reader *reader = arg;
    pthread_mutex_lock(&reader->lock);
    reader->stream = NULL;
    pthread_mutex_unlock(&reader->lock);
    atomic_fetch_add(&done_count, 1);
}

#endif
