#include "pack/gzip.h"

#include "base/cond.h"
#include "base/lock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define DICTIONARY (32u << 10)
#define THREADS_MAX 64
#define OUT_BYTES                                                                  \
    (GZIP_BLOCK + (GZIP_BLOCK >> 6) + 1024) /* stored blocks add 5 bytes in 64 KiB \
                                             */
#define SAMPLE 16384u
#define RAW (-15)

enum block_state { BLOCK_FREE, BLOCK_FULL, BLOCK_BUSY, BLOCK_DONE };

struct block {
    enum block_state state;
    bool last, failed;
    size_t len, out_len, dictionary_len;
    uLong crc;
    unsigned char dictionary[DICTIONARY];
    unsigned char in[GZIP_BLOCK];
    unsigned char out[OUT_BYTES];
};

struct gzip {
    int level;
    gzip_sink_fn *sink;
    void *arg;
    struct lock lock;
    pthread_cond_t changed;
    struct block **ring;
    size_t ring_size;
    /* Numbers of blocks, ever growing; a block is ring[number % ring_size]. */
    uint64_t filling, compressing, writing;
    bool stopping, ended, broken;
    struct err err; /* of the sink */
    struct thread workers[THREADS_MAX], writer;
    int worker_count;
};

static struct block *block_at(const struct gzip *gzip, uint64_t number)
{
    return gzip->ring[number % gzip->ring_size];
}

/* --- workers ------------------------------------------------------------------------------- */

/* True for bytes that look like noise: the chi-square of a sample is what chance gives. Integers
 * only, so that every machine says the same. Evener than chance is a pattern, and compresses. */
static bool is_noise(const unsigned char *data, size_t len)
{
    unsigned counts[256] = {0};
    uint64_t squares = 0, even = (uint64_t)SAMPLE * SAMPLE / 256, unit = SAMPLE / 256;
    if (len < 2 * SAMPLE)
        return false;
    for (size_t run = 0; run < 4; run++) {
        const unsigned char *at = data + run * ((len - SAMPLE / 4) / 3);
        for (size_t i = 0; i < SAMPLE / 4; i++)
            counts[at[i]]++;
    }
    for (size_t i = 0; i < 256; i++)
        squares += (uint64_t)counts[i] * counts[i];
    return squares > even + 150 * unit && squares < even + 700 * unit;
}

static void compress_block(z_stream *deflating, z_stream *storing, struct block *block)
{
    z_stream *z = is_noise(block->in, block->len) ? storing : deflating;
    deflateReset(z);
    if (block->dictionary_len > 0 && z == deflating)
        deflateSetDictionary(z, block->dictionary, (uInt)block->dictionary_len);
    z->next_in = block->in;
    z->avail_in = (uInt)block->len;
    z->next_out = block->out;
    z->avail_out = OUT_BYTES;
    int rc = deflate(z, block->last ? Z_FINISH : Z_SYNC_FLUSH);
    block->failed = rc != (block->last ? Z_STREAM_END : Z_OK) || z->avail_in > 0;
    block->out_len = OUT_BYTES - z->avail_out;
    block->crc = crc32(0, block->in, (uInt)block->len);
}

static struct block *take_block(struct gzip *gzip)
{
    struct block *block = NULL;
    lock_take(&gzip->lock);
    while (!gzip->stopping && gzip->compressing == gzip->filling)
        lock_wait(&gzip->changed, &gzip->lock, 60000);
    if (!gzip->stopping) {
        block = block_at(gzip, gzip->compressing++);
        block->state = BLOCK_BUSY;
    }
    lock_drop(&gzip->lock);
    return block;
}

