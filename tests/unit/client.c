/* The client's parts that need no runner: command lines, events, tables of tasks, text on a
 * screen. */
#include "testbase.h"

#include "base/auto.h"
#include "runner/client/batch_read.h"
#include "runner/client/commands.h"
#include "runner/client/fields.h"
#include "runner/client/screen.h"
#include "runner/client/sse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- command lines ---- */

static const struct command_row *command(const char *name)
{
    for (size_t i = 0; commands_at(i); i++)
        if (strcmp(commands_at(i)->name, name) == 0)
            return commands_at(i);
    fail_msg("there is no command '%s'", name);
    return NULL;
}

struct line {
    struct strlist given, args;
    struct err err;
    int rc;
};

static struct line read_line(const char *name, const char *text)
{
    struct line line = {.rc = 0};
    AUTO(strlist) struct strlist words = STRLIST_INIT;
    AUTO(str) char *copy = strdup(text);
    char *save = NULL;
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        strlist_add(&words, word);
    line.rc = options_read(command(name), (int)words.count, words.items, &line.given, &line.args,
                           &line.err);
    return line;
}

static void line_done(struct line *line)
{
    strlist_done(&line->given);
    strlist_done(&line->args);
}

static void options_stand_anywhere_and_in_every_form(void **state)
{
    (void)state;
    struct line line =
        read_line("run", "say --model=opus -i a=./a hi --max-turns 3 -ib=./b --json");
    assert_int_equal(line.rc, 0);
    assert_string_equal(options_value(&line.given, "model"), "opus");
    assert_string_equal(options_value(&line.given, "max-turns"), "3");
    assert_string_equal(options_nth(&line.given, "input", 0), "a=./a");
    assert_string_equal(options_nth(&line.given, "input", 1), "b=./b");
    assert_null(options_nth(&line.given, "input", 2));
    assert_non_null(options_value(&line.given, "json"));
    assert_int_equal(line.args.count, 2);
    line_done(&line);
}

static void what_follows_a_command_is_its_own(void **state)
{
    (void)state;
    struct line line = read_line("exec", "--timeout 5m -- ls -la --json");
    assert_int_equal(line.rc, 0);
    assert_null(options_value(&line.given, "json"));
    assert_int_equal(line.args.count, 3);
    assert_string_equal(line.args.items[1], "-la");
    line_done(&line);
    line = read_line("exec", "ls -la");
    assert_int_equal(line.rc, 0);
    assert_int_equal(line.args.count, 2);
    line_done(&line);
    line = read_line("session exec", "--shell x box ls --recursive");
    assert_int_equal(line.rc, 0);
    assert_int_equal(line.args.count, 3);
    line_done(&line);
}

