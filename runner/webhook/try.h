/*
 * One try to deliver one webhook. Private to runner/webhook.
 *
 * Threads: the worker that has the webhook's host. Ownership: everything is borrowed; a result owns
 * nothing.
 */
#ifndef WEBHOOK_TRY_H
#define WEBHOOK_TRY_H

#include "runner/webhook/webhook.h"

struct try_result {
    struct webhook_try noted; /* `error` points to the text below */
    char error[240];
};

/* Sends the webhook and says what to store. `stop` cancels it: then the result is a failure that
 * must not be stored. */
void try_webhook(const struct webhook_config *config, const struct webhook_record *record,
                 bool (*stop)(void *arg), void *arg, struct try_result *ret_result);

#endif
