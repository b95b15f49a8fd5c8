/*
 * What the Accept headers of a request say about a media type.
 *
 * Threads: no shared state.
 */
#ifndef HTTP_ACCEPT_H
#define HTTP_ACCEPT_H

#include "http/head.h"

/* True when the type may be sent; the most exact range that fits decides. Without the header every
 * type may be sent. */
bool accept_takes(const struct head *head, const char *type);

/* True when the type itself is listed and wanted, not only a range with stars. */
bool accept_names(const struct head *head, const char *type);

#endif
