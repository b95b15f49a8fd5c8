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

/* Imports the libraries of a level beyond the one below; appends missing ones to `ret_missing`. */
int embed_load(enum python_level level, struct buf *ret_missing, struct err *err);

/* Call around a clone: before it, and after it on both sides. */
void embed_before_clone(void);
void embed_after_clone_parent(void);
void embed_after_clone_child(void);

/* In a jailed child: waits on `control` for code and runs it in `scratch`. `data_bytes` is its
 * private memory at the start. */
_Noreturn void embed_serve(int control, int64_t data_bytes, const char *scratch);

const char *embed_level_name(enum python_level level);

#endif
