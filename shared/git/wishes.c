#include "git/wishes.h"

#include "base/glob.h"
#include "base/str.h"
#include "git/pkt.h"

#include <stdlib.h>
#include <string.h>

#define ID_LENGTH 40
#define HEADS "refs/heads/"
#define TAGS "refs/tags/"

void wishes_done(struct wishes *wishes)
{
    for (size_t i = 0; i < wishes->count; i++)
        free(wishes->items[i].ref);
    free(wishes->items);
    *wishes = (struct wishes){0};
}

static bool is_zero(const char *id)
{
    return strspn(id, "0") == ID_LENGTH;
}

bool wish_creates(const struct wish *wish)
{
    return is_zero(wish->old_id);
}

bool wish_deletes(const struct wish *wish)
{
    return is_zero(wish->new_id);
}

bool wish_is_forced(const struct wish *wish)
{
    return wish_deletes(wish) || (str_starts(wish->ref, TAGS) && !wish_creates(wish));
}

/* --- names --------------------------------------------------------------------------------- */

/* Checks one part of a name, between slashes. */
static bool is_part(const char *part, size_t len)
{
    return len > 0 && part[0] != '.' && part[len - 1] != '.' &&
           !(len >= 5 && memcmp(part + len - 5, ".lock", 5) == 0);
}

/* Checks a name by the rules of git check-ref-format; the characters in `more` are refused, too. */
static bool is_name(const char *name, const char *more)
{
    if (strlen(name) > WISHES_REF_MAX || strstr(name, "..") || strstr(name, "@{"))
        return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x21 || *p == 0x7f || strchr("~^:\\", *p) || strchr(more, *p))
            return false;
    for (const char *part = name;; part++) {
        size_t len = strcspn(part, "/");
        if (!is_part(part, len))
            return false;
        part += len;
        if (!*part)
            return true;
    }
}

static bool is_ref(const char *name)
{
    return str_starts(name, "refs/") && strchr(name + 5, '/') && is_name(name, "?*[");
}

bool push_rules_is_pattern(const char *text)
{
    return *text && *text != '-' && is_name(text, "");
}

bool push_rules_allow(const struct push_rules *rules, const char *ref)
{
    bool branch = str_starts(ref, HEADS);
    if (rules->any)
        return branch || str_starts(ref, TAGS);
    for (size_t i = 0; rules->branches && i < rules->branches->count; i++) {
        const char *pattern = rules->branches->items[i];
        bool whole = str_starts(pattern, "refs/");
        if ((whole || branch) && glob_match(pattern, whole ? ref : ref + strlen(HEADS)))
            return true;
    }
    return false;
}

/* --- the list ------------------------------------------------------------------------------ */

static bool is_id(const char *text)
{
    return strspn(text, "0123456789abcdef") >= ID_LENGTH && text[ID_LENGTH] == ' ';
}

static void read_capabilities(const char *text, struct wishes *wishes)
{
    AUTO(str) char *copy = strdup(text);
    char *save = NULL;
    for (char *word = copy ? strtok_r(copy, " \n", &save) : NULL; word;
         word = strtok_r(NULL, " \n", &save)) {
        wishes->wants_report |= strcmp(word, "report-status") == 0;
        wishes->takes_bands |= strcmp(word, "side-band-64k") == 0;
        wishes->atomic |= strcmp(word, "atomic") == 0;
    }
}

static int add_wish(struct wishes *wishes, const char *line, struct err *err)
{
    const char *old_id = line, *new_id = line + ID_LENGTH + 1, *ref = new_id + ID_LENGTH + 1;
    if (!is_id(old_id) || !is_id(new_id))
        return err_set(err, ERR_INVALID, "a line of the push is none");
    if (!is_ref(ref))
        return err_set(err, ERR_INVALID, "'%.100s' is no name of a ref", ref);
    for (size_t i = 0; i < wishes->count; i++)
        if (strcmp(wishes->items[i].ref, ref) == 0)
            return err_set(err, ERR_INVALID, "the push names '%.100s' twice", ref);
    if (wishes->count == WISHES_MAX)
        return err_set(err, ERR_INVALID, "the push changes more than %d refs", WISHES_MAX);
    struct wish *wish = &wishes->items[wishes->count];
    memcpy(wish->old_id, old_id, ID_LENGTH);
    memcpy(wish->new_id, new_id, ID_LENGTH);
    wish->ref = strdup(ref);
    if (!wish->ref)
        return err_sys(err, "push");
    wishes->count++;
    if (wish_creates(wish) && wish_deletes(wish))
        return err_set(err, ERR_INVALID, "the push deletes '%.100s', which is not there", ref);
    return 0;
}

/* Reads one line: a ref to change, in the first line followed by a NUL and the client's
 * capabilities; or a line about a shallow history, which does not matter here. */
static int read_line(struct wishes *wishes, const struct pkt *pkt, struct err *err)
{
    char line[2 * ID_LENGTH + WISHES_REF_MAX + 8];
    size_t len = strnlen(pkt->data, pkt->len);
    if (wishes->count == 0 && len < pkt->len) {
        AUTO(str) char *text = str_copy(pkt->data + len + 1, pkt->len - len - 1);
        read_capabilities(text ? text : "", wishes);
    }
    if (len > 0 && pkt->data[len - 1] == '\n')
        len--;
    if (len > 8 && memcmp(pkt->data, "shallow ", 8) == 0)
        return 0;
    if (len >= sizeof(line) || len < 2 * (size_t)ID_LENGTH + 3)
        return err_set(err, ERR_INVALID, "a line of the push is none");
    memcpy(line, pkt->data, len);
    line[len] = '\0';
    return add_wish(wishes, line, err);
}

int wishes_read(const char *data, size_t len, struct wishes *ret_wishes, size_t *ret_used,
                struct err *err)
{
    struct pkt pkt;
    size_t at = 0;
    AUTO(wishes) struct wishes wishes = {.items = calloc(WISHES_MAX, sizeof(struct wish))};
    if (!wishes.items)
        return err_sys(err, "push");
    for (;;) {
        ssize_t n = pkt_read(data + at, len - at, &pkt);
        if (n <= 0 || pkt.kind == PKT_DELIM || pkt.kind == PKT_END)
            return err_set(err, ERR_INVALID,
                           n < 0 ? "the push is malformed"
                                 : "the push is cut short, or its list is too long");
        at += (size_t)n;
        if (pkt.kind == PKT_FLUSH)
            break;
        if (read_line(&wishes, &pkt, err))
            return -1;
    }
    *ret_wishes = wishes;
    wishes = (struct wishes){0};
    *ret_used = at;
    return 0;
}
