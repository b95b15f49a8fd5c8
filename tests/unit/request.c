#include "request_scene.h"

#include <stdio.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void a_prompt_is_all_that_must_be_given(void **state)
{
    (void)state;
    AUTO(decoded) struct decoded d = decode("{\"prompt\":\"Say hi\"}");
    assert_non_null(d.request);
    assert_string_equal(d.request->prompt, "Say hi");
    assert_int_equal(d.request->timeout_ms, 55 * 60000);
    assert_int_equal(d.request->priority, 5);
    assert_int_equal(d.request->executor, EXECUTOR_AUTO);
    assert_int_equal(d.request->max_turns, 0);
    assert_null(d.request->model);
    assert_null(d.request->metadata);
    assert_false(d.request->detach);
}

static void decodes_every_field_that_is_supported(void **state)
{
    (void)state;
    AUTO(decoded)
    struct decoded d = decode(
        "{\"prompt\":\"p\",\"systemPrompt\":\"s\",\"appendSystemPrompt\":\"a\",\"allowed_tools\":"
        "[\"Read\",\"Bash(git *)\"],\"disallowedTools\":\"Edit, Bash(rm, -r)\",\"permissionMode\":"
        "\"plan\",\"max_turns\":6,\"model\":\"opus\",\"fallbackModel\":\"a,b\",\"maxBudgetUsd\":0."
        "5,"
        "\"jsonSchema\":{\"type\":\"object\"},\"effort\":\"low\",\"includePartialMessages\":true,"
        "\"useNamedPipe\":true,\"timeout_ms\":300000,\"anthropicApiKey\":\"sk-ant-123\","
        "\"executor\":\"local\",\"priority\":0,\"metadata\":{\"a\" : 1.0},\"taskId\":\"t.1~x\","
        "\"detach\":true,\"retryInterrupted\":true,\"egress\":null}");
    if (!d.request)
        fail_msg("%s", d.err.msg);
    assert_string_equal(d.request->system_prompt, "s");
    assert_int_equal(d.request->allowed_tools.count, 2);
    assert_int_equal(d.request->disallowed_tools.count, 2);
    assert_string_equal(d.request->disallowed_tools.items[1], "Bash(rm, -r)");
    assert_string_equal(d.request->permission_mode, "plan");
    assert_int_equal(d.request->max_turns, 6);
    assert_true(d.request->max_budget_usd == 0.5);
    assert_string_equal(d.request->json_schema, "{\"type\":\"object\"}");
    assert_int_equal(d.request->timeout_ms, 300000);
    assert_int_equal(d.request->timeout_minutes, 0);
    assert_string_equal(d.request->anthropic_api_key, "sk-ant-123");
    assert_int_equal(d.request->executor, EXECUTOR_LOCAL);
    assert_int_equal(d.request->priority, 0);
    assert_string_equal(d.request->metadata, "{\"a\" : 1.0}");
    assert_string_equal(d.request->task_id, "t.1~x");
    assert_true(d.request->detach && d.request->retry_interrupted && d.request->use_named_pipe);
}

