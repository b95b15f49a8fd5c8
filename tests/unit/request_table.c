#include "request_scene.h"

#include "base/fd.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>

#define KEY "-----BEGIN OPENSSH PRIVATE KEY-----\\nhunter2\\n-----END OPENSSH PRIVATE KEY-----\\n"

static void defaults_hold_where_a_request_does_not_say(void **state)
{
    (void)state;
    AUTO(strlist) struct strlist tools = STRLIST_INIT;
    strlist_split(&tools, "Read,Edit");
    const struct request_defaults with = {.where = REQUEST_CLAUDE,
                                          .timeout_minutes = 5,
                                          .permission_mode = "acceptEdits",
                                          .allowed_tools = &tools,
                                          .model = "opus",
                                          .system_prompt = "Be brief."};
    AUTO(decoded) struct decoded d = decode_with("{\"prompt\":\"p\"}", &with);
    assert_int_equal(d.request->timeout_ms, 300000);
    assert_string_equal(d.request->permission_mode, "acceptEdits");
    assert_int_equal(d.request->allowed_tools.count, 2);
    assert_string_equal(d.request->model, "opus");
    assert_string_equal(d.request->system_prompt, "Be brief.");
    AUTO(decoded)
    struct decoded own = decode_with(
        "{\"prompt\":\"p\",\"permissionMode\":\"plan\",\"allowedTools\":[],\"model\":\"x\","
        "\"systemPrompt\":\"Be long.\",\"timeoutMinutes\":1}",
        &with);
    assert_int_equal(own.request->timeout_ms, 60000);
    assert_string_equal(own.request->permission_mode, "plan");
    assert_int_equal(own.request->allowed_tools.count, 0);
    assert_string_equal(own.request->model, "x");
    assert_string_equal(own.request->system_prompt, "Be long.");
}

static void assert_argv(const struct task_request *request, const char *want)
{
    struct err err = ERR_INIT;
    AUTO(strlist) struct strlist argv = STRLIST_INIT;
    AUTO(buf) struct buf text = BUF_INIT(65536);
    assert_int_equal(task_request_argv(request, &argv, &err), 0);
    strlist_join(&argv, "\n", &text);
    assert_string_equal(buf_str(&text), want);
}

#define ALWAYS                                                           \
    "-p\n--output-format\nstream-json\n--verbose\n--strict-mcp-config\n" \
    "--setting-sources=user"

static void arguments_come_from_the_table(void **state)
{
    (void)state;
    AUTO(decoded) struct decoded plain = decode("{\"prompt\":\"p\",\"systemPrompt\":\"\"}");
    assert_argv(plain.request, ALWAYS);
    AUTO(decoded)
    struct decoded d = decode(
        "{\"prompt\":\"p\",\"allowedTools\":[\"Read\",\"Bash(a, "
        "b)\"],\"maxTurns\":3,\"effort\":\"max\","
        "\"maxBudgetUsd\":1.25,\"includePartialMessages\":true,\"jsonSchema\":\"{ \\\"a\\\":1}\","
        "\"model\":\"opus\",\"anthropicApiKey\":\"sk-ant-1\",\"useNamedPipe\":true}");
    assert_argv(d.request,
                ALWAYS "\n--allowedTools=Read\n--allowedTools=Bash(a, b)\n--max-turns=3\n"
                       "--model=opus\n--max-budget-usd=1.25\n--json-schema={\"a\":1}\n"
                       "--effort=max\n--include-partial-messages");
}

static void no_value_becomes_an_option(void **state)
{
    (void)state;
    AUTO(decoded)
    struct decoded d = decode(
        "{\"prompt\":\"-p\",\"model\":\"--dangerously-skip-permissions\",\"systemPrompt\":\"--x\","
        "\"appendSystemPrompt\":\"-x\",\"fallbackModel\":\"-d\",\"allowedTools\":[\"--mcp-config\"]"
        ","
        "\"disallowedTools\":\"-p\"}");
    struct err err = ERR_INIT;
    AUTO(strlist) struct strlist argv = STRLIST_INIT;
    assert_int_equal(task_request_argv(d.request, &argv, &err), 0);
    for (size_t i = 5; i < argv.count; i++) {
        assert_memory_equal(argv.items[i], "--", 2);
        assert_non_null(strchr(argv.items[i], '='));
    }
    assert_true(strlist_has(&argv, "--model=--dangerously-skip-permissions"));
}

