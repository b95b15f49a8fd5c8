/*
 * One try to deliver one webhook. Private to runner/webhook.
 *
 * Threads: the worker that has the webhook's host.
 */
#ifndef WEBHOOK_TRY_H
#define WEBHOOK_TRY_H

#include "runner/webhook/webhook.h"

struct try_result {
    struct webhook_try noted; /* `error` points to the text below */
    char error[240];
};

/* Sends it and says what is to be noted. `stop` breaks it off: then the result is a failure that is
 * not to be noted. */
void try_webhook(const struct webhook_config *config, const struct webhook_record *record,
                 bool (*stop)(void *arg), void *arg, struct try_result *ret_result);

#endif