static const struct {
    const char *members, *field, *message;
} wrong_fields[] = {
    {"\"timeoutMinutes\":-1", "timeoutMinutes", "must be 1..10080, got -1"},
    {"\"timeoutMinutes\":10081", "timeoutMinutes", "must be 1..10080, got 10081"},
    {"\"timeoutMinutes\":1.5", "timeoutMinutes", "must be a whole number, got 1.5"},
    {"\"timeoutMinutes\":\"5\"", "timeoutMinutes", "must be a number, got a string"},
    {"\"timeout_ms\":604800001", "timeout_ms", "must be 1..604800000, got 604800001"},
    {"\"timeout_ms\":1e300", "timeout_ms", "must be 1..604800000, got 1e+300"},
    {"\"timeout_ms\":1000,\"timeoutMinutes\":1", "timeout_ms",
     "can't be given together with 'timeoutMinutes'"},
    {"\"max_turns\":-1", "max_turns", "must be 1..10000, got -1"},
    {"\"maxTurns\":1,\"max_turns\":1", "max_turns", "was also given as 'maxTurns'"},
    {"\"gitRepo\":\"o/r\",\"repo_url\":\"o/r\"", "repo_url", "was also given as 'gitRepo'"},
    {"\"model\":\" \"", "model", "must not be blank"},
    {"\"model\":7", "model", "must be a string, got a number"},
    {"\"model\":[]", "model", "must be a string, got an array"},
    {"\"detach\":\"yes\"", "detach", "must be true or false, got a string"},
    {"\"detach\":1", "detach", "must be true or false, got a number"},
    {"\"priority\":10", "priority", "must be 0..9, got 10"},
    {"\"priority\":-1", "priority", "must be 0..9, got -1"},
    {"\"effort\":\"huge\"", "effort", "must be one of low, medium, high, xhigh or max, got 'huge'"},
    {"\"effort\":3", "effort", "must be one of low, medium, high, xhigh or max, got a number"},
    {"\"permissionMode\":\"Plan\"", "permissionMode",
     "must be one of acceptEdits, auto, bypassPermissions, default, dontAsk, manual or plan, got "
     "'Plan'"},
    {"\"executor\":\"gpu\"", "executor", "must be one of auto, local or cloud, got 'gpu'"},
    {"\"allowedTools\":[1]", "allowedTools", "must hold strings only, item 0 is a number"},
    {"\"allowedTools\":[\"Read\",\" \"]", "allowedTools",
     "must not hold blank strings, as item 1 is"},
    {"\"allowedTools\":{}", "allowedTools", "must be an array of strings, got an object"},
    {"\"jsonSchema\":3", "jsonSchema", "must be a JSON Schema object, got a number"},
    {"\"jsonSchema\":\"[]\"", "jsonSchema",
     "must be a JSON Schema object, got an array in a string"},
    {"\"jsonSchema\":\"{\"", "jsonSchema",
     "must be a JSON Schema: JSON: the text ends too early at byte 1"},
    {"\"maxBudgetUsd\":0", "maxBudgetUsd", "must be 1e-06..1000000, got 0"},
    {"\"taskId\":\"-x\"", "taskId",
     "must be 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and not "
     "begin with '.' or '-'"},
    {"\"taskId\":\"a/b\"", "taskId", NULL},
    {"\"taskId\":\"" HEX64 "0\"", "taskId", "is too long: at most 64 bytes, got 65"},
    {"\"anthropicApiKey\":\"a b c d e f\"", "anthropicApiKey",
     "must be printable ASCII without spaces"},
    {"\"anthropicApiKey\":\"short\"", "anthropicApiKey", "is too short: at least 8 bytes"},
    {"\"anthropicApiKey\":\"12345678\",\"anthropicOAuthToken\":\"12345678\"", "anthropicOAuthToken",
     "can't be given together with 'anthropicApiKey'"},
    {"\"resumeSessionId\":\"x\"", "resumeSessionId", "must be a UUID"},
    {"\"code\":\"1+1\"", "code", NULL},
    {"\"promt\":\"x\"", "promt", "unknown field 'promt'; did you mean 'prompt'?"},
    {"\"system_prompt\":\"x\"", "system_prompt",
     "unknown field 'system_prompt'; did you mean 'systemPrompt'?"},
    {"\"Prompt\":\"x\"", "Prompt", "unknown field 'Prompt'; did you mean 'prompt'?"},
    {"\"zzzzzzzzzzzz\":\"x\"", "zzzzzzzzzzzz", "unknown field 'zzzzzzzzzzzz'"},
    {"\"limits\":{\"memoryMB\":5}", "limits.memoryMB",
     "unknown field 'limits.memoryMB'; did you mean 'limits.memoryMb'?"},
    {"\"limits.cpu\":5", "limits.cpu", NULL},
    {"\"limits\":7", "limits", "must be an object, got a number"},
    {"\"limits\":{\"memoryMb\":\"x\"}", "limits.memoryMb", "must be a number, got a string"},
    {"\"postExecutionActions\":{\"git\":{\"conflictStrategy\":\"x\"}}",
     "postExecutionActions.git.conflictStrategy", "must be one of auto or fail, got 'x'"},
    {"\"command\":\"ls\"", "command", "unknown field 'command' here: it is for commands"},
    {"\"environmentSecrets\":{\"A\":\"b\",\"ANTHROPIC_API_KEY\":\"x\"}", "environmentSecrets",
     "must not set what the runner sets (a credential has a field of its own), 'ANTHROPIC_API_KEY' "
     "is not right"},
    {"\"repoUrl\":\"git://github.com/o/r\"", "repoUrl",
     "must be an https or ssh URL, user@host:path, or owner/name for GitHub"},
    {"\"cwdRelative\":\"../x\"", "cwdRelative",
     "must be a relative path without '.' and '..' parts"},
    {"\"callbackUrl\":\"ftp://x/\"", "callbackUrl", "must be an http or https URL"},
    {"\"sshKey\":\"ssh-ed25519 AAAA\"", "sshKey", "must be a private key in OpenSSH or PEM form"},
    {"\"environmentSecrets\":{\"A-B\":\"x\"}", "environmentSecrets",
     "must have names of A-Z a-z 0-9 _ that do not begin with a digit, 'A-B' is not right"},
    {"\"environmentSecrets\":{\"A\":1}", "environmentSecrets",
     "must hold strings only, 'A' is not right"},
    {"\"inputs\":{\"a\":\"sha256:x\"}", "inputs", NULL},
    {"\"inputs\":{\"../a\":\"sha256:" HEX64 "\"}", "inputs", NULL},
    {"\"inputs\":{\"a/b\":\"sha256:" HEX64 "\"}", "inputs",
     "must have file names without '/' as names, 'a/b' is not right"},
    {"\"egress\":[\"open\",\"x.org\"]", "egress",
     "must be open, none, or domain names, got 'open'"},
    {"\"egress\":[\"x.org:65536\"]", "egress",
     "must be open, none, or domain names, got 'x.org:65536'"},
    {"\"gitBranch\":\"-x\"", "gitBranch", "must be the name of a git branch, tag or commit"},
};

