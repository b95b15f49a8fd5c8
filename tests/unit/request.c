#include "runner/request/request.h"

#include "base/fd.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY "-----BEGIN OPENSSH PRIVATE KEY-----\\nhunter2\\n-----END OPENSSH PRIVATE KEY-----\\n"

static const struct request_defaults defaults = {.where = REQUEST_CLAUDE | REQUEST_PYTHON,
                                                 .timeout_minutes = 55};

struct decoded {
    struct task_request *request;
    struct request_errors errors;
    struct err err;
};

static void auto_decoded(struct decoded *d)
{
    task_request_free(d->request);
    request_errors_done(&d->errors);
}

static struct decoded decode_with(const char *body, const struct request_defaults *with)
{
    struct decoded d = {0};
    d.request = task_request_decode(body, strlen(body), with, &d.errors, &d.err);
    return d;
}

static struct decoded decode(const char *body)
{
    return decode_with(body, &defaults);
}

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
    assert_string_equal(d.request->metadata, "\"\""); /* data, returned as it came */
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
                              "\"inSession\":\"s\",\"effort\":null}");
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
        "{\"field\":\"inSession\",\"message\":\"is not supported "
        "yet\",\"code\":\"not_supported_yet\"},"
        "{\"field\":\"prompt\",\"message\":\"is required\"}]");
}

static void a_field_whose_time_has_not_come_is_named(void **state)
{
    (void)state;
    static const char *const members[] = {
        "\"inSession\":\"s\"",
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

static void code_excludes_a_prompt(void **state)
{
    (void)state;
    AUTO(decoded) struct decoded both = decode("{\"code\":\"print(1)\",\"prompt\":\"x\"}");
    assert_int_equal(both.err.code, ERR_INVALID);
    assert_non_null(strstr(both.err.msg, "code can't be given together with 'prompt'"));
    struct request_defaults claude = {.where = REQUEST_CLAUDE, .timeout_minutes = 5};
    AUTO(decoded) struct decoded execute = decode_with("{\"code\":\"print(1)\"}", &claude);
    assert_non_null(strstr(execute.err.msg, "unknown field 'code'"));
}

static void repositories_have_the_forms_that_git_hosts_give(void **state)
{
    (void)state;
    static const char *const good[] = {
        "https://github.com/o/r",
        "https://github.com/o/r.git",
        "owner/name",
        "o/r.js",
        "git@github.com:o/r.git",
        "ssh://git@host.lan:2222/o/r",
        "ssh://host/r",
        "host:path/to/repo",
        "http://127.0.0.1:8080/r.git",
        "file:///srv/git/r.git",
        "HTTPS://GitHub.com/o/r",
        "https://[::1]:1/r",
    };
    static const char *const bad[] = {
        "o",
        "/etc/passwd",
        "o/r/s",
        "-o/r",
        "o/-r",
        "o/..",
        "../x",
        "ext::sh -c id",
        "ext::sh",
        "git://h/r",
        "ftp://h/",
        "https://h",
        "https://h/",
        "https:///r",
        "--upload-pack=x",
        "a b/c",
        "ssh://-oProxyCommand=x/r",
        "-oProxyCommand=x:r",
        "git@-x:r",
        "host:-x",
        "https://h\\\\x/r",
        "file://host/x",
        "https://h:0/r",
        "h:",
        ":r",
        "@h:r",
        "ssh://-x:pw@h",
    };
    for (size_t i = 0; i < COUNT_OF(good) + COUNT_OF(bad); i++) {
        bool is_good = i < COUNT_OF(good);
        char body[256];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",\"repoUrl\":\"%s\"}",
                 is_good ? good[i] : bad[i - COUNT_OF(good)]);
        AUTO(decoded) struct decoded d = decode(body);
        if ((d.request != NULL) != is_good)
            fail_msg("%s: %s", body, d.err.msg);
    }
}

static void a_password_in_a_repository_url_is_not_kept(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"https://u:p@h.org/r", "https://h.org/r"},
        {"https://u@h.org:8443/r", "https://h.org:8443/r"},
        {"HTTP://a:b:c@d@h.org/r@v", "HTTP://h.org/r@v"},
        {"ssh://git:pw@h.org/r", "ssh://git@h.org/r"},
        {"ssh://git@h.org/r", "ssh://git@h.org/r"},
        {"git@h.org:r", "git@h.org:r"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char body[256];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",\"repoUrl\":\"%s\"}", cases[i][0]);
        AUTO(decoded) struct decoded d = decode(body);
        if (!d.request)
            fail_msg("%s: %s", body, d.err.msg);
        assert_string_equal(d.request->repo_url, cases[i][1]);
    }
}

static void refs_follow_the_rules_of_git(void **state)
{
    (void)state;
    static const char *const good[] = {"main",         "feature/x",
                                       "v1.2.3",       "a@b",
                                       "refs/heads/x", "0123456789abcdef0123456789abcdef01234567"};
    static const char *const bad[] = {
        "a..b",   "a b",      "a~1", "a^",    "a:b", "a?",   "a*", "a[", "/a",     "a/",   "a//b",
        "a.lock", "a.lock/b", "@",   "a@{1}", ".a",  "a/.b", "a.", "-a", "a\\\\b", "a\\tb"};
    for (size_t i = 0; i < COUNT_OF(good) + COUNT_OF(bad); i++) {
        bool is_good = i < COUNT_OF(good);
        char body[256];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",\"gitRef\":\"%s\"}",
                 is_good ? good[i] : bad[i - COUNT_OF(good)]);
        AUTO(decoded) struct decoded d = decode(body);
        if ((d.request != NULL) != is_good)
            fail_msg("%s: %s", body, d.err.msg);
    }
}