static void *work(void *arg)
{
    struct gzip *gzip = arg;
    z_stream deflating = {0}, storing = {0};
    struct block *block;
    bool ready =
        deflateInit2(&deflating, gzip->level, Z_DEFLATED, RAW, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    ready &= deflateInit2(&storing, 0, Z_DEFLATED, RAW, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    while ((block = take_block(gzip))) {
        if (ready)
            compress_block(&deflating, &storing, block);
        else
            block->failed = true;
        lock_take(&gzip->lock);
        block->state = BLOCK_DONE;
        pthread_cond_broadcast(&gzip->changed);
        lock_drop(&gzip->lock);
    }
    deflateEnd(&deflating);
    deflateEnd(&storing);
    return NULL;
}

/* --- the writer ---------------------------------------------------------------------------- */

struct tail {
    uLong crc;
    uint32_t len;
};

static int write_block(struct gzip *gzip, const struct block *block, struct tail *tail)
{
    static const unsigned char head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    if (block->failed)
        return err_set(&gzip->err, ERR_INTERNAL, "cannot compress");
    if (gzip->writing == 0 && gzip->sink(head, sizeof(head), gzip->arg, &gzip->err))
        return -1;
    tail->crc =
        gzip->writing == 0 ? block->crc : crc32_combine(tail->crc, block->crc, (z_off_t)block->len);
    tail->len += (uint32_t)block->len;
    if (gzip->sink(block->out, block->out_len, gzip->arg, &gzip->err))
        return -1;
    if (!block->last)
        return 0;
    unsigned char end[8];
    for (int i = 0; i < 4; i++) {
        end[i] = (unsigned char)(tail->crc >> (8 * i));
        end[4 + i] = (unsigned char)(tail->len >> (8 * i));
    }
    return gzip->sink(end, sizeof(end), gzip->arg, &gzip->err);
}

static void *write_all(void *arg)
{
    struct gzip *gzip = arg;
    struct tail tail = {0};
    bool last = false;
    while (!last) {
        lock_take(&gzip->lock);
        struct block *block = block_at(gzip, gzip->writing);
        while (!gzip->stopping && block->state != BLOCK_DONE)
            lock_wait(&gzip->changed, &gzip->lock, 60000);
        bool stop = gzip->stopping, broken = gzip->broken;
        lock_drop(&gzip->lock);
        if (stop)
            break;
        last = block->last;
        if (!broken)
            broken = write_block(gzip, block, &tail) != 0;
        lock_take(&gzip->lock);
        gzip->broken = broken;
        gzip->writing++;
        block->state = BLOCK_FREE;
        gzip->ended |= last;
        pthread_cond_broadcast(&gzip->changed);
        lock_drop(&gzip->lock);
    }
    return NULL;
}

/* --- the caller's side --------------------------------------------------------------------- */

struct gzip *gzip_new(int level, int threads, gzip_sink_fn *sink, void *arg, struct err *err)
{
    long cores = threads > 0 ? threads : sysconf(_SC_NPROCESSORS_ONLN);
    int wanted = cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (int)cores;
    AUTO(gzip) struct gzip *gzip = calloc(1, sizeof(*gzip));
    if (!gzip) {
        err_sys(err, "gzip");
        return NULL;
    }
    gzip->level = level;
    gzip->sink = sink;
    gzip->arg = arg;
    lock_init(&gzip->lock);
    cond_init(&gzip->changed);
    gzip->ring_size = (size_t)wanted * 2 + 2;
    gzip->ring = calloc(gzip->ring_size, sizeof(struct block *));
    if (!gzip->ring) {
        err_sys(err, "gzip");
        return NULL;
    }
    for (size_t i = 0; i < gzip->ring_size; i++) {
        gzip->ring[i] = malloc(sizeof(struct block)); /* pages are touched as they are used */
        if (!gzip->ring[i]) {
            err_sys(err, "gzip");
            return NULL;
        }
        gzip->ring[i]->state = BLOCK_FREE;
        gzip->ring[i]->len = gzip->ring[i]->dictionary_len = 0;
        gzip->ring[i]->last = gzip->ring[i]->failed = false;
    }
    if (thread_start(&gzip->writer, "gzip-write", THREAD_STACK_SMALL, write_all, gzip, err))
        return NULL;
    while (gzip->worker_count < wanted && thread_start(&gzip->workers[gzip->worker_count], "gzip",
                                                       THREAD_STACK_SMALL, work, gzip, err) == 0)
        gzip->worker_count++;
    if (gzip->worker_count == 0)
        return NULL;
    return STEAL_PTR(gzip);
}

void gzip_free(struct gzip *gzip)
{
    if (!gzip)
        return;
    lock_take(&gzip->lock);
    gzip->stopping = true;
    pthread_cond_broadcast(&gzip->changed);
    lock_drop(&gzip->lock);
    for (int i = 0; i < gzip->worker_count; i++)
        thread_join(&gzip->workers[i]);
    thread_join(&gzip->writer);
    for (size_t i = 0; gzip->ring && i < gzip->ring_size; i++)
        free(gzip->ring[i]);
    free(gzip->ring);
    pthread_cond_destroy(&gzip->changed);
    lock_done(&gzip->lock);
    free(gzip);
}

/* Waits until the block that is filled next is free. */
static struct block *free_block(struct gzip *gzip, struct err *err)
{
    lock_take(&gzip->lock);
    struct block *block = block_at(gzip, gzip->filling);
    while (!gzip->broken && block->state != BLOCK_FREE)
        lock_wait(&gzip->changed, &gzip->lock, 60000);
    bool broken = gzip->broken;
    if (broken)
        *err = gzip->err;
    lock_drop(&gzip->lock);
    return broken ? NULL : block;
}

/* Hands the block that is filled to the workers. */
static void hand_over(struct gzip *gzip, struct block *block, bool last)
{
    struct block *next = last ? NULL : block_at(gzip, gzip->filling + 1);
    size_t keep = block->len < DICTIONARY ? block->len : DICTIONARY;
    lock_take(&gzip->lock);
    /* The dictionary goes into the next block once that is free; it is the caller who waits. */
    while (next && !gzip->broken && next->state != BLOCK_FREE)
        lock_wait(&gzip->changed, &gzip->lock, 60000);
    lock_drop(&gzip->lock);
    if (next) {
        memcpy(next->dictionary, block->in + block->len - keep, keep);
        next->dictionary_len = keep;
        next->len = 0;
        next->last = next->failed = false;
    }
    lock_take(&gzip->lock);
    block->last = last;
    block->state = BLOCK_FULL;
    gzip->filling++;
    pthread_cond_broadcast(&gzip->changed);
    lock_drop(&gzip->lock);
}

void *gzip_room(struct gzip *gzip, size_t *ret_len, struct err *err)
{
    struct block *block = free_block(gzip, err);
    if (block && block->len == GZIP_BLOCK) {
        hand_over(gzip, block, false);
        block = free_block(gzip, err);
    }
    if (!block)
        return NULL;
    *ret_len = GZIP_BLOCK - block->len;
    return block->in + block->len;
}

void gzip_filled(struct gzip *gzip, size_t len)
{
    block_at(gzip, gzip->filling)->len += len;
}

int gzip_add(struct gzip *gzip, const void *data, size_t len, struct err *err)
{
    const char *from = data;
    while (len > 0) {
        size_t room;
        void *to = gzip_room(gzip, &room, err);
        if (!to)
            return -1;
        size_t n = len < room ? len : room;
        memcpy(to, from, n);
        gzip_filled(gzip, n);
        from += n;
        len -= n;
    }
    return 0;
}

int gzip_end(struct gzip *gzip, struct err *err)
{
    struct block *block = free_block(gzip, err);
    if (!block)
        return -1;
    hand_over(gzip, block, true);
    lock_take(&gzip->lock);
    while (!gzip->ended)
        lock_wait(&gzip->changed, &gzip->lock, 60000);
    bool broken = gzip->broken;
    if (broken)
        *err = gzip->err;
    lock_drop(&gzip->lock);
    return broken ? -1 : 0;
}
