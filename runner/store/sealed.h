/*
 * Small facts that are kept sealed under the store's key file, by name: keys, and what else is not
 * to be read in the database. "push:key", "push:sub:ID".
 *
 * Threads: any.
 */
#ifndef STORE_SEALED_H
#define STORE_SEALED_H

#include "runner/store/store.h"

#define SEALED_TEXT_MAX 16384

/* Keeps a text under a name of at most 100 bytes, in the place of an earlier one; NULL: none any
 * more. On the disk when it returns. */
int sealed_set(struct store *store, const char *name, const char *text, struct err *err);

/* Calls fn for each whose name begins with `prefix`, in the order of names. What was sealed with
 * another key file is passed over. fn must not use the store. */
int sealed_each(struct store *store, const char *prefix,
                void (*fn)(const char *name, const char *text, void *arg), void *arg,
                struct err *err);

#endif
