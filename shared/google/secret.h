/*
 * Secret Manager: reading a secret's version.
 *
 * Threads: any.
 */
#ifndef GOOGLE_SECRET_H
#define GOOGLE_SECRET_H

#include "google/google.h"

#define SECRET_VERSION_SIZE 64
#define SECRET_BYTES_MAX 65536

/* Appends the payload of projects/P/secrets/S (its newest version) or …/versions/V, checksum
 * checked; the number of the version goes to ret_version (or NULL). */
int google_secret(struct google *google, const char *name, struct buf *out,
                  char ret_version[SECRET_VERSION_SIZE], struct err *err);

#endif
