/* A form's body, and what of it goes into a page. */
#include "http/posted.h"
#include "base/auto.h"
#include "base/str.h"
#include "runner/api/page.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* What came from outside ends no tag and no attribute. */
static void check_page(const char *value)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    PAGE_FILL("<b title=\"{{v}}\">{{v}}</b>{{none}}", &out, {.name = "v", .text = value});
    const char *at = buf_str(&out);
    check(strncmp(at, "<b title=\"", 10) == 0);
    at += 10 + strcspn(at + 10, "<>\"'");
    check(strncmp(at, "\">", 2) == 0);
    at += 2 + strcspn(at + 2, "<>\"'");
    check(strcmp(at, "</b>") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct posted posted;
    struct err err;
    char *copy = malloc(size + 1); /* exactly as long: a step too far is seen */
    if (!copy)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '\0';
    if (posted_parse(copy, size, &posted, &err) == 0) {
        check(posted.count <= POSTED_FIELDS_MAX);
        for (size_t i = 0; i < posted.count; i++) {
            const char *value = posted.fields[i].value;
            check(value >= copy && value + strlen(value) <= copy + size);
            check(str_is_utf8(value, strlen(value)));
            check(posted_get(&posted, posted.fields[i].name) == value);
            check_page(value);
        }
    }
    free(copy);
    return 0;
}
