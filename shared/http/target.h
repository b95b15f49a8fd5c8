/*
 * The target of a request: path and query, decoded and checked.
 *
 * Threads: no shared state. Ownership: results point into the text that was given.
 */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include "http/head.h"

/* Splits and decodes `target` in place: head->path and head->query. The form must fit the method:
 * "*" goes with OPTIONS only; "http://host/path" is taken as its path. */
int target_parse(char *target, struct head *head, struct err *err);

/* Decodes one name or value of a query or a form in place; `what` is for the message. */
int target_decode(char *text, const char *what, struct err *err);

#endif
