/*
 * Prints JSON as JavaScript's JSON.stringify(JSON.parse(text)) does: compact, with the same numbers
 * and escapes, names that look like array indexes first and in their order. Receivers verify a
 * signature over what they print again, so the body must have exactly that form.
 *
 * Threads: no state.
 */
#ifndef WEBHOOK_STRINGIFY_H
#define WEBHOOK_STRINGIFY_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the JSON text in that form; -1 when it is not JSON, or out is full. */
int stringify(const char *text, size_t len, struct buf *out, struct err *err);

/* Appends a number as JavaScript prints it: the shortest digits that identify it, with an exponent
 * from 1e+21 on and below 1e-6. */
void stringify_number(double number, struct buf *out);

#endif
