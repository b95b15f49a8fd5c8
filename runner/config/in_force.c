#include "runner/config/in_force.h"

#include "base/check.h"

#include <stdatomic.h>
#include <stdint.h>

void config_in_force_init(struct config_in_force *in_force, struct config *config)
{
    REQUIRE(config);
    lock_init(&in_force->lock);
    in_force->config = config;
}

void config_in_force_done(struct config_in_force *in_force)
{
    config_unref(in_force->config);
    in_force->config = NULL;
    lock_done(&in_force->lock);
}

void config_replace(struct config_in_force *in_force, struct config *config)
{
    REQUIRE(config);
    lock_take(&in_force->lock);
    struct config *old = in_force->config;
    in_force->config = config;
    lock_drop(&in_force->lock);
    config_unref(old);
}

struct config *config_share(struct config *config)
{
    REQUIRE(config);
    atomic_fetch_add_explicit(&config->more_refs, 1, memory_order_relaxed);
    return config;
}

const struct config *config_ref(struct config_in_force *in_force)
{
    lock_take(&in_force->lock);
    struct config *config = config_share(in_force->config);
    lock_drop(&in_force->lock);
    return config;
}

void config_unref(const struct config *config)
{
    struct config *mutable = (struct config *)(uintptr_t)config; /* Only the count changes. */
    if (!config || atomic_fetch_sub_explicit(&mutable->more_refs, 1, memory_order_acq_rel) > 0)
        return;
    config_free(mutable);
}
