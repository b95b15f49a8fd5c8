/*
 * The table of settings as rows, and the texts that a load has found. Private to runner/config.
 *
 * Threads: no shared state. Ownership: the configuration owns its texts; config_clear() and
 * config_wipe_free() free them.
 */
#ifndef CONFIG_FIELDS_H
#define CONFIG_FIELDS_H

#include "runner/config/config.h"

enum config_kind {
    KIND_INT,
    KIND_TEXT,
    KIND_ADDRESS,
    KIND_HOST,
    KIND_PATH,
    KIND_URL,
    KIND_ANY_URL,
    KIND_CHOICE,
    KIND_ENUM,
    KIND_LIST,
    KIND_SECONDS,
    KIND_DOMAINS,
    KIND_NETWORKS,
    KIND_SECRETS,
    KIND_LIMITS,
};

struct config_takes {
    int min, max;
    const char *choices;
};

struct config_field {
    enum config_kind kind;
    const char *name;
    const char *alias;
    const char *default_text;
    struct config_takes takes;
    unsigned flags;
    const char *help;
    size_t offset; /* in struct config */
};

extern const struct config_field config_fields[];
extern const size_t config_field_count;

struct config_value {
    char *text;       /* NULL when it is not given and has no default */
    const char *from; /* "environment", "env-file" or "default" */
    bool given;
};

void *config_member(const struct config *config, const struct config_field *field);

#define CONFIG_SECRET_MIN 16 /* characters of a caller's secret */

/* Converts text into the member's value. -1 with the rest of the message, "must be …": the caller
 * adds the variable's name before it and the given text after it. */
int config_convert(struct config *config, const struct config_field *field, const char *home,
                   const char *text, struct err *err);
void config_clear(struct config *config, const struct config_field *field);

void config_wipe_free(char *text);

/* Appends the accepted values, for a person: "0..65535", "one of a, b, c". */
void config_add_takes(const struct config_field *field, struct buf *out);

#endif
