/*
 * A batch: many tasks, each run n times, and a folder of what came of them. Private to the files
 * batch*.c.
 *
 * Theory of operation. One thread holds everything: a pool of connections, one a run that is under
 * way, each following its task's events from POST /run (or /exec) to `done`. A second thread packs
 * and uploads inputs. What a task asks for lies in a temporary file, so that memory does not grow
 * with the size of prompts.
 *
 *     tasks ──> runs: ready ─> inputs ─> under way ─> outputs ─> kept
 *                        ^──── again (429, a runner that is away, --retries)
 *
 * DIR/batch.json names the batch; the Idempotency-Key of a run is made of that name, the task, the
 * run and the attempt. So whatever moment the client is killed at, --resume sends the same key and
 * gets the same task: nothing runs twice. A run's folder is made beside its place and renamed, then
 * its line is added to DIR/results.jsonl; a run counts as kept once its line is there.
 *
 * Threads: one, but batch_uploads.
 * Ownership: struct batch owns its parts; what a _new function returns is freed by the _free
 * function of the same name, and returned paths are the caller's to free.
 */
#ifndef CLIENT_BATCH_H
#define CLIENT_BATCH_H

#include "base/id.h"
#include "net/net.h"
#include "runner/client/client.h"
#include "runner/client/inputs.h"
#include "runner/client/sse.h"

#include <stdint.h>

#define BATCH_RUNS_MAX 10000000
#define BATCH_TASK_MAX (12u << 20) /* limit of one task */
#define BATCH_KEY_SIZE 128

enum jobs_state { RUN_READY, RUN_UNDER_WAY, RUN_OK, RUN_FAILED, RUN_SKIPPED };

/* One run. Small, because there may be millions. */
struct batch_run {
    uint8_t state;
    uint8_t attempt;     /* failed attempts of this generation that were followed by another */
    uint16_t generation; /* lines of earlier clients about its failures */
    float seconds, cost;
};

struct batch_task {
    char *id;
    char *folder;                  /* the id, escaped where that is needed */
    int64_t at;                    /* offset in the spool: the request's body without its last
                                    * brace, */
    uint32_t body_len, inputs_len; /* followed by the object of input names and paths */
    uint32_t first, count;         /* its runs */
    uint32_t ok, failed;
    bool command;
};

struct batch_tasks {
    struct batch_task *items;
    size_t count, room;
    struct batch_run *runs;
    size_t run_count;
    int spool; /* descriptor */
    int64_t spool_len;
};

/* Values that count for all tasks. */
struct batch_defaults {
    const char *prompt, *command, *model, *executor; /* or NULL */
    int64_t timeout_ms;                              /* 0: none */
    int64_t runs;
};

/* Reads a file of tasks ("-": standard input). Errors name the line or the task. */
int batch_tasks_read(struct batch_tasks *tasks, const char *path,
                     const struct batch_defaults *defaults, struct err *err);
void batch_tasks_done(struct batch_tasks *tasks);
/* Adds one task, a JSON object. `where` names it in errors. For batch_read.c. */
struct batch_reading;
int batch_tasks_add(struct batch_reading *reading, const char *text, size_t len, const char *where,
                    struct err *err);
/* The task of that id, or NULL. */
struct batch_task *batch_tasks_find(struct batch_tasks *tasks, const char *id);

struct batch_options {
    const char *out;
    int parallel, retries;
    double max_cost; /* 0: none */
    double fail_at;  /* how many failed runs are too many; < 0: no limit, but the exit status
                      * tells */
    bool resume, retry_failed, quiet, gitignore;
    const char *title;
};

/* Counts of the whole batch. */
struct batch_sums {
    size_t total, ok, failed, skipped, under_way, kept_before;
    double cost, seconds;
    int64_t tokens_in, tokens_out;
};

/* --- results (batch_results.c) --- */

struct batch_results {
    char *dir;
    int lock, file; /* descriptors */
    int64_t size;   /* of the file */
    char name[ID_UUID_SIZE];
};

/* Makes the folder, or opens an existing one, and locks it against other batches. */
int batch_results_lock(struct batch_results *results, const char *dir, struct err *err);
/* Begins the batch in the locked folder, or continues it: reads which runs are finished. */
int batch_results_open(struct batch_results *results, const struct batch_options *options,
                       const char *runner, struct batch_tasks *tasks, struct batch_sums *sums,
                       struct err *err);
