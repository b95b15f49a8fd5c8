/*
 * Runs what is left of a batch: begins runs while there is room, keeps those that end, waits when
 * the runner says so.
 *
 * The number of runs at once adapts: a 429 (or 503) halves it and stops everything for the time of
 * Retry-After; each run that ends well adds a little, up to --parallel.
 */
#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "runner/client/batch_slot.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DRAW_MS 100
#define TICK_MS 1000
#define GATHER_FROM 16 /* runs under way */
#define GATHER_MIN_MS 5
#define GATHER_MAX_MS 40
#define GATHER_ENOUGH 4 /* pieces that came */
#define AWAY_MS 600000  /* how long a runner may be unreachable */
#define PAUSE_FIRST_MS 250
#define PAUSE_MAX_MS 30000
#define LINE_MAX_BYTES (160u << 20)

/* --- told by slots ------------------------------------------------------------------------- */

void batch_broke(struct batch *b, const struct err *err)
{
    if (b->fatal.code != ERR_NONE)
        return;
    b->fatal = *err;
    if (b->fatal.code == ERR_NONE)
        b->fatal.code = ERR_INTERNAL;
    b->stopping = true;
}

void batch_answered(struct batch *b)
{
    b->away_since_ms = 0;
}

static void make_ready(struct batch *b, const struct batch_slot *s)
{
    size_t index = s->task->first + s->run;
    b->tasks.runs[index].state = RUN_READY;
    b->ready++;
    b->sums.under_way--;
    if (index < b->next)
        b->next = index;
}

static void hold(struct batch *b, int retry_after_s)
{
    int64_t now = clock_mono_ms();
    int pause = b->pause_ms ? b->pause_ms : PAUSE_FIRST_MS;
    if (retry_after_s == 0 && now < b->pause_until_ms)
        return; /* Runs that were refused at the same time count once. */
    int64_t until = now + (retry_after_s > 0 ? retry_after_s * INT64_C(1000) : pause);
    b->pause_ms = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
    if (until > b->pause_until_ms)
        b->pause_until_ms = until;
}

void batch_slot_refused(struct batch_slot *s)
{
    struct batch *b = s->batch;
    if (clock_mono_ms() >= b->pause_until_ms)
        b->limit = b->limit / 2 > 1 ? b->limit / 2 : 1;
    hold(b, s->retry_after_s);
    make_ready(b, s);
    slot_drop(s);
}

void batch_slot_unanswered(struct batch_slot *s)
{
    struct batch *b = s->batch;
    struct err err;
    int64_t now = clock_mono_ms();
    if (b->away_since_ms == 0) {
        b->away_since_ms = now;
        batch_display_clear(b->display);
        fprintf(stderr, "%s does not answer: trying for %d minutes\n", b->to->url, AWAY_MS / 60000);
    }
    hold(b, 0);
    if (now - b->away_since_ms > AWAY_MS) {
        err_set(&err, ERR_UPSTREAM, "%s has been away for too long", b->to->url);
        batch_broke(b, &err);
    }
}

/* --- a run's end --------------------------------------------------------------------------- */

static int64_t tokens_in(const struct json *end)
{
    const struct json *usage = json_get(end, "usage");
    return number_of(usage, "input_tokens") + number_of(usage, "cache_creation_input_tokens") +
           number_of(usage, "cache_read_input_tokens");
}

/* The price of an execution at Cloud Run: list prices in USD (jobs, tier 1), without free
 * quotas. */
static double cloud_cost(const struct json *cloud)
{
    return real_of(cloud, "vcpuSeconds") * 0.000018 + real_of(cloud, "gibSeconds") * 0.000002;
}

/* The outcome of a run. */
struct outcome {
    bool ok;
    long long code;
    double seconds, cost, cloud_cost; /* the cloud's cost is in `cost` */
    int64_t in, out;
    const char *error;
};

static void find_outcome(struct batch_slot *s, struct outcome *o)
{
    const struct json *end = s->end;
    *o = (struct outcome){.ok = end && !s->error[0] && client_is_true(end, "success"),
                          .code = end ? number_of(end, "exit_code") : 1,
                          .seconds = end ? (double)number_of(end, "duration_ms") / 1000
                                         : (double)(clock_mono_ms() - s->begun_ms) / 1000,
                          .cost = real_of(end, "total_cost_usd"),
                          .in = tokens_in(end),
                          .out = number_of(json_get(end, "usage"), "output_tokens")};
    o->cloud_cost = cloud_cost(json_get(end, "cloud"));
    o->cost += o->cloud_cost;
    o->error = s->error[0] ? s->error : o->ok ? "" : text_of(end, "error");
    if (!o->ok && o->code == 0)
        o->code = 1;
    const char *output = text_of(end, "output");
    if (s->folder.out.bytes == 0 && s->folder.response.len == 0 && *output)
        buf_adds(&s->folder.response, output);
    if (s->folder.stderr_text.len == 0 && *text_of(end, "stderr"))
        buf_adds(&s->folder.stderr_text, text_of(end, "stderr"));
}

