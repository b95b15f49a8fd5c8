/* Settings of jails and their network, and settings that exclude each other. */
#include "base/auto.h"
#include "base/str.h"
#include "runner/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Loads two settings. One error with that text is expected; NULL: none. */
static void expect(char *one, char *other, const char *message)
{
    char *env[] = {(char[]){"HOME=/h"}, (char[]){"RUNNER_SECRET=0123456789abcdef"}, one, other,
                   NULL};
    const struct config_source source = {.env = env};
    struct config_report report = {0};
    struct err err;
    AUTO(config) struct config *config = config_load(&source, &report, &err);
    if (!config != (message != NULL) || report.errors.count != (message != NULL) ||
        (message && !strstr(report.errors.items[0], message)))
        fail_msg("%s and %s: %s", one, other, config ? "taken" : err.msg);
    config_report_done(&report);
}

static void what_does_not_fit_together_is_told(void **state)
{
    (void)state;
    const struct {
        char *one, *other;
        const char *message; /* NULL: they fit */
    } cases[] = {
        {(char[]){"JAIL=restricted"}, (char[]){"EGRESS=none"},
         "EGRESS other than open takes tier full"},
        {(char[]){"JAIL=none"}, (char[]){"EGRESS=a.example"},
         "EGRESS other than open takes tier full"},
        {(char[]){"JAIL=restricted"}, (char[]){"EGRESS=open"}, NULL},
        {(char[]){"JAIL=auto"}, (char[]){"EGRESS=none"}, NULL},
        {(char[]){"JAIL=none"}, (char[]){"JAIL_MIN=full"}, "JAIL is weaker than JAIL_MIN"},
        {(char[]){"SYSTEM_PROMPT_FILE=/a"}, (char[]){"SYSTEM_PROMPT_SECRET=b"},
         "SYSTEM_PROMPT_FILE and SYSTEM_PROMPT"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        expect(cases[i].one, cases[i].other, cases[i].message);
    }
}

static void paths_for_jails_lose_the_slash_at_their_end(void **state)
{
    (void)state;
    static const struct {
        const char *item, *path;
        bool writable;
    } cases[] = {
        {"/srv", "/srv", false},
        {"/srv/a b:rw", "/srv/a b", true},
        {"/srv/cache/", "/srv/cache", false},
        {"/srv/..cache//:rw", "/srv/..cache", true},
        {"/srv:r", "/srv:r", false},
        {"/", NULL, false},
        {"//", NULL, false},
        {":rw", NULL, false},
        {"/a/..", NULL, false},
        {"a", NULL, false},
        {"", NULL, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool writable = false;
        AUTO(str) char *path = config_jail_path(cases[i].item, &writable);
        if (!path != !cases[i].path || (path && strcmp(path, cases[i].path) != 0) ||
            writable != cases[i].writable)
            fail_msg("%s: %s", cases[i].item, path ? path : "none");
    }
    expect((char[]){"JAIL_PATHS=/srv/cache/,/opt/x:rw"}, (char[]){"EGRESS_LAN=none"}, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_together_is_told),
        cmocka_unit_test(paths_for_jails_lose_the_slash_at_their_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
