/*
 * Conversations on their way: what the CLI keeps of one (claude/conversation.h) goes with a task to
 * the cloud, and comes home with its result, as one archive each.
 *
 *     home   conversations/ID/ ── travel_send ──▶ before.tgz ── travel_take ──▶ conversations/ID/
 *     home   conversations/ID/ ◀── travel_take ── conversation.tgz ◀── travel_send ──   job
 *
 * Threads: any, one at a time for a conversation.
 */
#ifndef OVERFLOW_TRAVEL_H
#define OVERFLOW_TRAVEL_H

#include "runner/overflow/folder.h"

#define TRAVEL_BYTES_MAX (INT64_C(192) << 20) /* unpacked */

/* Uploads state_dir's conversation. Returns 1, 0 when there is none, or -1. */
int travel_send(const struct cloud *cloud, const char *state_dir, const char *conversation,
                const char *object, struct err *err);

/* Replaces state_dir's conversation by the object. The old one stays until everything has arrived.
 * ERR_NOT_FOUND when there is no object; ERR_MISMATCH, ERR_TOO_LARGE when it is no conversation. */
int travel_take(const struct cloud *cloud, const char *state_dir, const char *conversation,
                const char *object, struct err *err);

#endif
