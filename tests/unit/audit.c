/* The audit log and the list of callers: what they keep, for how long, and after a crash. */
#include "runner/access/audit.h"
#include "runner/access/callers.h"

#include "testbase.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct audit *open_log(const char *dir)
{
    struct err err = ERR_INIT;
    struct audit *audit = audit_open(dir, &err);
    if (!audit)
        fail_msg("%s", err.msg);
    return audit;
}

static void add(struct audit *audit, const char *action, const char *caller, const char *target)
{
    const struct audit_entry entry = {.action = action, .caller = caller, .target = target};
    audit_add(audit, &entry);
}

/* The ids of a page, "3 2 1", and the cursor of the next page. The caller frees it. */
static char *page(struct audit *audit, int64_t before, int limit, const char *action,
                  const char *caller, int64_t *ret_next)
{
    struct err err = ERR_INIT;
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(8u << 20), ids = BUF_INIT(1u << 20);
    json_write(&w, &out);
    json_open_array(&w, NULL);
    OK(audit_print(audit, before, limit, action, caller, &w, ret_next, &err) == 0, &err);
    json_close(&w);
    AUTO(json) struct json *list = json_parse(buf_str(&out), out.len, &err);
    OK(list != NULL, &err);
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        int64_t id;
        assert_int_equal(json_int(json_get(at, "id"), &id), 0);
        buf_addf(&ids, "%s%lld", ids.len ? " " : "", (long long)id);
    }
    return strdup(buf_str(&ids));
}

static void assert_page(struct audit *audit, int64_t before, int limit, const char *action,
                        const char *caller, const char *ids, int64_t next)
{
    int64_t got_next;
    char *got = page(audit, before, limit, action, caller, &got_next);
    assert_string_equal(got, ids);
    assert_int_equal(got_next, next);
    free(got);
}

static void shows_the_newest_first_page_by_page(void **state)
{
    (void)state;
    char *dir = tmp_dir_new();
    struct audit *audit = open_log(dir);
    assert_page(audit, 0, 10, NULL, NULL, "", 0);
    add(audit, "task.run", "ann", "t1");
    add(audit, "task.cancel", "bob", "t1");
    add(audit, "tasks", "bob", NULL);
    add(audit, "console.enter", "ann", "");
    assert_page(audit, 0, 10, NULL, NULL, "4 3 2 1", 0);
    assert_page(audit, 0, 3, NULL, NULL, "4 3 2", 2);
    assert_page(audit, 2, 3, NULL, NULL, "1", 0);
    assert_page(audit, 0, 10, "task", NULL, "2 1", 0);
    assert_page(audit, 0, 10, "task.run", NULL, "1", 0);
    assert_page(audit, 0, 1, NULL, "ann", "4", 4);
    assert_page(audit, 4, 1, NULL, "ann", "1", 0);
    audit_close(audit);
    tmp_dir_free(dir);
}

static void goes_on_after_a_restart_and_a_cut_line(void **state)
{
    (void)state;
    char *dir = tmp_dir_new(), *path = textf("%s/audit.log", dir);
    struct audit *audit = open_log(dir);
    add(audit, "task.run", "ann", "t1");
    add(audit, "task.run", "ann", "t2");
    audit_close(audit);
    size_t size;
    char *text = read_file(path, &size);
    text[size - 5] = '\0';
    write_file(path, text, 0600);
    free(text);
    audit = open_log(dir);
    add(audit, "task.run", "ann", "t3");
    assert_page(audit, 0, 10, NULL, NULL, "2 1", 0);
    audit_close(audit);
    audit = open_log(dir);
    add(audit, "task.run", "ann", "t4");
    assert_page(audit, 0, 10, NULL, NULL, "3 2 1", 0);
    audit_close(audit);
    free(path);
    tmp_dir_free(dir);
}

