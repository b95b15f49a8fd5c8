/*
 * Identifiers from the kernel's random numbers.
 *
 * Threads: any.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stddef.h>

#define ID_SIZE 65 /* the longest id a caller may choose, and its NUL */
#define ID_UUID_SIZE 37
#define ID_TOKEN_SIZE 44

void id_random(void *data, size_t len);

/* A new id that sorts by time of creation: 26 characters of Crockford base 32. */
void id_new(char id[ID_SIZE]);

/* A random (version 4) UUID. */
void id_uuid(char uuid[ID_UUID_SIZE]);

/* A secret of 256 bits in URL-safe base64. */
void id_token(char token[ID_TOKEN_SIZE]);

/* 1..64 characters of A-Z a-z 0-9 . _ ~ - that do not begin with '.' or '-'. */
bool id_is_valid(const char *id);

#endif
