/* DIR/batch.json and DIR/results.jsonl: which batch this is, and which runs are finished. */
#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lines.h"
#include "base/path.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/client/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES_LIMIT (256u << 20)
#define META_MAX 65536

/* --- tasks by id --------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct batch_task *const *)a)->id, (*(struct batch_task *const *)b)->id);
}

static int compare_id(const void *id, const void *item)
{
    return strcmp(id, (*(struct batch_task *const *)item)->id);
}

struct index {
    struct batch_task **items;
    size_t count;
};

static int index_make(struct index *index, struct batch_tasks *tasks, struct err *err)
{
    index->items = calloc(tasks->count + 1, sizeof(struct batch_task *));
    if (!index->items)
        return err_sys(err, "tasks");
    index->count = tasks->count;
    for (size_t i = 0; i < tasks->count; i++)
        index->items[i] = &tasks->items[i];
    qsort(index->items, index->count, sizeof(struct batch_task *), by_id);
    return 0;
}

static struct batch_task *index_find(const struct index *index, const char *id)
{
    struct batch_task **found =
        bsearch(id, index->items, index->count, sizeof(struct batch_task *), compare_id);
    return found ? *found : NULL;
}

/* --- what is kept already ------------------------------------------------------------------ */

struct recalling {
    struct batch_tasks *tasks;
    struct batch_sums *sums;
    const struct index *index;
    bool retry_failed;
    int64_t whole; /* bytes of complete lines */
    bool foreign;  /* there is a line that is not ours */
};

/* Reads a line about a run; a later line replaces an earlier one. */
static void recall_run(struct recalling *r, struct batch_run *run, struct batch_task *task,
                       const struct json *line)
{
    if (run->state == RUN_FAILED) {
        run->generation++;
        task->failed--;
        r->sums->failed--;
    } else if (run->state == RUN_OK) {
        return;
    }
    bool ok = client_is_true(line, "success");
    run->state = ok ? RUN_OK : RUN_FAILED;
    run->cost += (float)real_of(line, "cost_usd");
    run->seconds = (float)real_of(line, "duration_seconds");
    *(ok ? &task->ok : &task->failed) += 1;
    *(ok ? &r->sums->ok : &r->sums->failed) += 1;
    r->sums->cost += real_of(line, "cost_usd");
    r->sums->tokens_in += number_of(line, "input_tokens");
    r->sums->tokens_out += number_of(line, "output_tokens");
}

static void recall_line(const char *text, size_t len, size_t whole_len, void *arg)
{
    struct recalling *r = arg;
    struct err ignored;
    AUTO(json) struct json *line = json_parse(text, len, &ignored);
    struct batch_task *task = index_find(r->index, text_of(line, "id"));
    int64_t index = -1;
    r->whole += (int64_t)whole_len + 1;
    json_int(json_get(line, "run"), &index);
    if (!line)
        r->foreign |= len > 0;
    else if (task && index >= 0 && index < task->count)
        recall_run(r, &r->tasks->runs[task->first + (size_t)index], task, line);
}

/* Makes failed runs ready again, as the next generation. */
static void forget_failed(struct recalling *r)
{
    for (size_t i = 0; i < r->tasks->count; i++) {
        struct batch_task *task = &r->tasks->items[i];
        for (size_t k = 0; k < task->count; k++) {
            struct batch_run *run = &r->tasks->runs[task->first + k];
            if (run->state != RUN_FAILED)
                continue;
            run->state = RUN_READY;
            run->generation++;
            task->failed--;
            r->sums->failed--;
        }
    }
}

/* Reads the lines. An incomplete last line, left by a kill, is cut off. */
static int recall(struct batch_results *results, struct recalling *r, struct err *err)
{
    char piece[65536];
    struct lines lines;
    ssize_t n;
    lines_init(&lines, LINE_BYTES_LIMIT, recall_line, r);
    off_t at = 0;
    while ((n = pread(results->file, piece, sizeof(piece), at)) > 0) {
        lines_feed(&lines, piece, (size_t)n);
        at += n;
    }
    lines_done(&lines);
    if (n < 0 || ftruncate(results->file, r->whole))
        return err_sys(err, "cannot read %s/results.jsonl", results->dir);
    results->size = r->whole;
    if (r->foreign)
        return err_set(err, ERR_INVALID, "%.100s/results.jsonl has lines that are none of a batch",
                       results->dir);
    if (r->retry_failed)
        forget_failed(r);
    r->sums->kept_before = r->sums->ok + r->sums->failed;
    return 0;
}

