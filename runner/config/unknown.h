/*
 * Finds variables that look like settings of ours and are none. Private to runner/config.
 *
 * Threads: no shared state.
 */
#ifndef CONFIG_UNKNOWN_H
#define CONFIG_UNKNOWN_H

#include "runner/config/vars.h"

/* Adds a warning for every name with a prefix of ours that no row has, with the nearest name. */
void unknown_warn(const struct vars *vars, struct strlist *warnings);

#endif
