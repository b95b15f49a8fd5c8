/*
 * GNU tar, which keeps owners, modes, holes and attributes of what tasks and sessions have left.
 *
 * Threads: one. Private to runner/upkeep.
 */
#ifndef UPKEEP_GNUTAR_H
#define UPKEEP_GNUTAR_H

#include "base/err.h"
#include "base/strlist.h"

/* Runs tar with these arguments and waits for it. A file that changed or went while it was read
 * is no error. */
int gnutar_run(const struct strlist *arguments, struct err *err);

#endif