/* --- batch.json ---------------------------------------------------------------------------- */

static int write_meta(struct batch_results *results, const char *path, const char *runner,
                      struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf meta = BUF_INIT(META_MAX);
    id_uuid(results->name);
    json_write(&w, &meta);
    json_open_object(&w, NULL);
    json_add_text(&w, "batch", results->name);
    json_add_text(&w, "runner", runner);
    json_add_time(&w, "createdAt", clock_real_ms());
    json_close(&w);
    buf_addc(&meta, '\n');
    return file_replace(path, buf_str(&meta), meta.len, 0666, err);
}

static int read_meta(struct batch_results *results, const struct batch_options *options,
                     const char *runner, struct err *err)
{
    AUTO(str) char *path = path_join(results->dir, "batch.json");
    AUTO(buf) struct buf text = BUF_INIT(META_MAX);
    if (!path)
        return err_sys(err, "a path");
    if (file_read(path, &text, err))
        return err->code == ERR_NOT_FOUND ? write_meta(results, path, runner, err) : -1;
    AUTO(json) struct json *meta = json_parse(buf_str(&text), text.len, err);
    if (!meta || strlen(text_of(meta, "batch")) != ID_UUID_SIZE - 1)
        return err_set(err, ERR_INVALID, "%.150s is no batch's", path);
    if (!options->resume)
        return err_set(err, ERR_CONFLICT,
                       "%.100s holds a batch already; --resume goes on with it, another --out "
                       "begins a new one",
                       results->dir);
    if (strcmp(text_of(meta, "runner"), runner) != 0)
        return err_set(err, ERR_CONFLICT, "the batch in %.100s was begun at %.100s", results->dir,
                       text_of(meta, "runner"));
    snprintf(results->name, sizeof(results->name), "%s", text_of(meta, "batch"));
    return 0;
}

int batch_results_lock(struct batch_results *results, const char *dir, struct err *err)
{
    *results = (struct batch_results){.lock = -1, .file = -1};
    if (path_make_dirs(dir, 0777, err))
        return -1;
    results->dir = realpath(dir, NULL);
    AUTO(str) char *lock = results->dir ? path_join(results->dir, ".lock") : NULL;
    if (!lock)
        return err_sys(err, "%s", dir);
    if ((results->lock = file_lock(lock, err)) >= 0)
        return 0;
    return err->code == ERR_CONFLICT
               ? err_set(err, ERR_CONFLICT, "another batch is at work in %.100s", results->dir)
               : -1;
}

int batch_results_open(struct batch_results *results, const struct batch_options *options,
                       const char *runner, struct batch_tasks *tasks, struct batch_sums *sums,
                       struct err *err)
{
    struct index index = {0};
    struct recalling r = {
        .tasks = tasks, .sums = sums, .index = &index, .retry_failed = options->retry_failed};
    AUTO(str) char *file = path_join(results->dir, "results.jsonl");
    if (!file)
        return err_sys(err, "%s", options->out);
    if (read_meta(results, options, runner, err))
        return -1;
    results->file = open(file, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (results->file < 0)
        return err_sys(err, "cannot write %.150s", file);
    sums->total = tasks->run_count;
    int rc = index_make(&index, tasks, err) ? -1 : recall(results, &r, err);
    free(index.items);
    return rc;
}

void batch_results_close(struct batch_results *results)
{
    free(results->dir);
    results->dir = NULL;
    fd_close(&results->file);
    fd_close(&results->lock);
}

int batch_results_add(struct batch_results *results, const struct buf *line, struct err *err)
{
    if (buf_check(line, "a result", err))
        return -1;
    if (fd_write_all(results->file, buf_str(line), line->len) == 0) {
        results->size += (int64_t)line->len;
        return 0;
    }
    err_sys(err, "cannot write %.150s/results.jsonl", results->dir);
    if (ftruncate(results->file, results->size))
        err_wrap(err, "a part of a line stays behind");
    return -1;
}

void batch_key(const struct batch_results *results, const struct batch_task *task, size_t index,
               const struct batch_run *run, char key[BATCH_KEY_SIZE])
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf hex = BUF_INIT(128);
    crypto_sha256(task->id, strlen(task->id), digest);
    str_add_hex(&hex, digest, 12);
    snprintf(key, BATCH_KEY_SIZE, "%s/%s/%zu/%u.%u", results->name, buf_str(&hex), index,
             run->generation, run->attempt);
}