/* Adds a path in the run's folder, or null. */
static void add_path(struct json_writer *w, const char *member, const struct batch_slot *s,
                     const char *name, bool there)
{
    AUTO(buf) struct buf path = BUF_INIT(8192);
    buf_addf(&path, "%s/%s", s->folder.final, name);
    json_add_text(w, member, there ? buf_str(&path) : NULL);
}

/* Writes the line of results.jsonl: the documented members, then further ones. */
static void write_line(const struct batch_slot *s, const struct outcome *o,
                       const struct batch_run *run, struct buf *line)
{
    struct json_writer w;
    const char *reason = text_of(s->end, "reason");
    json_write(&w, line);
    json_open_object(&w, NULL);
    json_add_text(&w, "id", s->task->id);
    json_add_int(&w, "run", (int64_t)s->run);
    json_add_text(&w, "task_id", s->task_id[0] ? s->task_id : NULL);
    json_add_bool(&w, "success", o->ok);
    json_add_textn(&w, "response", buf_str(&s->folder.response), s->folder.response.len);
    json_add_text(&w, "error", *o->error ? o->error : NULL);
    json_add_int(&w, "returncode", o->code);
    json_add_number(&w, "duration_seconds", o->seconds);
    json_add_number(&w, "cost_usd", o->cost);
    if (o->cloud_cost > 0)
        json_add_number(&w, "cloud_cost_usd", o->cloud_cost);
    add_path(&w, "output_dir", s, "outputs", s->folder.outputs);
    add_path(&w, "transcript", s, "transcript.jsonl", s->folder.transcript.bytes > 0);
    json_add_textn(&w, "stderr", buf_str(&s->folder.stderr_text), s->folder.stderr_text.len);
    json_add_text(&w, "reason", *reason ? reason : NULL);
    json_add_int(&w, "attempts", run->attempt + 1);
    json_add_int(&w, "num_turns", number_of(s->end, "num_turns"));
    json_add_int(&w, "input_tokens", o->in);
    json_add_int(&w, "output_tokens", o->out);
    json_close(&w);
    buf_addc(line, '\n');
}

static int keep(struct batch_slot *s, const struct outcome *o, struct batch_run *run,
                struct err *err)
{
    AUTO(buf) struct buf line = BUF_INIT(LINE_MAX_BYTES);
    write_line(s, o, run, &line);
    if (buf_check(&line, "a result", err) || batch_folder_keep(&s->folder, err))
        return -1;
    return batch_results_add(&s->batch->results, &line, err);
}

static void add_sums(struct batch *b, struct batch_task *task, struct batch_run *run,
                     const struct outcome *o)
{
    run->state = o->ok ? RUN_OK : RUN_FAILED;
    run->seconds = (float)o->seconds;
    run->cost += (float)o->cost;
    *(o->ok ? &task->ok : &task->failed) += 1;
    *(o->ok ? &b->sums.ok : &b->sums.failed) += 1;
    b->sums.under_way--;
}

/* Stops beginning runs when the batch has cost or failed too much. */
static void check_limits(struct batch *b)
{
    const struct batch_options *o = &b->options;
    if (b->stopping)
        return;
    if (o->max_cost > 0 && b->sums.cost >= o->max_cost)
        b->why = "--max-cost is reached";
    else if (o->fail_at >= 0 && (double)b->sums.failed > o->fail_at)
        b->why = "too many runs have failed (--fail-on-error)";
    b->stopping = b->why != NULL;
}

void batch_slot_ended(struct batch_slot *s)
{
    struct batch *b = s->batch;
    struct batch_task *task = s->task;
    struct batch_run *run = &b->tasks.runs[task->first + s->run];
    size_t number = s->run;
    struct outcome o;
    struct err err;
    find_outcome(s, &o);
    b->pause_ms = 0;
    b->sums.cost += o.cost;
    b->sums.tokens_in += o.in;
    b->sums.tokens_out += o.out;
    if (!o.ok && s->end && run->attempt < b->options.retries && !b->stopping) {
        run->attempt++;
        run->cost += (float)o.cost;
        make_ready(b, s);
    } else if (keep(s, &o, run, &err)) {
        batch_broke(b, &err);
        return; /* The slot keeps the folder until it is dropped. */
    } else {
        add_sums(b, task, run, &o);
        batch_display_ended(b->display, b, task, number, o.ok, o.seconds, o.cost, o.error);
        if (o.ok && b->limit < b->options.parallel)
            b->limit += 1 / b->limit > 0.02 ? 1 / b->limit : 0.02;
    }
    check_limits(b);
    slot_drop(s);
}

