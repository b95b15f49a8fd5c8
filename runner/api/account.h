/*
 * The account that tasks run under, as the login page shows it: whether it works, and what a person
 * can do about it.
 *
 * Threads: any. Ownership: struct account owns nothing.
 */
#ifndef API_ACCOUNT_H
#define API_ACCOUNT_H

#include "base/buf.h"
#include "runner/oauth/breaker.h"
#include "runner/oauth/keeper.h"
#include "runner/oauth/usage.h"

#include <stdbool.h>

struct api;

struct account {
    struct keeper_status login;
    struct breaker_status breaker;
    bool has_key; /* tasks use an API key */
    struct usage_reading usage[USAGE_WINDOWS];
};

void account_look(struct api *api, struct account *ret_account);

/* True when a new login would not improve anything. */
bool account_is_fine(const struct account *account);

/* Appends the account as HTML. */
void account_print(const struct account *account, struct buf *out);

#endif
