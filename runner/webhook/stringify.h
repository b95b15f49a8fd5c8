/*
 * JSON as JavaScript's JSON.stringify(JSON.parse(text)) prints it: compact, numbers and escapes as
 * there, names that look like array indexes first and in their order. Receivers check a signature
 * over what they print again, so the body has to be in that very form.
 *
 * Threads: no state.
 */
#ifndef WEBHOOK_STRINGIFY_H
#define WEBHOOK_STRINGIFY_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the JSON text in that form; -1 when it is no JSON, or out is full. */
int stringify(const char *text, size_t len, struct buf *out, struct err *err);

/* Appends a number as JavaScript prints it: the shortest digits that mean it, 1e+21 and beyond and
 * below 1e-6 with an exponent. */
void stringify_number(double number, struct buf *out);

#endif
