/*
 * Small facts that are stored sealed under the store's key file, by name: keys, and other things
 * that nobody should read in the database. Names: "push:key", "push:sub:ID".
 *
 * Threads: any. Ownership: everything is borrowed.
 */
#ifndef STORE_SEALED_H
#define STORE_SEALED_H

#include "runner/store/store.h"

#define SEALED_TEXT_MAX 16384

/* Stores a text under a name of at most 100 bytes and replaces an earlier one; NULL deletes it. The
 * change is on disk when this returns. */
int sealed_set(struct store *store, const char *name, const char *text, struct err *err);

/* Calls fn for each fact whose name begins with `prefix`, in the order of names. Facts that were
 * sealed with another key file are skipped. fn must not use the store. */
int sealed_each(struct store *store, const char *prefix,
                void (*fn)(const char *name, const char *text, void *arg), void *arg,
                struct err *err);

#endif
