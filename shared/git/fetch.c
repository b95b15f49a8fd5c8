/* Fetches into a mirror. */
#include "git/git_private.h"

#include "base/str.h"
#include "git/refs.h"

#include <stdio.h>
#include <string.h>

#define HEADS "refs/heads/"
#define TAGS "refs/tags/"
#define NAME_SIZE 300

static int run(const struct remote *remote, const char *git_dir, const char *const words[],
               struct buf *out, struct err *err)
{
    AUTO(program) struct program program = {.secret_fd = -1};
    remote_program(remote, git_dir, &program);
    for (; *words; words++)
        strlist_add(&program.argv, *words);
    if (program_run(&program, out, err) == 0)
        return 0;
    return strstr(err->msg, PROGRAM_SHA256) ? err_wrap(err, "'%.100s'", remote->text) : -1;
}

/* Fetches up to three refspecs; `how` is NULL or one more option. */
static int fetch(const struct remote *remote, const char *git_dir, const char *how,
                 const char *const specs[3], struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(PROGRAM_OUTPUT_MAX);
    const char *const words[] = {"fetch",
                                 "--quiet",
                                 "--no-tags",
                                 "--no-write-fetch-head",
                                 "--no-recurse-submodules",
                                 how ? how : "--no-auto-maintenance",
                                 "--end-of-options",
                                 remote->text,
                                 specs[0],
                                 specs[1],
                                 specs[1] ? specs[2] : NULL,
                                 NULL};
    return run(remote, git_dir, words, &out, err);
}

int fetch_commit(const struct remote *remote, const char *git_dir, const char *id, struct err *err)
{
    char spec[NAME_SIZE];
    const char *const specs[3] = {spec};
    snprintf(spec, sizeof(spec), "+%s:refs/runner/%s", id, id);
    return fetch(remote, git_dir, NULL, specs, err);
}

/* --- all of it ----------------------------------------------------------------------------- */

static int fetch_branches(const struct remote *remote, const char *git_dir, bool with_head,
                          struct err *err)
{
    const char *const specs[3] = {"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
                                  with_head ? "+HEAD:refs/runner/HEAD" : NULL};
    return fetch(remote, git_dir, "--prune", specs, err);
}

/* Reads the branch that the remote's HEAD names: "" when it names none. */
static void read_head(const struct buf *listed, char head[256])
{
    static const char mark[] = "ref: " HEADS;
    const char *at = strstr(buf_str(listed), mark);
    head[0] = '\0';
    if (at)
        snprintf(head, 256, "%.*s", (int)strcspn(at + strlen(mark), "\t\n"), at + strlen(mark));
    else if (listed->len == 0)
        snprintf(head, 256, "main"); /* The repository has no commits yet. */
}

static int ask_head(const struct remote *remote, const char *git_dir, char head[256],
                    struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(PROGRAM_OUTPUT_MAX);
    const char *const words[] = {"ls-remote",  "--symref", "--end-of-options",
                                 remote->text, "HEAD",     NULL};
    if (run(remote, git_dir, words, &out, err))
        return -1;
    read_head(&out, head);
    return 0;
}

/* Fetches everything. Completes a shallow repository first. */
static int fetch_whole(const struct remote *remote, const char *git_dir, struct mirror_state *state,
                       struct err *err)
{
    if (refs_are_shallow(git_dir)) {
        const char *const specs[3] = {"+refs/heads/*:refs/heads/*"};
        if (fetch(remote, git_dir, "--unshallow", specs, err))
            return -1;
        state->generation[0] = '\0';
    }
    int rc = fetch_branches(remote, git_dir, true, err);
    if (rc && err->code == ERR_NOT_FOUND && strstr(err->msg, "remote ref HEAD"))
        rc = fetch_branches(remote, git_dir, false, err);
    if (rc)
        return -1;
    if (state->head[0] && refs_head_is(git_dir, state->head))
        return 0;
    return ask_head(remote, git_dir, state->head, err);
}

/* --- as little as will do ------------------------------------------------------------------ */

