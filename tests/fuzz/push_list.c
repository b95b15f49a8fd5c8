/* Whatever a client of git sends as the list of a push: what is taken has names and ids that git
 * has, and ends inside of what was sent. */
#include "git/pkt.h"
#include "git/wishes.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check(const struct wish *wish)
{
    static const struct push_rules any = {.any = true}, none = {0};
    must(strlen(wish->old_id) == 40 && strlen(wish->new_id) == 40);
    must(strncmp(wish->ref, "refs/", 5) == 0 && strlen(wish->ref) <= WISHES_REF_MAX);
    must(!strstr(wish->ref, "..") && !strpbrk(wish->ref, " \n:~^?*[\\"));
    must(!(wish_creates(wish) && wish_deletes(wish)));
    must(!push_rules_allow(&none, wish->ref));
    must(!push_rules_allow(&any, wish->ref) || strncmp(wish->ref, "refs/heads/", 11) == 0 ||
         strncmp(wish->ref, "refs/tags/", 10) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    size_t used = 0;
    struct wishes wishes = {0};
    if (wishes_read((const char *)data, size, &wishes, &used, &err))
        return 0;
    must(used >= PKT_HEAD && used <= size && wishes.count <= WISHES_MAX);
    for (size_t i = 0; i < wishes.count; i++)
        check(&wishes.items[i]);
    wishes_done(&wishes);
    return 0;
}