/* Texts of callers: none can begin a line of the log, and none is too long. */
static void keeps_what_is_hostile_in_its_line(void **state)
{
    (void)state;
    char *dir = tmp_dir_new(), *huge = malloc(100000);
    memset(huge, '"', 99999);
    huge[99999] = '\0';
    struct audit *audit = open_log(dir);
    add(audit, "session.write", "a\n{\"id\":99}", "\xff\xfe\n\x01");
    add(audit, "session.write", "ann", huge);
    add(audit, "session.write", huge, huge);
    assert_page(audit, 0, 10, NULL, NULL, "3 2 1", 0);
    audit_close(audit);
    free(huge);
    tmp_dir_free(dir);
}

static void is_bounded_and_never_rewritten(void **state)
{
    (void)state;
    char *dir = tmp_dir_new(), *path = textf("%s/audit.log", dir);
    char *old = textf("%s/audit.log.1", dir), text[401];
    memset(text, 'x', 400);
    text[400] = '\0';
    struct audit *audit = open_log(dir);
    for (int i = 0; i < 15000; i++)
        add(audit, "session.run", "ann", text);
    assert_true(file_size(path) <= (long)AUDIT_FILE_BYTES + 1024);
    assert_true(file_size(old) <= (long)AUDIT_FILE_BYTES + 1024);
    int64_t next;
    char *first = page(audit, 0, 2, NULL, NULL, &next);
    assert_string_equal(first, "15000 14999");
    free(first);
    char *all = page(audit, 0, 1000000, NULL, NULL, &next);
    int count = 1;
    for (const char *at = all; *at; at++)
        count += *at == ' ';
    assert_true(count > 4000 && count < 15000);
    assert_int_equal(next, 0);
    free(all);
    audit_close(audit);
    free(path);
    free(old);
    tmp_dir_free(dir);
}

static void a_directory_that_is_not_there_is_said(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_null(audit_open("/nonexistent/place", &err));
    assert_non_null(strstr(err.msg, "audit.log"));
}

static void callers_are_kept_over_a_restart(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct caller_use uses[CALLERS_MAX];
    char *dir = tmp_dir_new(), *path = textf("%s/callers.json", dir);
    struct callers *callers = callers_new(dir, &err);
    OK(callers != NULL, &err);
    callers_note(callers, "ann", "10.0.0.1");
    callers_note(callers, "ann", "10.0.0.2");
    callers_note(callers, "bob", "::1");
    callers_free(callers);
    OK((callers = callers_new(dir, &err)) != NULL, &err);
    assert_int_equal(callers_copy(callers, uses, CALLERS_MAX), 2);
    assert_string_equal(uses[0].name, "ann");
    assert_string_equal(uses[0].address, "10.0.0.2");
    assert_int_equal(uses[0].requests, 2);
    assert_true(uses[0].last_ms >= uses[0].first_ms && uses[0].first_ms > 0);
    callers_free(callers);
    write_file(path, "[{\"name\":\"ann\"},7,{\"name\":\"bob\",\"firstMs\":1,\"las", 0600);
    OK((callers = callers_new(dir, &err)) != NULL, &err);
    assert_int_equal(callers_copy(callers, uses, CALLERS_MAX), 0);
    callers_free(callers);
    free(path);
    tmp_dir_free(dir);
}

static void of_too_many_callers_the_last_are_kept(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct caller_use uses[CALLERS_MAX];
    char *dir = tmp_dir_new(), name[200];
    struct callers *callers = callers_new(dir, &err);
    OK(callers != NULL, &err);
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    callers_note(callers, name, "a long one");
    callers_note(callers, name, "a long one");
    for (int i = 0; i < 3 * CALLERS_MAX; i++) {
        snprintf(name, sizeof(name), "caller-%d", i);
        callers_note(callers, name, "10.0.0.1");
    }
    assert_int_equal(callers_copy(callers, uses, CALLERS_MAX), CALLERS_MAX);
    callers_free(callers);
    tmp_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_the_newest_first_page_by_page),
        cmocka_unit_test(goes_on_after_a_restart_and_a_cut_line),
        cmocka_unit_test(keeps_what_is_hostile_in_its_line),
        cmocka_unit_test(is_bounded_and_never_rewritten),
        cmocka_unit_test(a_directory_that_is_not_there_is_said),
        cmocka_unit_test(callers_are_kept_over_a_restart),
        cmocka_unit_test(of_too_many_callers_the_last_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