static void a_wrong_field_is_told_with_what_it_takes_and_got(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong_fields); i++) {
        char body[512];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",%s}", wrong_fields[i].members);
        AUTO(decoded) struct decoded d = decode(body);
        if (d.request || d.err.code != ERR_INVALID)
            fail_msg("%s: %s", body, d.err.msg);
        const struct request_error *first = &d.errors.items[0];
        for (size_t k = 1; k < d.errors.count && first->code != ERR_INVALID; k++)
            first = &d.errors.items[k];
        assert_string_equal(first->field, wrong_fields[i].field);
        if (wrong_fields[i].message)
            assert_string_equal(first->message, wrong_fields[i].message);
    }
}

static void what_published_callers_pass_on_counts_as_absent(void **state)
{
    (void)state;
    AUTO(decoded)
    struct decoded d = decode(
        "{\"prompt\":\"p\",\"timeout_ms\":0,\"timeoutMinutes\":60.0,\"max_turns\":0,"
        "\"model\":\"\",\"repoUrl\":\"\",\"allowedTools\":\"\",\"detach\":\"\",\"priority\":\"\","
        "\"executor\":\"\",\"jsonSchema\":\"\",\"mcpConfig\":{},\"limits\":\"\","
        "\"gitBranch\":null,\"metadata\":\"\"}");
    if (!d.request)
        fail_msg("%s", d.err.msg);
    assert_int_equal(d.request->timeout_ms, 60 * 60000);
    assert_int_equal(d.request->max_turns, 0);
    assert_int_equal(d.request->priority, 5);
    assert_null(d.request->model);
    assert_null(d.request->repo_url);
    assert_null(d.request->mcp_config);
    assert_null(d.request->json_schema);
    assert_int_equal(d.request->allowed_tools.count, 0);
    assert_string_equal(d.request->metadata, "\"\""); /* metadata is returned unchanged */
}

static void directories_are_taken_as_callers_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *given, *kept;
    } cases[] = {{"./tests", "tests"}, {".", NULL},     {"./", NULL},
                 {"a/b/", "a/b"},      {".//./a", "a"}, {".hidden", ".hidden"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char body[128];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",\"cwdRelative\":\"%s\"}", cases[i].given);
        AUTO(decoded) struct decoded d = decode(body);
        if (!d.request)
            fail_msg("%s: %s", body, d.err.msg);
        if (cases[i].kept)
            assert_string_equal(d.request->cwd_relative, cases[i].kept);
        else
            assert_null(d.request->cwd_relative);
    }
}

