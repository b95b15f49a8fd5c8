/* One runner for all bad requests. */
#ifndef TESTS_BADINPUT_SCENE_H
#define TESTS_BADINPUT_SCENE_H

#include "testing.h"

static struct runner *runner;
static const char *const settings[] = {"AUTH_FAILURES_MAX", "10000", NULL};

static inline struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

/* ---- fields ---- */

/* A body that is refused: the field that is named (NULL: none) and part of what is said. */
static const struct bad_body {
    const char *body;
    const char *field, *message;
} bad_bodies[] = {
    {"", NULL, ""},
    {" ", NULL, ""},
    {"nonsense", NULL, ""},
    {"{", NULL, ""},
    {"[]", NULL, ""},
    {"null", NULL, ""},
    {"\"text\"", NULL, ""},
    {"{\"prompt\":\"x\"} {}", NULL, ""},
    {"{\"prompt\":\"x\"},", NULL, ""},
    {"{\"prompt\":\"x\",}", NULL, ""},
    {"{'prompt':'x'}", NULL, ""},
    {"{prompt:\"x\"}", NULL, ""},
    {"{\"prompt\":\"x\"", NULL, ""},
    {"{\"prompt\":\"x}", NULL, ""},
    {"{\"prompt\":\"a\nb\"}", NULL, ""},
    {"{\"prompt\":\"\\q\"}", NULL, ""},
    {"{\"prompt\":\"\\u12\"}", NULL, ""},
    {"{\"prompt\":\"\\ud800\"}", NULL, ""},
    {"{\"prompt\":\"a\\u0000b\"}", NULL, ""},
    {"{\"prompt\":\"\xff\"}", NULL, "UTF-8"},
    {"{\"prompt\":\"\xc0\xaf\"}", NULL, "UTF-8"},
    {"{\"prompt\":\"\xed\xa0\x80\"}", NULL, "UTF-8"},
    {"{\"prompt\":\"\xf5\x80\x80\x80\"}", NULL, "UTF-8"},
    {"\xef\xbb\xbf{\"prompt\":\"x\"}", NULL, ""},
    {"{\"prompt\":\"x\",\"prompt\":\"y\"}", NULL, "twice"},
    {"{\"prompt\":\"x\",\"maxTurns\":1e999}", NULL, ""},
    {"{\"prompt\":\"x\",\"maxTurns\":01}", NULL, ""},
    {"{\"prompt\":\"x\",\"maxTurns\":+1}", NULL, ""},
    {"{\"prompt\":\"x\",\"maxTurns\":NaN}", NULL, ""},
    {"{\"prompt\":\"x\",\"maxTurns\":0x10}", NULL, ""},
    {"{}", "prompt", ""},
    {"{\"prompt\":null}", "prompt", ""},
    {"{\"prompt\":\"\"}", "prompt", ""},
    {"{\"prompt\":\"   \\n\\t \"}", "prompt", ""},
    {"{\"prompt\":7}", "prompt", ""},
    {"{\"prompt\":[\"x\"]}", "prompt", ""},
    {"{\"promt\":\"x\"}", "promt", "did you mean 'prompt'"},
    {"{\"prompt\":\"x\",\"timeoutMinute\":1}", "timeoutMinute", "did you mean 'timeoutMinutes'"},
    {"{\"prompt\":\"x\",\"Prompt\":\"y\"}", "Prompt", "unknown"},
    {"{\"prompt\":\"x\",\"\":1}", "", "unknown"},
    {"{\"prompt\":\"x\",\"code\":\"1\"}", "code", "it is for Python"},
    {"{\"prompt\":\"x\",\"maxTurns\":-1}", "maxTurns", "got -1"},
    {"{\"prompt\":\"x\",\"maxTurns\":1.5}", "maxTurns", ""},
    {"{\"prompt\":\"x\",\"maxTurns\":\"6\"}", "maxTurns", ""},
    {"{\"prompt\":\"x\",\"maxTurns\":true}", "maxTurns", ""},
    {"{\"prompt\":\"x\",\"maxTurns\":1e300}", "maxTurns", ""},
    {"{\"prompt\":\"x\",\"maxTurns\":3,\"max_turns\":4}", "max_turns", ""},
    {"{\"prompt\":\"x\",\"timeoutMinutes\":10081}", "timeoutMinutes", "1..10080"},
    {"{\"prompt\":\"x\",\"timeout_ms\":604800001}", "timeout_ms", ""},
    {"{\"prompt\":\"x\",\"priority\":10}", "priority", "0..9"},
    {"{\"prompt\":\"x\",\"priority\":-1}", "priority", "0..9"},
    {"{\"prompt\":\"x\",\"executor\":\"moon\"}", "executor", "local"},
    {"{\"prompt\":\"x\",\"permissionMode\":\"all\"}", "permissionMode", "plan"},
    {"{\"prompt\":\"x\",\"effort\":\"none\"}", "effort", "high"},
    {"{\"prompt\":\"x\",\"allowedTools\":5}", "allowedTools", ""},
    {"{\"prompt\":\"x\",\"allowedTools\":[5]}", "allowedTools", ""},
    {"{\"prompt\":\"x\",\"detach\":\"yes\"}", "detach", ""},
    {"{\"prompt\":\"x\",\"detach\":1}", "detach", ""},
    {"{\"prompt\":\"x\",\"taskId\":\"a/b\"}", "taskId", ""},
    {"{\"prompt\":\"x\",\"taskId\":\"..\"}", "taskId", ""},
    {"{\"prompt\":\"x\",\"taskId\":\"a b\"}", "taskId", ""},
    {"{\"prompt\":\"x\",\"taskId\":\"status\"}", "taskId", ""},
    {"{\"prompt\":\"x\",\"maxBudgetUsd\":-1}", "maxBudgetUsd", ""},
    {"{\"prompt\":\"x\",\"maxBudgetUsd\":0}", "maxBudgetUsd", ""},
    {"{\"prompt\":\"x\",\"resumeSessionId\":\"../../etc\"}", "resumeSessionId", ""},
    {"{\"prompt\":\"x\",\"cwdRelative\":\"../up\"}", "cwdRelative", ""},
    {"{\"prompt\":\"x\",\"cwdRelative\":\"/etc\"}", "cwdRelative", ""},
    {"{\"prompt\":\"x\",\"callbackUrl\":\"ftp://x\"}", "callbackUrl", ""},
    {"{\"prompt\":\"x\",\"repoUrl\":\"-oProxyCommand=x\"}", "repoUrl", ""},
    {"{\"prompt\":\"x\",\"gitBranch\":\"--upload-pack=x\"}", "gitBranch", ""},
    {"{\"prompt\":\"x\",\"anthropicApiKey\":\"with space and\"}", "anthropicApiKey", ""},
    {"{\"prompt\":\"x\",\"anthropicApiKey\":\"with\\r\\nnewline\"}", "anthropicApiKey", ""},
    {"{\"prompt\":\"x\",\"limits\":{\"cpu\":-1}}", "limits.cpu", ""},
    {"{\"prompt\":\"x\",\"limits\":{\"cpus\":1}}", "limits.cpus", "did you mean"},
    {"{\"prompt\":\"x\",\"limits\":[]}", "limits", ""},
    {"{\"prompt\":\"x\",\"jsonSchema\":5}", "jsonSchema", ""},
};

#endif