static void a_spec_survives_the_database(void **state)
{
    (void)state;
    AUTO(decoded)
    struct decoded d = decode(
        "{\"prompt\":\"p "
        "\\u00e9\\n\",\"allowedTools\":[\"Read\"],\"maxTurns\":3,\"maxBudgetUsd\":0.1,"
        "\"jsonSchema\":{\"a\":[1,2]},\"anthropicOAuthToken\":\"hunter2hunter2\",\"executor\":"
        "\"local\","
        "\"priority\":0,\"metadata\":{\"b\" :9007199254740993, \"a\":\"\\u20ac\"},\"detach\":true,"
        "\"timeoutMinutes\":7}");
    struct err err = ERR_INIT;
    AUTO(buf) struct buf saved = BUF_INIT(65536);
    AUTO(buf) struct buf secrets = BUF_INIT(65536);
    task_request_save(d.request, &saved);
    task_request_save_secrets(d.request, &secrets);
    assert_null(strstr(saved.data, "hunter2"));
    assert_string_equal(secrets.data, "{\"anthropicOAuthToken\":\"hunter2hunter2\"}");
    AUTO(task_request)
    struct task_request *again =
        task_request_load(saved.data, saved.len, secrets.data, secrets.len, &err);
    if (!again)
        fail_msg("%s", err.msg);
    assert_string_equal(again->metadata, "{\"b\" :9007199254740993, \"a\":\"\\u20ac\"}");
    assert_string_equal(again->anthropic_oauth_token, "hunter2hunter2");
    assert_int_equal(again->timeout_ms, 420000);
    assert_int_equal(again->priority, 0);
    AUTO(buf) struct buf twice = BUF_INIT(65536);
    task_request_save(again, &twice);
    assert_string_equal(saved.data, twice.data);
    AUTO(task_request)
    struct task_request *bare = task_request_load(saved.data, saved.len, NULL, 0, &err);
    assert_non_null(bare);
    assert_null(bare->anthropic_oauth_token);
    AUTO(buf) struct buf none = BUF_INIT(65536);
    task_request_save_secrets(bare, &none);
    assert_int_equal(none.len, 0);
    assert_null(task_request_load("{\"promt\":1}", 11, NULL, 0, &err));
    assert_int_equal(err.code, ERR_INTERNAL);
}

static void fields_to_come_survive_it_too(void **state)
{
    (void)state;
    static const char saved[] =
        "{\"prompt\":\"p\",\"repoUrl\":\"o/"
        "r\",\"egress\":[\"none\"],\"priority\":5,\"limits\":{\"cpu\":0.5},"
        "\"postExecutionActions\":{\"git\":{\"commit\":true,\"files\":[\"a\"]}}}";
    struct err err = ERR_INIT;
    AUTO(task_request)
    struct task_request *request = task_request_load(
        saved, sizeof(saved) - 1, "{\"environmentSecrets\":{\"A\":\"b\"}}", 32, &err);
    if (!request)
        fail_msg("%s", err.msg);
    AUTO(buf) struct buf twice = BUF_INIT(65536);
    task_request_save(request, &twice);
    assert_string_equal(twice.data, saved);
    assert_true(request->post && request->post_git && request->post_git_commit);
    assert_string_equal(request->environment_secrets, "{\"A\":\"b\"}");
}

static void its_secrets_can_be_registered_for_redaction(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char secrets[] = "{\"gitToken\":\"ghp_hunter1\",\"sshKey\":\"" KEY "\","
                                  "\"environmentSecrets\":{\"A\":\"hunter3\"}}";
    AUTO(task_request)
    struct task_request *request = task_request_load("{}", 2, secrets, sizeof(secrets) - 1, &err);
    struct redact_set *set = redact_new();
    assert_non_null(request);
    assert_int_equal(task_request_redact(request, set), 0);
    assert_false(redact_is_clean(set, "ghp_hunter1", 11));
    assert_false(redact_is_clean(set, "hunter3", 7));
    assert_true(redact_is_clean(set, "environmentSecrets", 18));
    redact_free(set);
}

