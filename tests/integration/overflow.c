/*
 * Overflow: tasks that the runner at home hands to Cloud Run. Both halves are real: the stand-in
 * for Google's APIs starts `claude-runner job` for each execution.
 */
#include "cloud.h"
#include "stream.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANARY "canary-7a1d5e20c3-secret"
#define RUN_METHOD "run.projects.locations.jobs.run"

enum { END_MS = 90000 };

static struct api *api;
static struct cloud *cloud;
static struct runner *runner;

static int begin(void **state)
{
    (void)state;
    api = api_new();
    struct runner *job = runner_new(); /* where executions find their CLI and Anthropic's API */
    char *cli = textf("CLAUDE_BIN=%s", job->cli), *upstream = textf("ANTHROPIC_UPSTREAM=%s", api->base);
    const char *const job_env[] = {cli, upstream, NULL};
    (void)job_env;
    free(cli);
    free(upstream);
    runner_free(job);
    return 0;
}