/* True when the remote has listed a ref of that name. */
static bool is_listed(const struct buf *listed, const char *name)
{
    char line[NAME_SIZE + 3];
    int n = snprintf(line, sizeof(line), "\t%s\n", name);
    return n < (int)sizeof(line) && strstr(buf_str(listed), line) != NULL;
}

/* "refs/heads/x" of "x", when the remote has it. */
static bool find_ref(const struct buf *listed, const char *kind, const char *name,
                     char ret_ref[NAME_SIZE])
{
    int n = snprintf(ret_ref, NAME_SIZE, "%s%s", str_starts(name, kind) ? "" : kind, name);
    return n < NAME_SIZE && is_listed(listed, ret_ref);
}

/* Finds the one or two refspecs that the job's branch and ref need. False when the list of refs
 * does not tell. */
static bool choose_specs(const struct mirror_job *job, const struct buf *listed, const char *head,
                         char specs[2][NAME_SIZE * 2 + 2])
{
    char name[NAME_SIZE];
    const char *wanted = job->ref ? job->ref : job->branch ? job->branch : head;
    specs[1][0] = '\0';
    if (!*wanted) {
        snprintf(specs[0], sizeof(specs[0]), "+HEAD:refs/runner/HEAD");
        return is_listed(listed, "HEAD");
    }
    if (job->ref && refs_is_id(job->ref))
        snprintf(specs[0], sizeof(specs[0]), "+%s:refs/runner/%s", job->ref, job->ref);
    else if (!job->ref && !job->branch) /* listed as HEAD */
        snprintf(specs[0], sizeof(specs[0]), "+" HEADS "%s:" HEADS "%s", head, head);
    else if (find_ref(listed, HEADS, wanted, name) ||
             (job->ref && find_ref(listed, TAGS, wanted, name)))
        snprintf(specs[0], sizeof(specs[0]), "+%s:%s", name, name);
    else
        return false;
    if (job->ref && job->branch && find_ref(listed, HEADS, job->branch, name))
        snprintf(specs[1], sizeof(specs[1]), "+%s:%s", name, name);
    return true;
}

static int list_wanted(const struct mirror_job *job, const struct remote *remote,
                       const char *git_dir, struct buf *listed, struct err *err)
{
    const char *const names[] = {job->branch, job->ref};
    AUTO(program) struct program program = {.secret_fd = -1};
    remote_program(remote, git_dir, &program);
    strlist_add(&program.argv, "ls-remote");
    strlist_add(&program.argv, "--symref");
    strlist_add(&program.argv, "--end-of-options");
    strlist_add(&program.argv, remote->text);
    strlist_add(&program.argv, "HEAD");
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (names[i])
            strlist_addf(&program.argv, "%s", names[i]);
    return program_run(&program, listed, err);
}

/* Fetches only what the job needs. Returns 1 when the remote cannot do that. */
static int fetch_shallow(const struct mirror_job *job, const struct remote *remote,
                         const char *git_dir, struct mirror_state *state, struct err *err)
{
    char how[32], specs[2][NAME_SIZE * 2 + 2];
    AUTO(buf) struct buf listed = BUF_INIT(PROGRAM_OUTPUT_MAX);
    if (list_wanted(job, remote, git_dir, &listed, err))
        return -1;
    read_head(&listed, state->head);
    if (!choose_specs(job, &listed, state->head, specs))
        return 1;
    snprintf(how, sizeof(how), "--depth=%d", job->depth);
    const char *const list[3] = {specs[0], specs[1][0] ? specs[1] : NULL};
    if (fetch(remote, git_dir, how, list, err) == 0)
        return 0;
    bool away = err->code == ERR_UPSTREAM || err->code == ERR_TIMEOUT || err->code == ERR_FORBIDDEN;
    return away ? -1 : 1; /* The server knows no depth, or does not give commits by id. */
}

int fetch_refs(const struct mirror_job *job, const struct remote *remote, const char *git_dir,
               bool is_new, struct mirror_state *state, struct err *err)
{
    int rc = 1;
    if (job->depth > 0 && (is_new || refs_are_shallow(git_dir)))
        rc = fetch_shallow(job, remote, git_dir, state, err);
    return rc > 0 ? fetch_whole(remote, git_dir, state, err) : rc;
}