void batch_results_close(struct batch_results *results);
/* Adds a line, completely or not at all. */
int batch_results_add(struct batch_results *results, const struct buf *line, struct err *err);
/* The Idempotency-Key of a run. */
void batch_key(const struct batch_results *results, const struct batch_task *task, size_t index,
               const struct batch_run *run, char key[BATCH_KEY_SIZE]);

/* --- one run's folder (batch_folder.c) --- */

/* A file of it: its beginning is held, so that a short one is written at once. */
struct batch_file {
    const char *name;
    int fd; /* -1: it is not there yet */
    int64_t bytes;
    struct buf held;
};

struct batch_folder {
    char *part, *final; /* temporary and final path */
    struct batch_file transcript, out, errors;
    bool outputs;                     /* there are files below outputs/ */
    bool kept;                        /* it has its final name */
    struct buf response, stderr_text; /* texts for the line of results, bounded */
};

int batch_folder_begin(struct batch_folder *folder, const char *dir, const char *task, size_t run,
                       struct err *err);
/* Add a line that the CLI printed, and a piece of a command's stdout or stderr. */
int batch_folder_line(struct batch_folder *folder, const char *json, size_t len, struct err *err);
int batch_folder_text(struct batch_folder *folder, bool is_stderr, const char *text, size_t len,
                      struct err *err);
/* Forgets what came of the task's events: they come again from the first one. */
int batch_folder_again(struct batch_folder *folder, struct err *err);
/* Where an output of that name goes: its directories are made. NULL with *err. */
char *batch_folder_output(struct batch_folder *folder, const char *name, struct err *err);
/* Writes the rest and renames the folder to its final name. */
int batch_folder_keep(struct batch_folder *folder, struct err *err);
/* Removes the folder's temporary files and frees it. */
void batch_folder_drop(struct batch_folder *folder);

/* --- uploads (batch_uploads.c) --- */

struct batch_uploads;
struct batch_uploads *batch_uploads_new(const struct settings *to, bool gitignore, struct err *err);
void batch_uploads_free(struct batch_uploads *uploads);
/* The digest of a path. Returns 1 when it is known, 0 when it will be (then wake becomes readable),
 * or -1 when the input cannot be uploaded. */
int batch_uploads_get(struct batch_uploads *uploads, const char *path,
                      char digest[INPUTS_DIGEST_SIZE], struct err *err);
int batch_uploads_wake(const struct batch_uploads *uploads); /* a descriptor to poll */
void batch_uploads_count(struct batch_uploads *uploads, struct inputs_count *ret_count);

/* --- the whole batch (batch_loop.c) --- */

struct batch {
    const struct settings *to;
    struct batch_options options;
    struct batch_tasks tasks;
    struct batch_results results;
    struct batch_uploads *uploads;
    struct batch_sums sums;
    struct net_pool *pool;
    struct batch_slot *slots; /* running runs; private to batch_loop.c */
    struct batch_display *display;
    size_t next; /* all runs before it have begun */
    size_t ready;
    double limit; /* how many may run now */
    int64_t begun_ms, pause_until_ms, away_since_ms;
    int pause_ms;
    int gather_ms, moved; /* pieces that have come since the last look */
    bool stopping;        /* no more runs are begun */
    const char *why;      /* why it stops, or NULL */
    struct err fatal;
    bool awaits_inputs; /* the next run's inputs are not uploaded yet */
};

/* Runs everything that is left. Returns 0, or -1 when it cannot go on (finished runs stay). */
int batch_loop(struct batch *batch, struct err *err);

/* A running run, for the display. */
struct batch_view {
    const char *task;
    size_t run;
    int64_t begun_ms;
    const char *doing;
};
size_t batch_views(const struct batch *batch, struct batch_view *views, size_t max);

/* --- the display (batch_display.c) --- */

struct batch_display *batch_display_new(const struct batch *batch);
void batch_display_free(struct batch_display *display);
/* Redraws when it is time; prints a line for a run that has ended. */
void batch_display_tick(struct batch_display *display, const struct batch *batch, bool now);
void batch_display_ended(struct batch_display *display, const struct batch *batch,
                         const struct batch_task *task, size_t run, bool ok, double seconds,
                         double cost, const char *error);
/* True when it draws again and again. */
bool batch_display_lives(const struct batch_display *display);
/* Takes the drawing away. */
void batch_display_clear(struct batch_display *display);

/* --- the report (batch_report.c) --- */

/* Writes summary.md and report.html into the folder, and the summary to `out`. */
int batch_report(const struct batch *batch, FILE *out, bool json, struct err *err);

#endif
