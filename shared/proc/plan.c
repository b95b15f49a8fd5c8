#include "proc/plan.h"

#include "base/str.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct plan *plan_new(void)
{
    struct plan *plan = calloc(1, sizeof(*plan));
    if (plan)
        plan->kill_grace_ms = 5000;
    return plan;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    strlist_done(&plan->argv);
    for (size_t i = 0; i < plan->env.count; i++) /* credentials are in there */
        explicit_bzero(plan->env.items[i], strlen(plan->env.items[i]));
    strlist_done(&plan->env);
    strlist_done(&plan->mounts);
    free(plan->cwd);
    free(plan->below);
    free(plan);
}

/* The format: NUL-terminated strings; numbers in decimal, a list after its count. */
static void save_list(const struct strlist *list, struct buf *out)
{
    buf_addf(out, "%zu", list->count);
    buf_addc(out, '\0');
    for (size_t i = 0; i < list->count; i++)
        buf_add(out, list->items[i], strlen(list->items[i]) + 1);
}

static void save_text(const char *text, struct buf *out)
{
    buf_add(out, text, strlen(text) + 1);
}

int plan_save(const struct plan *plan, struct buf *out, struct err *err)
{
    const int64_t numbers[] = {plan->uid, plan->gid, plan->kill_grace_ms, plan->pids_max,
                               plan->file_mb_max};
    save_list(&plan->argv, out);
    save_list(&plan->env, out);
    save_list(&plan->mounts, out);
    save_text(plan->cwd ? plan->cwd : "/", out);
    save_text(plan->below ? plan->below : "", out);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        buf_addf(out, "%lld", (long long)numbers[i]);
        buf_addc(out, '\0');
    }
    return buf_check(out, "the plan of a process", err);
}

struct cursor {
    const char *at;
    const char *end;
};

static const char *next_text(struct cursor *cursor)
{
    const char *text = cursor->at;
    const char *nul = memchr(text, '\0', (size_t)(cursor->end - text));
    if (!nul)
        return NULL;
    cursor->at = nul + 1;
    return text;
}

static int next_number(struct cursor *cursor, int64_t max, int64_t *ret)
{
    const char *text = next_text(cursor);
    return text ? str_to_int(text, 0, max, ret) : -1;
}

static int load_list(struct cursor *cursor, struct strlist *list)
{
    int64_t count;
    if (next_number(cursor, 65536, &count))
        return -1;
    for (int64_t i = 0; i < count; i++) {
        const char *text = next_text(cursor);
        if (!text || strlist_add(list, text))
            return -1;
    }
    return 0;
}

static int load_text(struct cursor *cursor, char **ret_text)
{
    const char *text = next_text(cursor);
    *ret_text = text ? strdup(text) : NULL;
    return *ret_text ? 0 : -1;
}

static int load_numbers(struct cursor *cursor, struct plan *plan)
{
    int64_t uid, gid, grace, pids, file_mb;
    if (next_number(cursor, UINT_MAX, &uid) || next_number(cursor, UINT_MAX, &gid) ||
        next_number(cursor, INT_MAX, &grace) || next_number(cursor, INT_MAX, &pids) ||
        next_number(cursor, INT_MAX, &file_mb))
        return -1;
    plan->uid = (uid_t)uid;
    plan->gid = (gid_t)gid;
    plan->kill_grace_ms = (int)grace;
    plan->pids_max = (int)pids;
    plan->file_mb_max = (int)file_mb;
    return 0;
}

struct plan *plan_load(const char *data, size_t len, struct err *err)
{
    struct cursor cursor = {data, data + len};
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan || load_list(&cursor, &plan->argv) || load_list(&cursor, &plan->env) ||
        load_list(&cursor, &plan->mounts) || load_text(&cursor, &plan->cwd) ||
        load_text(&cursor, &plan->below) || load_numbers(&cursor, plan) ||
        cursor.at != cursor.end || plan->argv.count == 0 || plan->mounts.count % 3 != 0) {
        err_set(err, ERR_INVALID, "the plan of a process is malformed");
        return NULL;
    }
    return STEAL_PTR(plan);
}