/* --- beginning ----------------------------------------------------------------------------- */

/* Adds the digests of a task's inputs as a member of its request. Returns 1, or 0 when they are not
 * known yet. */
static int add_inputs(struct batch *b, const struct json *inputs, struct buf *body, struct err *err)
{
    struct json_writer w;
    char digest[INPUTS_DIGEST_SIZE];
    int all = 1;
    AUTO(buf) struct buf object = BUF_INIT(1u << 20);
    json_write(&w, &object);
    json_open_object(&w, NULL);
    for (const struct json *at = json_first(inputs); at; at = json_next(at)) {
        const char *path = json_text(at);
        bool known = str_starts(path, "sha256:");
        int got = known ? 1 : batch_uploads_get(b->uploads, path, digest, err);
        if (got < 0)
            return -1;
        all &= got;
        if (got)
            json_add_text(&w, json_name(at), known ? path : digest);
    }
    json_close(&w);
    buf_addf(body, ",\"inputs\":");
    buf_add(body, buf_str(&object), object.len);
    return all;
}

/* Makes the body of a task's request. Returns 1, 0 when it must wait for inputs, or -1. */
static int make_body(struct batch *b, const struct batch_task *task, struct buf *body,
                     struct err *err)
{
    AUTO(buf) struct buf inputs = BUF_INIT(BATCH_TASK_MAX);
    char *to = buf_room(body, task->body_len), *names = buf_room(&inputs, task->inputs_len + 1);
    int rc = 1;
    if (!to || !names ||
        fd_pread_full(b->tasks.spool, to, task->body_len, task->at) != task->body_len ||
        fd_pread_full(b->tasks.spool, names, task->inputs_len, task->at + task->body_len) !=
            task->inputs_len)
        return err_sys(err, "cannot read a temporary file");
    buf_grew(body, task->body_len);
    buf_grew(&inputs, task->inputs_len);
    if (task->inputs_len > 0) {
        AUTO(json) struct json *object = json_parse(buf_str(&inputs), inputs.len, err);
        rc = object ? add_inputs(b, object, body, err) : -1;
    }
    buf_addc(body, '}');
    return buf_ok(body) ? rc : err_sys(err, "a request");
}

static struct batch_slot *free_slot(struct batch *b)
{
    for (int i = 0; i < b->options.parallel; i++)
        if (!b->slots[i].batch)
            return &b->slots[i];
    return NULL;
}

static struct batch_task *task_of(struct batch *b, size_t index)
{
    size_t low = 0, high = b->tasks.count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (b->tasks.items[middle].first <= index)
            low = middle;
        else
            high = middle;
    }
    return &b->tasks.items[low];
}

/* Begins the next run that is ready. False when none can begin now. */
static bool begin_next(struct batch *b)
{
    struct err err = ERR_INIT;
    AUTO(buf_wipe) struct buf body = BUF_INIT(BATCH_TASK_MAX * 2);
    while (b->next < b->tasks.run_count && b->tasks.runs[b->next].state != RUN_READY)
        b->next++;
    struct batch_slot *slot = b->next < b->tasks.run_count ? free_slot(b) : NULL;
    if (!slot)
        return false;
    struct batch_task *task = task_of(b, b->next);
    size_t run = b->next - task->first;
    int rc = make_body(b, task, &body, &err);
    b->awaits_inputs |= rc == 0;
    if (rc == 0)
        return false;
    b->tasks.runs[b->next++].state = RUN_UNDER_WAY;
    b->ready--;
    b->sums.under_way++;
    struct err begun = ERR_INIT;
    if (slot_begin(slot, b, task, run, &body, &begun)) {
        batch_broke(b, &begun);
        return false;
    }
    if (rc < 0) { /* Its inputs cannot be uploaded, so the run has failed. */
        net_pool_cancel(b->pool, slot->flow);
        slot->flow = NULL;
        snprintf(slot->error, sizeof(slot->error), "%s", err.msg);
        batch_slot_ended(slot);
    }
    return true;
}

static void begin_more(struct batch *b)
{
    while (!b->stopping && b->ready > 0 && (double)b->sums.under_way < b->limit &&
           clock_mono_ms() >= b->pause_until_ms)
        if (!begin_next(b))
            return;
}

/* --- the loop ------------------------------------------------------------------------------ */

static void connect_again(struct batch *b)
{
    int64_t now = clock_mono_ms();
    struct err err;
    for (int i = 0; i < b->options.parallel; i++) {
        struct batch_slot *s = &b->slots[i];
        if (s->batch && !s->flow && s->again_ms > 0 && now >= s->again_ms) {
            s->again_ms = 0;
            if (slot_connect(s, &err))
                batch_broke(b, &err);
        }
    }
}

