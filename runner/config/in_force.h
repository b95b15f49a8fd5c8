/*
 * The configuration in force, and references to it.
 *
 * A configuration does not change once it is in force; another one takes its place (a reload).
 * Whoever reads one holds a reference for as long as he uses it, or anything that it points to:
 *
 *     AUTO(config_ref) const struct config *config = config_ref(in_force);
 *     int days = CONFIG_GET(in_force, keep_tasks_days);        one value, not a text
 *
 * The last reference frees it and wipes its secrets.
 *
 * Threads: any, except for init and done.
 * Ownership: configurations are counted references; who gets one drops it by config_unref().
 */
#ifndef CONFIG_IN_FORCE_H
#define CONFIG_IN_FORCE_H

#include "base/lock.h"
#include "runner/config/config.h"

struct config_in_force {
    struct lock lock;
    struct config *config GUARDED_BY_MEMBER(lock);
};

/* Takes over the caller's reference to `config`. */
void config_in_force_init(struct config_in_force *in_force, struct config *config);
/* Drops that reference. Others may still hold references. */
void config_in_force_done(struct config_in_force *in_force);

/* Replaces the configuration and takes over the caller's reference to the new one. */
void config_replace(struct config_in_force *in_force, struct config *config);

/* Adds a reference to a configuration that the caller already holds. Returns config. */
struct config *config_share(struct config *config);

/* Returns a reference to the configuration in force now, never NULL. The caller drops it by
 * config_unref(). */
const struct config *config_ref(struct config_in_force *in_force);
void config_unref(const struct config *config);
static inline void auto_config_ref(const struct config **config)
{
    config_unref(*config);
}

/* The value of a numeric or boolean setting in force now. Of a text use only whether it is NULL: it
 * may be freed before it can be read. */
#define CONFIG_GET(in_force, field)                                               \
    (__extension__({                                                              \
        AUTO(config_ref) const struct config *config_get_ = config_ref(in_force); \
        __typeof__(config_get_->field) config_value_ = config_get_->field;        \
        config_value_;                                                            \
    }))

#endif