static void a_wrong_command_line_says_what_is_near(void **state)
{
    static const struct {
        const char *command, *line, *says;
    } cases[] = {
        {"run", "--modle x", "did you mean '--model'?"},
        {"run", "--repp x", "did you mean '--repo'?"},
        {"run", "--model", "--model takes TEXT"},
        {"tasks", "--json=yes", "--json takes no value"},
        {"show", "", "missing"},
        {"show", "a b", "unexpected 'b'"},
        {"batch", "--parrallel 4 t", "did you mean '--parallel'?"},
        {"tasks", "-x", "no option '-x'"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct line line = read_line(cases[i].command, cases[i].line);
        if (line.rc == 0 || !strstr(line.err.msg, cases[i].says))
            fail_msg("%s %s: %s", cases[i].command, cases[i].line, line.rc ? line.err.msg : "fine");
        assert_int_equal(line.err.code, ERR_INVALID);
        line_done(&line);
    }
}

/* Every row has what help, completions and the manual need, and no two options of a command share
 * a name. */
static void the_table_of_commands_is_whole(void **state)
{
    struct option_row scratch, other;
    (void)state;
    for (size_t c = 0; commands_at(c); c++) {
        const struct command_row *row = commands_at(c);
        assert_non_null(row->run);
        assert_true(row->summary[0] && row->summary[strlen(row->summary) - 1] != '.');
        for (size_t i = 0; options_at(row, i, &scratch); i++) {
            AUTO(str) char *name = strdup(options_at(row, i, &scratch)->name);
            for (size_t k = i + 1; options_at(row, k, &other); k++)
                if (strcmp(name, options_at(row, k, &other)->name) == 0)
                    fail_msg("%s has --%s twice", row->name, name);
        }
    }
}

static char *body_of(const char *name, const char *text, struct err *err)
{
    struct line line = read_line(name, text);
    struct call call = {.row = command(name), .given = line.given, .args = line.args};
    struct json_writer w;
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    assert_int_equal(line.rc, 0);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    int rc = fields_write(&call, &w, err);
    json_close(&w);
    line_done(&line);
    return rc ? NULL : buf_steal(&body);
}

static void options_become_the_fields_of_a_request(void **state)
{
    static const struct {
        const char *line, *body;
    } cases[] = {
        {"--model opus", "{\"model\":\"opus\"}"},
        {"--max-turns 3 --max-budget-usd 0.5", "{\"maxTurns\":3,\"maxBudgetUsd\":0.5}"},
        {"--allowed-tools Read,Bash", "{\"allowedTools\":\"Read,Bash\"}"},
        {"--allowed-tools Read --allowed-tools Bash", "{\"allowedTools\":[\"Read\",\"Bash\"]}"},
        {"--pre-execution-commands true", "{\"preExecutionCommands\":[\"true\"]}"},
        {"--environment-secrets A=1 --environment-secrets B==",
         "{\"environmentSecrets\":{\"A\":\"1\",\"B\":\"=\"}}"},
        {"--metadata {\"a\":[1]}", "{\"metadata\":{\"a\":[1]}}"},
        {"--post-git-push --post-git-commit --post-upload-files-glob-patterns *.log",
         "{\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true},"
         "\"uploadFiles\":{\"globPatterns\":[\"*.log\"]}}}"},
        {"--timeout-ms 5", "{\"timeout_ms\":5}"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(str) char *body = body_of("run", cases[i].line, &err);
        if (!body || strcmp(body, cases[i].body) != 0)
            fail_msg("%s: %s", cases[i].line, body ? body : err.msg);
    }
    static const char *const wrong[] = {"--max-turns x", "--metadata {",
                                        "--environment-secrets NOT_SET_HERE",
                                        "--metadata @/no/such/file"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct err err = ERR_INIT;
        assert_null(body_of("run", wrong[i], &err));
        assert_non_null(strstr(err.msg, strchr(wrong[i], '@') ? "/no/such/file" : "--"));
    }
}

static void times_are_written_as_people_do(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: none */
    } cases[] = {{"90", 90000},   {"90s", 90000}, {"10m", 600000},  {"2h", 7200000}, {"500ms", 500},
                 {"1.5m", 90000}, {"", -1},       {"x", -1},        {"10 d", -1},    {"-1", -1},
                 {"0", -1},       {"nan", -1},    {"10minutes", -1}};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err;
        int64_t ms = -1;
        int rc = fields_duration(cases[i].text, &ms, &err);
        if (ms != cases[i].ms || (rc == 0) != (ms >= 0))
            fail_msg("'%s': %lld", cases[i].text, (long long)ms);
    }
}

/* ---- events ---- */

static void note_event(const char *id, const char *name, const char *data, size_t len, void *arg)
{
    buf_addf(arg, "[%s|%s|%.*s]", id, name, (int)len, data);
}

static void events_may_be_cut_anywhere(void **state)
{
    static const char text[] =
        ":\n\nid: 0\nevent: task\ndata: {\"a\":1}\n\nid: 33\ndata: x\ndata: y\n\n"
        "\r\n\r\ndata:z\r\n\r\nevent: nothing\n\n";
    static const char want[] = "[0|task|{\"a\":1}][33||x\ny][||z]";
    (void)state;
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        AUTO(buf) struct buf got = BUF_INIT(4096);
        struct sse sse;
        sse_init(&sse, note_event, &got);
        for (size_t at = 0; at < sizeof(text) - 1; at += cut) {
            size_t left = sizeof(text) - 1 - at;
            sse_feed(&sse, text + at, left < cut ? left : cut);
        }
        assert_string_equal(buf_str(&got), want);
        sse_feed(&sse, "data: half", 10);
        sse_reset(&sse);
        sse_feed(&sse, "\n\n", 2);
        assert_string_equal(buf_str(&got), want);
        sse_done(&sse);
    }
}

/* ---- tables of tasks ---- */

