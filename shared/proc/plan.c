#include "proc/plan.h"

#include "base/str.h"

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
    for (size_t i = 0; i < plan->env.count; i++) /* The environment holds credentials. */
        explicit_bzero(plan->env.items[i], strlen(plan->env.items[i]));
    strlist_done(&plan->env);
    strlist_done(&plan->mounts);
    jail_policy_done(&plan->jail);
    free(plan->cwd);
    free(plan->below);
    free(plan);
}

/* --- the fields as data -------------------------------------------------------------------- */

enum kind { KIND_LIST, KIND_TEXT, KIND_NUMBER };

static const struct field {
    const char *name;
    size_t offset;
    enum kind kind;
    int64_t max; /* largest number, which fits into 32 bits */
} fields[] = {
#define FIELD_LIST(name) {#name, offsetof(struct plan, name), KIND_LIST, 0},
#define FIELD_TEXT(name) {#name, offsetof(struct plan, name), KIND_TEXT, 0},
#define FIELD_NUMBER(name, max) {#name, offsetof(struct plan, name), KIND_NUMBER, max},
    PLAN_FIELDS(FIELD_LIST, FIELD_TEXT, FIELD_NUMBER)
#undef FIELD_LIST
#undef FIELD_TEXT
#undef FIELD_NUMBER
};

#define SIZE_IS_32(name, max) \
    _Static_assert(sizeof(((struct plan *)0)->name) == sizeof(uint32_t), #name);
#define NO_CHECK(name)
PLAN_FIELDS(NO_CHECK, NO_CHECK, SIZE_IS_32)

/* The format: NUL-terminated strings, numbers in decimal, and lists that begin with their count. */
static void save_list(const struct strlist *list, struct buf *out)
{
    buf_addf(out, "%zu", list->count);
    buf_addc(out, '\0');
    for (size_t i = 0; i < list->count; i++)
        buf_add(out, list->items[i], strlen(list->items[i]) + 1);
}

static void save_field(const struct plan *plan, const struct field *field, struct buf *out)
{
    const void *at = (const char *)plan + field->offset;
    uint32_t number;
    if (field->kind == KIND_LIST) {
        save_list(at, out);
    } else if (field->kind == KIND_TEXT) {
        const char *text = *(char *const *)at;
        buf_add(out, text ? text : "", text ? strlen(text) + 1 : 1);
    } else {
        memcpy(&number, at, sizeof(number));
        buf_addf(out, "%lld", (long long)number);
        buf_addc(out, '\0');
    }
}

int plan_save(const struct plan *plan, struct buf *out, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        save_field(plan, &fields[i], out);
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

static int load_list(struct cursor *cursor, struct strlist *list)
{
    int64_t count;
    const char *text = next_text(cursor);
    if (!text || str_to_int(text, 0, 65536, &count))
        return -1;
    for (int64_t i = 0; i < count; i++) {
        text = next_text(cursor);
        if (!text || strlist_add(list, text))
            return -1;
    }
    return 0;
}

static int load_text(struct cursor *cursor, char **ret_text)
{
    const char *text = next_text(cursor);
    if (text && !*text)
        return 0;
    *ret_text = text ? strdup(text) : NULL;
    return *ret_text ? 0 : -1;
}

static int load_number(struct cursor *cursor, const struct field *field, uint32_t *ret_number)
{
    int64_t number;
    const char *text = next_text(cursor);
    if (!text || str_to_int(text, 0, field->max, &number))
        return -1;
    *ret_number = (uint32_t)number;
    return 0;
}

static int load_field(struct cursor *cursor, const struct field *field, struct plan *plan)
{
    void *at = (char *)plan + field->offset;
    switch (field->kind) {
    case KIND_LIST:
        return load_list(cursor, at);
    case KIND_TEXT:
        return load_text(cursor, at);
    case KIND_NUMBER:
        return load_number(cursor, field, at);
    }
    return -1;
}

struct plan *plan_load(const char *data, size_t len, struct err *err)
{
    struct cursor cursor = {data, data + len};
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan) {
        err_sys(err, "plan");
        return NULL;
    }
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (load_field(&cursor, &fields[i], plan)) {
            err_set(err, ERR_INVALID, "the plan of a process is cut short or malformed at '%s'",
                    fields[i].name);
            return NULL;
        }
    const char *wrong = cursor.at != cursor.end      ? "more than a plan"
                        : plan->argv.count == 0      ? "no program"
                        : plan->mounts.count % 3     ? "mounts not in threes"
                        : plan->jail.binds.count % 3 ? "binds not in threes"
                                                     : NULL;
    if (wrong) {
        err_set(err, ERR_INVALID, "the plan of a process has %s", wrong);
        return NULL;
    }
    if (!plan->cwd)
        plan->cwd = strdup("/");
    return plan->cwd ? STEAL_PTR(plan) : NULL;
}
