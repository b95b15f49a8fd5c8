#include "http/posted.h"

#include "http/target.h"

#include <string.h>

static int add_field(struct posted *posted, char *pair, struct err *err)
{
    char *value = strchr(pair, '=');
    if (posted->count == POSTED_FIELDS_MAX)
        return err_set(err, ERR_INVALID, "the form has more than %d fields", POSTED_FIELDS_MAX);
    if (value)
        *value++ = '\0';
    else
        value = pair + strlen(pair);
    if (target_decode(pair, "form", err) || target_decode(value, "form", err))
        return -1;
    if (posted_get(posted, pair))
        return err_set(err, ERR_INVALID, "the form has a field twice");
    posted->fields[posted->count].name = pair;
    posted->fields[posted->count++].value = value;
    return 0;
}

int posted_parse(char *text, size_t len, struct posted *ret_posted, struct err *err)
{
    struct posted posted = {.count = 0};
    char *rest = text;
    if (strlen(text) != len)
        return err_set(err, ERR_INVALID, "the form has a control character");
    for (char *pair; (pair = strsep(&rest, "&"));)
        if (*pair && add_field(&posted, pair, err))
            return -1;
    *ret_posted = posted;
    return 0;
}

const char *posted_get(const struct posted *posted, const char *name)
{
    for (size_t i = 0; i < posted->count; i++)
        if (strcmp(posted->fields[i].name, name) == 0)
            return posted->fields[i].value;
    return NULL;
}