static void csv_is_read_as_spreadsheets_write_it(void **state)
{
    static const char text[] = "id,prompt,x\r\n1,\"a, \"\"b\"\"\nc\",\r\n\r\n2,plain,\"\"\n3,last";
    static const char *const want[][3] = {
        {"id", "prompt", "x"}, {"1", "a, \"b\"\nc", ""}, {"2", "plain", ""}, {"3", "last", NULL}};
    struct csv csv = {text, text + sizeof(text) - 1, 1};
    AUTO(strlist) struct strlist cells = STRLIST_INIT;
    struct err err;
    (void)state;
    for (size_t row = 0; row < COUNT(want); row++) {
        assert_int_equal(csv_next(&csv, &cells, &err), 1);
        assert_int_equal(cells.count, want[row][2] ? 3 : 2);
        for (size_t i = 0; i < cells.count; i++)
            assert_string_equal(cells.items[i], want[row][i]);
    }
    assert_int_equal(csv_next(&csv, &cells, &err), 0);
    static const char open[] = "a\n\"b\nc";
    csv = (struct csv){open, open + sizeof(open) - 1, 1};
    assert_int_equal(csv_next(&csv, &cells, &err), 1);
    assert_int_equal(csv_next(&csv, &cells, &err), -1);
    assert_non_null(strstr(err.msg, "line 2"));
}

static int read_tasks(const char *name, const char *text, const struct batch_defaults *defaults,
                      struct batch_tasks *tasks, struct err *err)
{
    AUTO(str) char *dir = tmp_dir_new(), *path = textf("%s/%s", dir, name);
    write_file(path, text, 0644);
    int rc = batch_tasks_read(tasks, path, defaults, err);
    tmp_dir_free(STEAL_PTR(dir));
    return rc;
}

/* The body of the index'th task, with its last brace. */
static char *task_body(const struct batch_tasks *tasks, size_t index)
{
    const struct batch_task *task = &tasks->items[index];
    char *body = calloc(1, task->body_len + 2);
    assert_int_equal(pread(tasks->spool, body, task->body_len, task->at), task->body_len);
    body[task->body_len] = '}';
    return body;
}

static void tasks_are_read_in_every_form(void **state)
{
    static const struct {
        const char *name, *text;
    } forms[] = {
        {"t.jsonl", "{\"id\":\"a\",\"prompt\":\"say {{what}}\",\"what\":\"x\\\"y\",\"n\":3}\n\n"
                    "{\"prompt\":\"two\",\"model\":\"opus\"}\n"},
        {"t.json", "[{\"id\":\"a\",\"prompt\":\"say {{ what }}\",\"what\":\"x\\\"y\",\"n\":3},\n"
                   " {\"prompt\":\"two\",\"model\":\"opus\"}]"},
        {"t.csv",
         "\xef\xbb\xbfid,prompt,what,n,model\na,say {{what}},\"x\"\"y\",3,\n,two,,,opus\n"},
        {"t.txt", "{\"id\":\"a\",\"task\":\"say {{what}}\",\"what\":\"x\\\"y\",\"n\":\"3\"}\n"
                  "{\"task\":\"two\",\"model\":\"opus\"}"},
    };
    const struct batch_defaults defaults = {.runs = 1};
    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++) {
        struct batch_tasks tasks;
        struct err err = ERR_INIT;
        if (read_tasks(forms[i].name, forms[i].text, &defaults, &tasks, &err))
            fail_msg("%s: %s", forms[i].name, err.msg);
        assert_int_equal(tasks.count, 2);
        assert_int_equal(tasks.run_count, 4);
        assert_string_equal(tasks.items[0].id, "a");
        assert_string_equal(tasks.items[1].id, "2");
        AUTO(str) char *first = task_body(&tasks, 0), *second = task_body(&tasks, 1);
        assert_non_null(strstr(first, "\"prompt\":\"say x\\\"y\""));
        assert_non_null(strstr(second, "\"model\":\"opus\""));
        assert_non_null(strstr(second, "\"detach\":true"));
        batch_tasks_done(&tasks);
    }
}

static void a_batch_prompt_is_filled_for_each_task(void **state)
{
    const struct batch_defaults defaults = {
        .prompt = "review {{pr}}: {{title}}", .model = "haiku", .timeout_ms = 60000, .runs = 2};
    struct batch_tasks tasks;
    struct err err = ERR_INIT;
    (void)state;
    assert_int_equal(read_tasks("t.csv", "pr,title\n7,Fix {{it}}\n", &defaults, &tasks, &err), 0);
    AUTO(str) char *body = task_body(&tasks, 0);
    assert_non_null(strstr(body, "\"prompt\":\"review 7: Fix {{it}}\""));
    assert_non_null(strstr(body, "\"model\":\"haiku\",\"timeout_ms\":60000"));
    assert_int_equal(tasks.run_count, 2);
    batch_tasks_done(&tasks);
}

