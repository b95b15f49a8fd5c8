#include "runner/egress/rules.h"

#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum egress_mode egress_mode_of(const struct strlist *egress)
{
    if (egress->count == 0 || strcmp(egress->items[0], "open") == 0)
        return EGRESS_OPEN;
    return strcmp(egress->items[0], "none") == 0 ? EGRESS_NONE : EGRESS_LIST;
}

static bool has_name(const char *rule, size_t len, const char *host)
{
    size_t have = strlen(host);
    if (len > 2 && rule[0] == '*') /* Matches names below the domain, not the domain itself. */
        return have > len - 1 && strncasecmp(host + have - (len - 1), rule + 1, len - 1) == 0;
    return have == len && strncasecmp(host, rule, len) == 0;
}

bool egress_allows_name(const struct strlist *egress, const char *host, unsigned port)
{
    int64_t only;
    enum egress_mode mode = egress_mode_of(egress);
    if (mode != EGRESS_LIST)
        return mode == EGRESS_OPEN;
    for (size_t i = 0; i < egress->count; i++) {
        const char *rule = egress->items[i];
        size_t len = strcspn(rule, ":");
        if (!has_name(rule, len, host))
            continue;
        if (!rule[len] || port == 0)
            return true;
        if (str_to_int(rule + len + 1, 1, 65535, &only) == 0 && (unsigned)only == port)
            return true;
    }
    return false;
}

bool egress_allows_literal(const struct strlist *egress)
{
    return egress_mode_of(egress) == EGRESS_OPEN;
}
