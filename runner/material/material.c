#include "runner/material/material.h"

#include "base/check.h"
#include "base/clock.h"

#include <string.h>

#define REPORT_BYTES_MAX (1u << 20)

const char *material_branch(const char *name)
{
    static const char heads[] = "refs/heads/";
    bool full = name && strncmp(name, heads, strlen(heads)) == 0;
    return full ? name + strlen(heads) : name && strcmp(name, "HEAD") == 0 ? NULL : name;
}

struct repo_wish material_wish(const struct task_request *request)
{
    bool head = request->git_ref && strcmp(request->git_ref, "HEAD") == 0;
    return (struct repo_wish){.url = request->repo_url,
                              .branch = material_branch(request->git_branch),
                              .ref = head ? NULL : request->git_ref,
                              .key = request->ssh_key,
                              .token = request->git_token,
                              .timeout_ms = request->timeout_ms,
                              .depth = request->git_depth,
                              .stale_ok = request->stale_ok};
}

static enum work_cause asked(struct work *work, void *arg)
{
    static const enum work_cause causes[] = {
        [STOP_NO] = WORK_ENDED, [STOP_CANCEL] = WORK_CANCEL, [STOP_INTERRUPT] = WORK_INTERRUPT};
    (void)work;
    return causes[task_run_stop(arg)];
}

struct work_stop material_stop(struct task_run *run)
{
    return (struct work_stop){.wake_fd = task_run_wake_fd(run), .asked = asked, .arg = run};
}

int material_open_repo(struct repos *repos, struct task_run *run,
                       const struct task_request *request, struct buf *members,
                       struct workspace **ret_workspace, struct err *err)
{
    const struct repo_wish wish = material_wish(request);
    const struct work_stop stop = material_stop(run);
    AUTO(buf) struct buf json = BUF_INIT(REPORT_BYTES_MAX);
    if (!wish.url)
        return 0;
    *ret_workspace = workspace_open(repos, &wish, task_run_dir(run), &stop, err);
    if (!*ret_workspace)
        return -1;
    workspace_print(*ret_workspace, &json);
    task_run_event(run, "repo", buf_str(&json), json.len);
    buf_addf(members, ",\"repo\":%s", buf_str(&json));
    return 0;
}

int material_open_gitgate(struct gitgate *gitgate, struct task_run *run,
                          const struct task_request *request, struct workspace *workspace,
                          enum egress_way way, struct gitgate_pass **ret_pass, struct err *err)
{
    const struct gitgate_wish wish = {.workspace = workspace,
                                      .repo = material_wish(request),
                                      .rules = request->git_push,
                                      .way = way};
    if (!workspace)
        return 0;
    *ret_pass = gitgate_open(gitgate, &wish, err);
    if (!*ret_pass)
        return -1;
    return redact_add(task_run_redact(run), gitgate_token(*ret_pass)) ? err_sys(err, "secrets") : 0;
}

/* True when the inputs that are being prepared are not wanted any more. */
static bool is_over(void *arg)
{
    const struct material_inputs *order = arg;
    return task_run_stop(order->run) != STOP_NO || clock_mono_ms() >= order->until_ms;
}

int material_open_inputs(const struct material_inputs *order, struct input_layers **ret_layers,
                         const char **ret_reason, struct err *err)
{
    REQUIRE(ret_layers && ret_reason);
    struct material_inputs asked_of = *order;
    const struct input_wish wish = {.request = order->request->inputs,
                                    .repos = order->repos,
                                    .workspace = order->workspace,
                                    .dir = task_run_dir(order->run),
                                    .stopped = is_over,
                                    .arg = &asked_of};
    if (!wish.request)
        return 0;
    *ret_layers = input_layers_open(order->inputs, &wish, err);
    if (*ret_layers)
        return 0;
    *ret_reason = err->code == ERR_BUSY ? "timeout" : "input_error";
    return err->code == ERR_BUSY
               ? err_set(err, ERR_TIMEOUT, "the task did not end within its time limit")
               : -1;
}