static void commands_and_subagents_come_in_every_published_form(void **state)
{
    (void)state;
    AUTO(decoded)
    struct decoded d = decode(
        "{\"prompt\":\"p\",\"mcpConfigJson\":\"{\\\"mcpServers\\\":{}}\","
        "\"slashCommands\":{\"plain\":\"Do it.\",\"rich\":{\"frontmatter\":{\"description\":\"D: "
        "x\","
        "\"allowed-tools\":[\"Read\"]},\"content\":\"Do.\"},\"bare\":{\"content\":\"C\"}},"
        "\"subagents\":{\"plain\":\"You look.\",\"rich\":{\"frontmatter\":{\"name\":\"rich\","
        "\"description\":\"Looks\",\"tools\":\"Read, Grep\",\"model\":\"haiku\"},\"content\":"
        "\"Look.\"},\"own\":{\"description\":\"O\",\"prompt\":\"P\"}}}");
    if (!d.request)
        fail_msg("%s", d.err.msg);
    assert_string_equal(d.request->mcp_config, "{\"mcpServers\":{}}");
    assert_string_equal(d.request->slash_commands,
                        "{\"plain\":\"Do it.\",\"rich\":\"---\\ndescription: \\\"D: x\\\"\\n"
                        "allowed-tools: [\\\"Read\\\"]\\n---\\nDo.\",\"bare\":\"C\"}");
    assert_string_equal(d.request->subagents,
                        "{\"plain\":{\"description\":\"plain\",\"prompt\":\"You look.\"},"
                        "\"rich\":{\"description\":\"Looks\",\"tools\":[\"Read\",\"Grep\"],"
                        "\"model\":\"haiku\",\"prompt\":\"Look.\"},"
                        "\"own\":{\"description\":\"O\",\"prompt\":\"P\"}}");
    AUTO(buf) struct buf saved = BUF_INIT(65536), secrets = BUF_INIT(65536);
    task_request_save(d.request, &saved);
    task_request_save_secrets(d.request, &secrets);
    AUTO(task_request)
    struct task_request *again =
        task_request_load(saved.data, saved.len, secrets.data, secrets.len, &d.err);
    if (!again)
        fail_msg("%s", d.err.msg);
    assert_string_equal(again->subagents, d.request->subagents);
    assert_string_equal(again->slash_commands, d.request->slash_commands);
    assert_string_equal(again->mcp_config, d.request->mcp_config);
}

static void forms_that_nobody_means_are_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"prompt\":\"p\",\"slashCommands\":{\"a\":{\"text\":\"x\"}}}",
        "{\"prompt\":\"p\",\"slashCommands\":{\"a\":{\"content\":\"x\",\"frontmatter\":7}}}",
        ("{\"prompt\":\"p\",\"slashCommands\":{\"a\":{\"content\":\"x\",\"frontmatter\":{\"a\\nb\":"
         "1}}}}"),
        "{\"prompt\":\"p\",\"slashCommands\":{\"../a\":\"x\"}}",
        "{\"prompt\":\"p\",\"slashCommands\":{\"a/b\":\"x\"}}",
        "{\"prompt\":\"p\",\"slashCommands\":{\".hidden\":\"x\"}}",
        "{\"prompt\":\"p\",\"slashCommands\":{\"\":\"x\"}}",
        "{\"prompt\":\"p\",\"slashCommands\":[\"x\"]}",
        "{\"prompt\":\"p\",\"subagents\":{\"a\":7}}",
        "{\"prompt\":\"p\",\"subagents\":{\"a\":{\"frontmatter\":{}}}}",
        "{\"prompt\":\"p\",\"mcpConfig\":\"[]\"}",
        "{\"prompt\":\"p\",\"mcpConfig\":{\"a\":1},\"mcpConfigJson\":\"{}\"}",
    };
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        AUTO(decoded) struct decoded d = decode(bodies[i]);
        if (d.request || d.errors.count != 1 || d.err.code != ERR_INVALID)
            fail_msg("%s: %s", bodies[i], d.err.msg);
    }
}

static void too_many_variables_are_refused_by_name(void **state)
{
    (void)state;
    for (int count = REQUEST_VARIABLES_MAX; count <= REQUEST_VARIABLES_MAX + 1; count++) {
        AUTO(buf) struct buf body = BUF_INIT(1 << 20);
        buf_adds(&body, "{\"prompt\":\"p\",\"environmentSecrets\":{\"V\":\"\"");
        for (int i = 1; i < count; i++)
            buf_addf(&body, ",\"V%d\":\"\"", i);
        buf_adds(&body, "}}");
        AUTO(decoded) struct decoded d = decode(buf_str(&body));
        assert_int_equal(d.request != NULL, count == REQUEST_VARIABLES_MAX);
        if (!d.request)
            assert_string_equal(d.err.msg, "environmentSecrets must have at most 1000 variables");
    }
}