static void the_documentation_is_what_the_table_says(void **state)
{
    (void)state;
    static const char path[] = CR_SOURCE_DIR "/runner/docs/request-fields.md";
    struct err err = ERR_INIT;
    AUTO(buf) struct buf want = BUF_INIT(1 << 20);
    AUTO(buf) struct buf have = BUF_INIT(1 << 20);
    buf_adds(
        &want,
        "# Request fields\n\nWritten from the table in `runner/request/request.h`; a test keeps "
        "the two the same.\n\n## Run Claude: `/execute`, `/run`, `/run-async`\n\n");
    request_print_markdown(REQUEST_CLAUDE, &want);
    buf_adds(&want, "\n## Run a command: `/exec`\n\n");
    request_print_markdown(REQUEST_COMMAND, &want);
    buf_adds(&want, "\n## Run Python: `/run` with `code`, `/python`\n\n");
    request_print_markdown(REQUEST_PYTHON, &want);
    assert_true(buf_ok(&want));
    if (getenv("CR_UPDATE_DOCS") && file_replace(path, want.data, want.len, 0644, &err))
        fail_msg("%s", err.msg);
    if (file_read(path, &have, &err) || strcmp(buf_str(&have), buf_str(&want)) != 0)
        fail_msg("%s is not what the table says; CR_UPDATE_DOCS=1 writes it", path);
}

static void the_table_can_be_walked(void **state)
{
    (void)state;
    struct request_field field;
    size_t count = 0;
    while (request_field_at(count, &field) == 0) {
        assert_non_null(field.name);
        assert_non_null(field.type);
        assert_true(strlen(field.help) > 0);
        assert_true(field.flags & REQUEST_TASK);
        count++;
    }
    assert_true(count > 60);
}

static void a_null_in_another_spelling_gives_nothing(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{\"prompt\":\"p\",\"repoUrl\":\"o/r\",\"gitRepo\":null}",
        "{\"prompt\":\"p\",\"gitRepo\":null,\"repoUrl\":\"o/r\"}",
    };
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        AUTO(decoded) struct decoded d = decode(good[i]);
        if (!d.request)
            fail_msg("%s: %s", good[i], d.err.msg);
        assert_string_equal(d.request->repo_url, "o/r");
    }
}

static const struct json *schema_field(const struct json *schema, const char *name)
{
    const struct json *field = json_get(json_get(schema, "properties"), name);
    if (!field)
        fail_msg("the schema has no '%s'", name);
    return field;
}

static void the_schema_has_every_field_by_every_name(void **state)
{
    (void)state;
    struct err err;
    struct request_field field;
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    request_print_schema(REQUEST_CLAUDE, &text);
    AUTO(json) struct json *schema = json_parse(buf_str(&text), text.len, &err);
    if (!schema)
        fail_msg("%s", err.msg);
    for (size_t i = 0; request_field_at(i, &field) == 0; i++) {
        char alias[64];
        if (!(field.flags & REQUEST_CLAUDE) || strchr(field.name, '.'))
            continue;
        bool secret = false;
        const struct json *found = schema_field(schema, field.name);
        json_bool(json_get(found, "writeOnly"), &secret);
        assert_int_equal(secret, (field.flags & REQUEST_SECRET) != 0);
        for (const char *at = field.aliases; at; at = strchr(at, '|')) {
            at += *at == '|';
            snprintf(alias, sizeof(alias), "%.*s", (int)strcspn(at, "|"), at);
            schema_field(schema, alias);
        }
    }
    assert_string_equal(json_text(json_first(json_get(schema, "required"))), "prompt");
    assert_null(json_get(json_get(schema, "properties"), "command"));
    const struct json *git = schema_field(schema_field(schema, "postExecutionActions"), "git");
    assert_non_null(schema_field(git, "conflictStrategy"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_null_in_another_spelling_gives_nothing),
        cmocka_unit_test(the_schema_has_every_field_by_every_name),
        cmocka_unit_test(defaults_hold_where_a_request_does_not_say),
        cmocka_unit_test(arguments_come_from_the_table),
        cmocka_unit_test(no_value_becomes_an_option),
        cmocka_unit_test(a_spec_survives_the_database),
        cmocka_unit_test(fields_to_come_survive_it_too),
        cmocka_unit_test(its_secrets_can_be_registered_for_redaction),
        cmocka_unit_test(the_documentation_is_what_the_table_says),
        cmocka_unit_test(the_table_can_be_walked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