static void what_is_no_object_is_refused_whole(void **state)
{
    (void)state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"", "JSON: no text at byte 0"},
        {"[1]", "the body must be a JSON object, got an array"},
        {"\"prompt\"", "the body must be a JSON object, got a string"},
        {"{\"prompt\":\"x\",\"prompt\":\"y\"}",
         "JSON: the same name twice in an object at byte 14"},
        {"{\"prompt\":\"\\u0000\"}", "JSON: NUL in a string at byte 11"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(decoded) struct decoded d = decode(cases[i].body);
        assert_null(d.request);
        assert_int_equal(d.err.code, ERR_INVALID);
        assert_int_equal(d.errors.count, 0);
        assert_string_equal(d.err.msg, cases[i].message);
    }
}

static void a_flood_of_bad_names_ends_early(void **state)
{
    (void)state;
    AUTO(buf) struct buf body = BUF_INIT(16 << 20);
    buf_addc(&body, '{');
    for (int i = 0; i < REQUEST_VALUES_MAX - 1; i++)
        buf_addf(&body, "%s\"prompt%d\":1", i ? "," : "", i);
    buf_addc(&body, '}');
    AUTO(decoded) struct decoded d = decode(buf_str(&body));
    assert_null(d.request);
    assert_int_equal(d.errors.count, REQUEST_ERRORS_MAX);
    assert_true(d.errors.more > 0);
}

static void more_values_than_a_request_can_mean_are_refused_unread(void **state)
{
    (void)state;
    AUTO(buf) struct buf body = BUF_INIT(16 << 20);
    buf_adds(&body, "{\"prompt\":\"x\",\"metadata\":[0");
    for (int i = 0; i < REQUEST_VALUES_MAX; i++)
        buf_adds(&body, ",0");
    buf_adds(&body, "]}");
    AUTO(decoded) struct decoded d = decode(buf_str(&body));
    assert_null(d.request);
    assert_int_equal(d.err.code, ERR_TOO_LARGE);
    assert_string_equal(d.err.msg, "JSON: more than 100000 values");
    assert_int_equal(d.errors.count, 0);
}

static void a_long_name_is_cut_at_a_whole_character(void **state)
{
    (void)state;
    AUTO(buf) struct buf body = BUF_INIT(65536), json = BUF_INIT(65536);
    buf_adds(&body, "{\"prompt\":\"p\",\"x");
    for (int i = 0; i < 1000; i++)
        buf_adds(&body, "\xe2\x82\xac");
    buf_adds(&body, "\":1}");
    AUTO(decoded) struct decoded d = decode(buf_str(&body));
    struct err err = ERR_INIT;
    assert_null(d.request);
    assert_true(strlen(d.errors.items[0].field) < 90);
    buf_addc(&json, '"');
    buf_adds(&json, d.errors.items[0].field);
    buf_adds(&json, d.err.msg);
    buf_addc(&json, '"');
    assert_int_equal(json_check(json.data, json.len, &err), 0);
    buf_done(&json);
}

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
        cmocka_unit_test(a_prompt_is_all_that_must_be_given),
        cmocka_unit_test(decodes_every_field_that_is_supported),
        cmocka_unit_test(a_wrong_field_is_told_with_what_it_takes_and_got),
        cmocka_unit_test(what_published_callers_pass_on_counts_as_absent),
        cmocka_unit_test(directories_are_taken_as_callers_write_them),
        cmocka_unit_test(commands_and_subagents_come_in_every_published_form),
        cmocka_unit_test(forms_that_nobody_means_are_refused),
        cmocka_unit_test(too_many_variables_are_refused_by_name),
        cmocka_unit_test(a_prompt_must_say_something),
        cmocka_unit_test(a_null_in_another_spelling_gives_nothing),
        cmocka_unit_test(the_schema_has_every_field_by_every_name),
        cmocka_unit_test(a_prompt_may_have_a_mebibyte_and_not_a_byte_more),
        cmocka_unit_test(all_wrong_fields_are_told_at_once),
        cmocka_unit_test(a_field_whose_time_has_not_come_is_named),
        cmocka_unit_test(an_empty_value_of_such_a_field_asks_for_nothing),
        cmocka_unit_test(code_excludes_a_prompt),
        cmocka_unit_test(repositories_have_the_forms_that_git_hosts_give),
        cmocka_unit_test(a_password_in_a_repository_url_is_not_kept),
        cmocka_unit_test(refs_follow_the_rules_of_git),
        cmocka_unit_test(what_is_no_object_is_refused_whole),
        cmocka_unit_test(a_flood_of_bad_names_ends_early),
        cmocka_unit_test(more_values_than_a_request_can_mean_are_refused_unread),
        cmocka_unit_test(a_long_name_is_cut_at_a_whole_character),
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