static void a_prompt_must_say_something(void **state)
{
    (void)state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"{}", "prompt is required"},
        {"{\"prompt\":null}", "prompt is required"},
        {"{\"prompt\":\"\"}", "prompt must not be blank"},
        {"{\"prompt\":\" \\n\\t\\u00a0\\u3000\"}", "prompt must not be blank"},
        {"{\"prompt\":[\"x\"]}", "prompt must be a string, got an array"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(decoded) struct decoded d = decode(cases[i].body);
        assert_null(d.request);
        assert_string_equal(d.err.msg, cases[i].message);
    }
}

static void a_prompt_may_have_a_mebibyte_and_not_a_byte_more(void **state)
{
    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        AUTO(buf) struct buf body = BUF_INIT(2 << 20);
        buf_adds(&body, "{\"prompt\":\"");
        memset(buf_room(&body, REQUEST_PROMPT_MAX + extra), 'x', REQUEST_PROMPT_MAX + extra);
        buf_grew(&body, REQUEST_PROMPT_MAX + extra);
        buf_adds(&body, "\"}");
        AUTO(decoded) struct decoded d = decode(buf_str(&body));
        assert_int_equal(d.request != NULL, extra == 0);
        if (extra)
            assert_string_equal(d.err.msg,
                                "prompt is too long: at most 1048576 bytes, got 1048577");
    }
}

static void all_wrong_fields_are_told_at_once(void **state)
{
    (void)state;
    AUTO(decoded)
    struct decoded d = decode("{\"timeoutMinutes\":-1,\"promt\":\"x\",\"priority\":\"x\","
                              "\"permissionPrompts\":\"ask\",\"effort\":null}");
    AUTO(buf) struct buf json = BUF_INIT(4096);
    assert_null(d.request);
    assert_int_equal(d.err.code, ERR_INVALID);
    assert_string_equal(d.err.msg, "timeoutMinutes must be 1..10080, got -1 (and 4 more)");
    request_errors_print(&d.errors, &json);
    assert_string_equal(
        buf_str(&json),
        ",\"errors\":[{\"field\":\"timeoutMinutes\",\"message\":\"must be 1..10080, got -1\"},"
        "{\"field\":\"promt\",\"message\":\"unknown field 'promt'; did you mean 'prompt'?\"},"
        "{\"field\":\"priority\",\"message\":\"must be a number, got a string\"},"
        "{\"field\":\"permissionPrompts\",\"message\":\"is not supported "
        "yet\",\"code\":\"not_supported_yet\"},"
        "{\"field\":\"prompt\",\"message\":\"is required\"}]");
}

static void a_field_whose_time_has_not_come_is_named(void **state)
{
    (void)state;
    static const char *const members[] = {
        "\"permissionPrompts\":\"ask\"",
    };
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        char body[512];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",%s}", members[i]);
        AUTO(decoded) struct decoded d = decode(body);
        if (d.request || d.err.code != ERR_NOT_SUPPORTED_YET || d.errors.count != 1)
            fail_msg("%s: %s", body, d.err.msg);
        assert_int_equal(d.errors.items[0].code, ERR_NOT_SUPPORTED_YET);
        assert_null(strstr(d.err.msg, "hunter2"));
    }
}

static void an_empty_value_of_such_a_field_asks_for_nothing(void **state)
{
    (void)state;
    AUTO(decoded)
    struct decoded d = decode(
        "{\"prompt\":\"p\",\"preExecutionCommands\":[],\"environmentSecrets\":{},\"limits\":{},"
        "\"postExecutionActions\":{\"git\":{\"commit\":false,\"files\":[]}},\"repoUrl\":null}");
    if (!d.request)
        fail_msg("%s", d.err.msg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_all_that_must_be_given),
        cmocka_unit_test(decodes_every_field_that_is_supported),
        cmocka_unit_test(a_wrong_field_is_told_with_what_it_takes_and_got),
        cmocka_unit_test(what_published_callers_pass_on_counts_as_absent),
        cmocka_unit_test(directories_are_taken_as_callers_write_them),
        cmocka_unit_test(commands_and_subagents_come_in_every_published_form),
        cmocka_unit_test(forms_that_nobody_means_are_refused),
        cmocka_unit_test(too_many_variables_are_refused_by_name),
        cmocka_unit_test(a_prompt_must_say_something),
        cmocka_unit_test(a_prompt_may_have_a_mebibyte_and_not_a_byte_more),
        cmocka_unit_test(all_wrong_fields_are_told_at_once),
        cmocka_unit_test(a_field_whose_time_has_not_come_is_named),
        cmocka_unit_test(an_empty_value_of_such_a_field_asks_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
