/*
 * Finds variables that look like our settings but are not. Private to runner/config.
 *
 * Threads: no shared state.
 */
#ifndef CONFIG_UNKNOWN_H
#define CONFIG_UNKNOWN_H

#include "runner/config/vars.h"

/* Adds a warning, with the nearest name, for every name that has a prefix of ours but no row. */
void unknown_warn(const struct vars *vars, struct strlist *warnings);

#endif
