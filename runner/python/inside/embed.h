/*
 * CPython inside a zygote and its children: the only place that includes Python.h.
 *
 * Threads: one.
 */
#ifndef INSIDE_EMBED_H
#define INSIDE_EMBED_H

#include "base/buf.h"
#include "base/err.h"
#include "runner/python/python_wire.h"

#include <stdint.h>

/* Starts the interpreter, with the embedded sources of this folder loaded. */
int embed_start(struct err *err);

/* Imports what a level has beyond the one below; appends what is missing to `ret_missing`. */
int embed_load(enum python_level level, struct buf *ret_missing, struct err *err);

/* Around a clone: before it, and after it on both sides. */
void embed_before_clone(void);
void embed_after_clone_parent(void);
void embed_after_clone_child(void);

/* In a child that is jailed: waits for what to run on `control`, and does it in `scratch`.
 * `data_bytes` is how much private memory it had at its start. */
_Noreturn void embed_serve(int control, int64_t data_bytes, const char *scratch);

const char *embed_level_name(enum python_level level);

#endif
