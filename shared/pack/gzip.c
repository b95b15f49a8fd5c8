#include "pack/gzip.h"

#include "base/check.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/thread.h"

#include <libdeflate.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 64
#define SPARE_MAX                                                                    \
    8 /* Extra blocks besides one per thread, so that a slow block does not stop the \
       * others. */
#define SAMPLE 16384u

enum block_state { BLOCK_FREE, BLOCK_FULL, BLOCK_BUSY, BLOCK_DONE };

struct block {
    enum block_state state;
    bool last, failed;
    size_t len, out_len;
    unsigned char in[GZIP_BLOCK];
    unsigned char out[]; /* gzip->bound bytes */
};

struct gzip {
    int level;
    size_t bound; /* most bytes that a compressed block can have */
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

static void clear_block(struct block *block)
{
    block->state = BLOCK_FREE;
    block->len = 0;
    block->last = block->failed = false;
}

/* --- workers ------------------------------------------------------------------------------- */

/* True for bytes that look random: the chi-square of a sample is what chance gives. Only integers
 * are used, so that every machine decides the same. A distribution more even than chance is a
 * pattern, and compresses. */
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

static void compress_block(const struct gzip *gzip, struct libdeflate_compressor *deflating,
                           struct libdeflate_compressor *storing, struct block *block)
{
    block->out_len = libdeflate_gzip_compress(is_noise(block->in, block->len) ? storing : deflating,
                                              block->in, block->len, block->out, gzip->bound);
    block->failed = block->out_len == 0;
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
    struct libdeflate_compressor *deflating = libdeflate_alloc_compressor(gzip->level);
    struct libdeflate_compressor *storing = libdeflate_alloc_compressor(0);
    struct block *block;
    while ((block = take_block(gzip))) {
        if (deflating && storing)
            compress_block(gzip, deflating, storing, block);
        else
            block->failed = true;
        lock_take(&gzip->lock);
        block->state = BLOCK_DONE;
        pthread_cond_broadcast(&gzip->changed);
        lock_drop(&gzip->lock);
    }
    libdeflate_free_compressor(deflating);
    libdeflate_free_compressor(storing);
    return NULL;
}

/* --- the writer ---------------------------------------------------------------------------- */

static int write_block(struct gzip *gzip, const struct block *block)
{
    if (block->failed)
        return err_set(&gzip->err, ERR_INTERNAL, "cannot compress");
    if (block->len == 0 && gzip->writing > 0) /* the end fell on the end of a block */
        return 0;
    return gzip->sink(block->out, block->out_len, gzip->arg, &gzip->err);
}

static void *write_all(void *arg)
{
    struct gzip *gzip = arg;
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
            broken = write_block(gzip, block) != 0;
        lock_take(&gzip->lock);
        gzip->broken = broken;
        gzip->writing++;
        clear_block(block);
        gzip->ended |= last;
        pthread_cond_broadcast(&gzip->changed);
        lock_drop(&gzip->lock);
    }
    return NULL;
}

/* --- the caller's side --------------------------------------------------------------------- */

struct gzip *gzip_new(int level, int threads, gzip_sink_fn *sink, void *arg, struct err *err)
{
    REQUIRE(sink);
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
    gzip->bound = libdeflate_gzip_compress_bound(NULL, GZIP_BLOCK);
    gzip->ring_size = (size_t)wanted + 2 + (size_t)(wanted < SPARE_MAX ? wanted : SPARE_MAX);
    gzip->ring = calloc(gzip->ring_size, sizeof(struct block *));
    if (!gzip->ring) {
        err_sys(err, "gzip");
        return NULL;
    }
    for (size_t i = 0; i < gzip->ring_size; i++) {
        gzip->ring[i] = malloc(sizeof(struct block) + gzip->bound); /* Pages are touched only when
                                                                     * they are used. */
        if (!gzip->ring[i]) {
            err_sys(err, "gzip");
            return NULL;
        }
        clear_block(gzip->ring[i]);
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

/* Waits until the next block to fill is free. */
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

/* Hands the filled block to the workers. */
static void hand_over(struct gzip *gzip, struct block *block, bool last)
{
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
    REQUIRE(data || len == 0);
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
