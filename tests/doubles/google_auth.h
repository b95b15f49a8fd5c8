/*
 * Who asks: service-account keys, access tokens, the token endpoint and the metadata server, and
 * what an account may do.
 *
 * Tokens hold what they say and a MAC, so that they outlive the process as Google's do.
 */
#ifndef DOUBLES_GOOGLE_AUTH_H
#define DOUBLES_GOOGLE_AUTH_H

#include "google_call.h"

/* Makes, when they are not there yet, the secret of the tokens, the account with its key and the
 * user's refresh token; writes the files that were asked for. False with a message on stderr. */
bool auth_init(void);

/* Starts the metadata servers of former times again, on their ports. */
void auth_resume(void);

/* Who sent the request; false after a refusal. */
bool auth_identify(struct call *call);
/* Whether the one who asks may do that; false after a refusal. */
bool auth_permit(struct call *call, const char *permission);
bool auth_may(const char *account, const char *permission, const char *resource);

/* POST /token, and everything below /computeMetadata, as this account. */
int auth_serve_token(struct server_conn *conn, const struct server_request *req);
int auth_serve_metadata(struct server_conn *conn, const struct server_request *req,
                        const char *account);

/* The port of a metadata server for this account's executions. */
int auth_metadata_port(const char *account);

/* A new key of an account: the content of its file; the key's id goes to ret_id. The caller holds
 * the store's lock, and frees. */
char *auth_key_new(const char *account, char ret_id[41]);

char *auth_token_new(const char *account, int64_t lifetime_s);

/* "iam:projects/P/serviceAccounts/EMAIL" of an e-mail address or a number, in fresh memory; NULL
 * when there is no such account. */
char *auth_account_key(const char *account);
/* Makes one; its document, borrowed. */
cJSON *auth_account_new(const char *project, const char *id, const char *title);
/* Whether it is so new that its grants are not known everywhere: for grantDelayMs from the first
 * time that this is asked, however long after the account was made. */
bool auth_is_new(const char *key);

#endif
