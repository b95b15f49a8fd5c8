/*
 * Keeps the files of a workspace that match patterns, in a directory of their own: by a second name
 * where that is possible, else as copies. Called in a helper process, as the task's user: what that
 * user may not read is not kept.
 *
 * Threads: one at a time. Ownership: everything is borrowed.
 */
#ifndef REPO_COLLECT_H
#define REPO_COLLECT_H

#include "base/err.h"
#include "base/strlist.h"
#include "json/json.h"

#include <stdint.h>

#define COLLECT_FILES_MAX 1000
#define COLLECT_OUTPUT_MAX 100000 /* files of an output folder */
#define COLLECT_BYTES_MAX (INT64_C(4) << 30)

/* Collects files. Links are neither followed nor kept, and .git is skipped. Adds
 * "files":[{"path","size"}] and "skipped":N (past a limit, or unreadable) to w; of the files past a
 * limit it names the largest as "leftPath" and "leftBytes". */
int collect_files(const char *work, const struct strlist *patterns, const char *to,
                  struct json_writer *w, struct err *err);

/* Collects all files below work/HARVEST_OUTPUT, with paths relative to it, that changed since
 * since_ms (real; 0: all) and are not in `to` already. Adds
 * "output":{"files":N,"bytes":N,"skipped":N}. */
int collect_output(const char *work, int64_t since_ms, const char *to, struct json_writer *w,
                   struct err *err);

#endif