static void wrong_tasks_name_their_place(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"promt\":\"x\",\"prompt\":\"y\"}",
         "line 1: unknown member 'promt'; did you mean 'prompt'?"},
        {"{\"prompt\":\"y\"}\n{\"id\":\"z\"}", "line 2: has neither a prompt nor a command"},
        {"{\"prompt\":\"y\",\"command\":\"z\"}", "has a prompt and a command"},
        {"{\"prompt\":\"y\",\"n\":0}", "'n' must be 1..10000"},
        {"{\"prompt\":\"y\",\"id\":\"a\"}\n{\"prompt\":\"y\",\"id\":\"a\"}",
         "two tasks have the id 'a'"},
        {"{\"prompt\":\"y\"", "line 1"},
        {"\n", "has no tasks"},
        {"{\"prompt\":\"y\",\"inputs\":{\"../x\":\"y\"}}", "'inputs' must be names with paths"},
        {"{\"prompt\":\"y\",\"timeout\":\"soon\"}", "'timeout' must be"},
    };
    const struct batch_defaults defaults = {.runs = 1};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct batch_tasks tasks;
        struct err err = ERR_INIT;
        if (read_tasks("t.jsonl", cases[i].text, &defaults, &tasks, &err) == 0 ||
            !strstr(err.msg, cases[i].says))
            fail_msg("%s: %s", cases[i].text, err.msg);
        batch_tasks_done(&tasks);
    }
    struct batch_tasks tasks;
    struct err err = ERR_INIT;
    assert_int_equal(read_tasks("t.csv", "prompt\nsay {{nothing}}\n", &defaults, &tasks, &err), -1);
    assert_non_null(strstr(err.msg, "{{nothing}}"));
    batch_tasks_done(&tasks);
}

/* ---- text on a screen ---- */

static void lines_never_get_wider_than_the_screen(void **state)
{
    static const struct {
        const char *text;
        size_t width;
        const char *want;
    } cases[] = {
        {"plain", 10, "plain"},
        {"plain", 5, "plain"},
        {"plainer", 5, "plai…"},
        {"日本語の文字", 7, "日本語…"},
        {"日本語", 6, "日本語"},
        {"a\033[31mb\nc", 20, "a [31mb c"},
        {"bad \xff byte", 20, "bad \xef\xbf\xbd byte"},
        {"e\xcc\x81", 1, "e\xcc\x81"},
        {"x", 0, ""},
        {"🙂🙂", 3, "🙂…"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(buf) struct buf out = BUF_INIT(4096);
        screen_add_line(&out, cases[i].text, cases[i].width);
        if (strcmp(buf_str(&out), cases[i].want) != 0)
            fail_msg("'%s' at %zu: '%s'", cases[i].text, cases[i].width, buf_str(&out));
        assert_true(screen_width(buf_str(&out), out.len) <= cases[i].width);
    }
}

static void control_characters_do_not_reach_the_terminal(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(4096);
    static const char text[] = "a\033]0;title\007b\tc\nd\x9b\xc2\x9b"
                               "e\u202e";
    (void)state;
    screen_add_text(&out, text, sizeof(text) - 1);
    for (size_t i = 0; i < out.len; i++)
        assert_true((unsigned char)out.data[i] >= 0x20 || out.data[i] == '\n' ||
                    out.data[i] == '\t');
    assert_null(strstr(buf_str(&out), "\xc2\x9b"));
    assert_null(strstr(buf_str(&out), "\u202e"));
    assert_non_null(strstr(buf_str(&out), "b\tc\nd"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_anywhere_and_in_every_form),
        cmocka_unit_test(what_follows_a_command_is_its_own),
        cmocka_unit_test(a_wrong_command_line_says_what_is_near),
        cmocka_unit_test(the_table_of_commands_is_whole),
        cmocka_unit_test(options_become_the_fields_of_a_request),
        cmocka_unit_test(times_are_written_as_people_do),
        cmocka_unit_test(events_may_be_cut_anywhere),
        cmocka_unit_test(csv_is_read_as_spreadsheets_write_it),
        cmocka_unit_test(tasks_are_read_in_every_form),
        cmocka_unit_test(a_batch_prompt_is_filled_for_each_task),
        cmocka_unit_test(wrong_tasks_name_their_place),
        cmocka_unit_test(lines_never_get_wider_than_the_screen),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
