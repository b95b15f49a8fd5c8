/*
 * What the stand-in for Google's APIs remembers: JSON documents by name, in order of their names,
 * in a folder that outlives the process. Every change is one line of a journal, so that a kill
 * between two changes loses nothing that was answered.
 *
 * Names begin with their kind: "gcs:b/BUCKET", "run:projects/…". Threads: the caller holds
 * store_lock() around every other call and as long as it uses a borrowed document.
 */
#ifndef DOUBLES_GOOGLE_STORE_H
#define DOUBLES_GOOGLE_STORE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens (or makes) the folder and reads what is there. False with errno. */
bool store_open(const char *folder);
/* A file of the folder, in fresh memory. */
char *store_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

void store_lock(void);
void store_unlock(void);

/* Borrowed; NULL when there is none. */
cJSON *store_get(const char *name);
cJSON *store_getf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Takes over the document; what was there is freed. The same document changed in place is written
 * down by giving it again. */
void store_put(const char *name, cJSON *document);
/* False when there was none. */
bool store_delete(const char *name);
/* With everything that begins with the prefix; how many. */
size_t store_delete_all(const char *prefix);

/* The first document whose name is at or after this one: its place. */
size_t store_seek(const char *name);
/* The document at a place; NULL after the last. */
cJSON *store_at(size_t place, const char **ret_name);
/* The same as long as the names begin with the prefix. */
cJSON *store_at_prefix(size_t place, const char *prefix, const char **ret_name);

/* A number that was never given before, over restarts as well; it grows with time. */
int64_t store_serial(void);

/* Milliseconds since 1970, and such a time as Google writes it. */
int64_t store_now_ms(void);
void store_time(int64_t ms, char out[40]);

#endif
