#include "http/accept.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* True unless the media range's parameters hold a weight of zero. */
static bool weighs(const char *params, size_t len)
{
    for (const char *p = params; p < params + len; p++) {
        if ((*p == 'q' || *p == 'Q') && (p[-1] == ';' || p[-1] == ' ') && p[1] == '=')
            return strtod(p + 2, NULL) > 0;
    }
    return true;
}

/* How a media range names a type: exactly, by "text/" and a star, by two stars, or not at all. */
enum naming { NAMED_NOT, NAMED_BY_STARS, NAMED_BY_KIND, NAMED_ITSELF };

static enum naming names(const char *range, size_t len, const char *type)
{
    size_t kind = strcspn(type, "/") + 1;
    if (len == 3 && memcmp(range, "*/*", 3) == 0)
        return NAMED_BY_STARS;
    if (len == kind + 1 && range[kind] == '*' && strncasecmp(range, type, kind) == 0)
        return NAMED_BY_KIND;
    return len == strlen(type) && strncasecmp(range, type, len) == 0 ? NAMED_ITSELF : NAMED_NOT;
}

/* Finds the most exact range for `type` in one Accept header, and whether the type is wanted. */
static void look_at_accept(const char *accept, const char *type, enum naming *best, bool *wanted)
{
    while (*accept) {
        accept += strspn(accept, " \t,");
        size_t len = strcspn(accept, ",");
        size_t range = strcspn(accept, "; \t,");
        enum naming naming = names(accept, range, type);
        if (naming > *best) {
            *best = naming;
            *wanted = weighs(accept + range, len - range);
        }
        accept += len;
    }
}

static enum naming accept_of(const struct head *head, const char *type, bool *ret_wanted)
{
    enum naming best = NAMED_NOT;
    *ret_wanted = false;
    for (size_t i = 0; i < head->field_count; i++)
        if (strcasecmp(head->fields[i].name, "Accept") == 0)
            look_at_accept(head->fields[i].value, type, &best, ret_wanted);
    return best;
}

bool accept_takes(const struct head *head, const char *type)
{
    bool wanted;
    return !head_field(head, "Accept") || (accept_of(head, type, &wanted), wanted);
}

bool accept_names(const struct head *head, const char *type)
{
    bool wanted;
    return accept_of(head, type, &wanted) == NAMED_ITSELF && wanted;
}
