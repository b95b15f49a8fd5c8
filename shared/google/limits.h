/*
 * All limits of time and size for calls to Google, in one place. Private to shared/google.
 *
 * Threads: constants.
 */
#ifndef GOOGLE_LIMITS_H
#define GOOGLE_LIMITS_H

#define GOOGLE_WHOLE_TRIES 4 /* tries when an answer of KMS or Secret Manager arrives corrupted */
#define CONNECT_MS 10000
#define CALL_MS 60000          /* one call with its retries, unless the caller says otherwise */
#define TRY_SILENCE_MS 20000   /* of one try, when another may follow */
#define MEDIA_SILENCE_MS 60000 /* of an upload or a download */
#define STALL_MS                                                           \
    120000 /* an upload or download is retried this long without a byte of \
            * progress */

#define RETRY_MIN_MS 200
#define RETRY_MAX_MS 10000

#define TOKEN_MS 30000
#define TOKEN_PATIENCE_MS 5000 /* wait for a new token while the old one is valid */
#define TOKEN_EARLY_MS                                                                            \
    225000                   /* a token is refreshed this long before its end, as by Google's own \
                              * libraries */
#define TOKEN_PAUSE_MS 10000 /* pause after a failed refresh, while the old token is valid */
#define TOKEN_BYTES_MAX 16384
#define TOKEN_ANSWER_MAX 65536

#define METADATA_CONNECT_MS 1000
#define METADATA_MS 10000
#define METADATA_SLOW_MS 25000     /* the same where a metadata server certainly exists */
#define METADATA_PATIENCE_MS 55000 /* wait for the first token of a container */
#define METADATA_ABSENT_MS 30000   /* no new probe for this long where there was none */

#define ANSWER_BYTES_MAX (8u << 20)
#define ERROR_BYTES_MAX (64u << 10)
#define CREDENTIALS_BYTES_MAX 65536

#define LINKS_MAX 128
#define LINK_IDLE_MS 60000

#define PUT_AT_ONCE_MAX (1 << 20)    /* files up to this size go in one request */
#define UPLOAD_UNIT (256 << 10)      /* Cloud Storage takes multiples of it */
#define UPLOAD_PIECE (8 << 20)       /* kept in memory until it is stored */
#define UPLOAD_FILE_PIECE (64 << 20) /* read again from the file */
#define LIST_PAGE_MAX 1000
#define PAGES_MAX 100000

#endif