/* The first Ctrl-C stops beginning runs, the second leaves; so does the first while the runner is
 * unreachable. True: leave. */
static bool heed_signals(struct batch *b)
{
    if (client_signals == 0)
        return false;
    if (!b->stopping) {
        b->stopping = true;
        b->why = "interrupted";
        batch_display_clear(b->display);
        if (!b->away_since_ms)
            fprintf(stderr,
                    "\nwaiting for %zu runs that are under way; press Ctrl-C again to leave "
                    "them (--resume finds them)\n",
                    b->sums.under_way);
        client_signals = 1;
    }
    return client_signals > 1 || b->away_since_ms > 0;
}

static int prepare(struct batch *b, struct err *err)
{
    b->slots = calloc((size_t)b->options.parallel, sizeof(*b->slots));
    if (!b->slots)
        return err_sys(err, "runs");
    b->limit = b->options.parallel;
    b->gather_ms = GATHER_MIN_MS;
    b->begun_ms = clock_mono_ms();
    for (size_t i = 0; i < b->tasks.run_count; i++)
        b->ready += b->tasks.runs[i].state == RUN_READY;
    b->pool = net_pool_new(err);
    b->uploads = b->pool ? batch_uploads_new(b->to, b->options.gitignore, err) : NULL;
    return b->uploads ? 0 : -1;
}

static void sooner(int64_t due_ms, int64_t now, int *wait_ms)
{
    if (due_ms > 0 && due_ms - now < *wait_ms)
        *wait_ms = due_ms > now ? (int)(due_ms - now) : 0;
}

/* Until the next thing that is due without anything coming. */
static int wait_ms(const struct batch *b)
{
    int wait = batch_display_lives(b->display) ? DRAW_MS : TICK_MS;
    int64_t now = clock_mono_ms();
    if (b->ready > 0 && !b->stopping)
        sooner(b->pause_until_ms > now ? b->pause_until_ms : 0, now, &wait);
    for (int i = 0; i < b->options.parallel; i++)
        if (b->slots[i].batch && !b->slots[i].flow)
            sooner(b->slots[i].again_ms, now, &wait);
    return wait;
}

/* What costs is waking up, so with many runs under way what comes of them is taken together: the
 * longer, the less comes. */
static void gather(struct batch *b)
{
    int longer = b->gather_ms * 2, shorter = b->gather_ms / 2;
    if (b->moved >= GATHER_ENOUGH)
        b->gather_ms = shorter > GATHER_MIN_MS ? shorter : GATHER_MIN_MS;
    else
        b->gather_ms = longer < GATHER_MAX_MS ? longer : GATHER_MAX_MS;
    b->moved = 0;
    if (b->sums.under_way >= GATHER_FROM)
        poll(NULL, 0, b->gather_ms);
}

static int move(struct batch *b, struct err *err)
{
    eventfd_t ignored;
    check_limits(b);
    while (b->sums.under_way > 0 || (b->ready > 0 && !b->stopping)) {
        begin_more(b);
        gather(b);
        if (net_pool_wait(b->pool, wait_ms(b), batch_uploads_wake(b->uploads), err))
            return -1;
        if (b->awaits_inputs)
            eventfd_read(batch_uploads_wake(b->uploads), &ignored);
        b->awaits_inputs = false;
        connect_again(b);
        batch_display_tick(b->display, b, false);
        if (b->fatal.code != ERR_NONE) {
            *err = b->fatal;
            return -1;
        }
        if (heed_signals(b))
            return 0;
    }
    return 0;
}

int batch_loop(struct batch *b, struct err *err)
{
    int rc = prepare(b, err) ? -1 : move(b, err);
    for (int i = 0; b->slots && i < b->options.parallel; i++)
        slot_drop(&b->slots[i]);
    free(b->slots);
    b->slots = NULL;
    net_pool_free(b->pool);
    batch_uploads_free(b->uploads);
    b->pool = NULL;
    b->uploads = NULL;
    b->sums.skipped = b->sums.total - b->sums.ok - b->sums.failed;
    return rc;
}

size_t batch_views(const struct batch *b, struct batch_view *views, size_t max)
{
    size_t count = 0;
    for (int i = 0; b->slots && i < b->options.parallel && count < max; i++) {
        const struct batch_slot *s = &b->slots[i];
        if (s->batch)
            views[count++] = (struct batch_view){s->task->id, s->run, s->begun_ms,
                                                 s->again_ms > 0           ? "waits for the runner"
                                                 : s->phase != SLOT_STREAM ? "outputs"
                                                 : s->doing[0]             ? s->doing
                                                 : s->task_id[0]           ? "runs"
                                                                           : "begins"};
    }
    return count;
}
