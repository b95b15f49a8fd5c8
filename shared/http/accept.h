/*
 * What the Accept headers of a request say about a media type.
 *
 * Threads: no shared state.
 */
#ifndef HTTP_ACCEPT_H
#define HTTP_ACCEPT_H

#include "http/head.h"

/* True when the type may be sent; the closest of the ranges that fit decides. No header takes all.
 */
bool accept_takes(const struct head *head, const char *type);

/* True when the type itself is listed, not only a range with stars, and wanted. */
bool accept_names(const struct head *head, const char *type);

#endif
