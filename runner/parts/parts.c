#include "runner/parts/parts.h"

#include "base/check.h"

#include <string.h>

void parts_add(struct parts *parts, const struct part *rows, size_t count)
{
    REQUIRE(parts->begun == 0 && parts->count + count <= PARTS_MAX);
    memcpy(parts->rows + parts->count, rows, count * sizeof(*rows));
    parts->count += count;
}

static int build_all(struct parts *parts, struct err *err)
{
    for (size_t i = 0; i < parts->count; i++) {
        const struct part *part = &parts->rows[i];
        parts->begun = i + 1;
        if (part->build && part->build(parts->whole, err))
            return err_wrap(err, "%s", part->name);
        parts->built = i + 1;
    }
    return 0;
}

static int start_all(struct parts *parts, struct err *err)
{
    for (size_t i = 0; i < parts->count; i++) {
        const struct part *part = &parts->rows[i];
        if (part->start && part->start(parts->whole, err))
            return err_wrap(err, "%s", part->name);
    }
    return 0;
}

int parts_begin(struct parts *parts, struct err *err)
{
    REQUIRE(parts->begun == 0);
    return build_all(parts, err) || start_all(parts, err) ? -1 : 0;
}

bool parts_end(struct parts *parts)
{
    for (size_t i = parts->built; i-- > 0;)
        if (parts->rows[i].stop)
            parts->rows[i].stop(parts->whole);
    for (size_t i = parts->built; i-- > 0;)
        if (parts->rows[i].settle && !parts->rows[i].settle(parts->whole))
            return false;
    for (size_t i = parts->begun; i-- > 0;)
        if (parts->rows[i].free)
            parts->rows[i].free(parts->whole);
    parts->begun = parts->built = 0;
    return true;
}

void parts_metrics(const struct parts *parts, struct metric_source *sources, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < parts->count; i++) {
        if (!parts->rows[i].metrics)
            continue;
        REQUIRE(n + 1 < max);
        sources[n++] = (struct metric_source){parts->rows[i].metrics, parts->whole};
    }
    sources[n] = (struct metric_source){0};
}
