/*
 * The headers by which a receiver knows that a webhook is ours, in two styles with one secret:
 *
 *     X-Webhook-Timestamp: 1763680000          Standard Webhooks (standardwebhooks.com):
 *     X-Webhook-Signature: sha256=<hex>        webhook-id: msg_…
 *                                              webhook-timestamp: 1763680000
 *                                              webhook-signature: v1,<base64>
 *
 * HMAC-SHA256 over "timestamp.body", and over "id.timestamp.body". The key of the first is the
 * secret as it is written. The key of the second is what the text behind "whsec_" is the base64 of,
 * when the secret has that form, else the secret as it is written.
 *
 * Threads: no shared state.
 */
#ifndef WEBHOOK_SIGN_H
#define WEBHOOK_SIGN_H

#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdint.h>

/* Adds the five headers. */
int sign_webhook(const char *secret, const char *id, int64_t seconds, const struct buf *body,
                 struct strlist *headers, struct err *err);

#endif
