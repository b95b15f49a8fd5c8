/* Whatever the launcher is sent: a plan that it takes has a program, and is the same once saved and
 * taken again. */
#include "proc/plan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    AUTO(buf) struct buf once = BUF_INIT(PLAN_BYTES_MAX);
    AUTO(buf) struct buf twice = BUF_INIT(PLAN_BYTES_MAX);
    AUTO(plan) struct plan *plan = plan_load((const char *)data, size, &err);
    if (!plan)
        return 0;
    must(plan->argv.count > 0 && plan->argv.items[0] && plan->cwd);
    must(plan->kill_grace_ms >= 0 && plan->jail.pids_max >= 0);
    must(plan_save(plan, &once, &err) == 0);
    AUTO(plan) struct plan *again = plan_load(once.data, once.len, &err);
    must(again && plan_save(again, &twice, &err) == 0);
    must(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    return 0;
}
