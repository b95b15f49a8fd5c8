/*
 * What tasks, commands and sessions work on, uploaded once: archives that are named by the SHA-256
 * of their bytes.
 *
 * Theory of operation. An upload is hashed while it is written beside the others and gets its name
 * when the hash is the one that was promised; so whatever has a name is whole and right. Uploads of
 * one name at once are one: who comes second waits, and sends nothing more when the first was well.
 *
 *     inputs/HASH            the archive as it came
 *     inputs/tree-HASH/      the same unpacked, made when the first task wants it (unpacked.c)
 *     inputs/.part…          what is not whole yet
 *
 * When there is more than INPUTS_MAX_MB, those go that were used longest ago (room.c). Never one
 * that is in use now (input_hold()), or that a task which waits or runs names in its request: those
 * are read from the store whenever room is made, so that a restart forgets none.
 *
 * Threads: any.
 * Ownership: the caller of input_store_new() frees it by input_store_free().
 */
#ifndef INPUTS_INPUTS_H
#define INPUTS_INPUTS_H

#include "base/err.h"
#include "runner/config/in_force.h"
#include "runner/store/store.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define INPUT_NAME_SIZE 65 /* 64 hexadecimal digits in lower case, and a NUL */

struct inputs;

struct inputs_config {
    struct config_in_force *config; /* borrowed, as everything here */
    const char *state_dir;
    struct store *store; /* whose tasks name inputs; NULL: no tasks */
    uid_t uid;           /* user that tasks run as */
    gid_t gid;
};

struct inputs *input_store_new(const struct inputs_config *config, struct err *err);
void input_store_free(struct inputs *inputs);

/* Reads a name, with or without "sha256:" before it. Returns 0 or -1. */
int input_name(const char *text, char ret_name[INPUT_NAME_SIZE]);

/* Opens an input for reading and marks it as used. Returns a descriptor that the caller closes,
 * with its size; -1 with ERR_NOT_FOUND. */
int input_open(struct inputs *inputs, const char *name, int64_t *ret_size, struct err *err);

/* Keeps an input from being evicted until input_drop(), and marks it as used. ERR_NOT_FOUND. */
int input_hold(struct inputs *inputs, const char *name, struct err *err);
void input_drop(struct inputs *inputs, const char *name);

/* Reads an upload from next(), which works as http_read(). *ret_made is false when the input
 * existed. ERR_MISMATCH: the bytes do not have this hash. ERR_TOO_LARGE: more than INPUTS_MAX_MB.
 * ERR_NO_SPACE: inputs that tasks need leave no room for it, or the disk is full. */
int input_put(struct inputs *inputs, const char *name,
              ssize_t (*next)(char *to, size_t max, void *arg, struct err *err), void *arg,
              bool *ret_made, int64_t *ret_size, struct err *err);

#endif
