#include "git/receive.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "git/lib.h"
#include "git/offer.h"
#include "git/pkt.h"
#include "git/push.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFS_TYPE "application/x-git-receive-pack-advertisement"
#define REPORT_TYPE "application/x-git-receive-pack-result"
#define CAPABILITIES                                                          \
    "report-status delete-refs side-band-64k quiet atomic ofs-delta no-thin " \
    "object-format=sha1 agent=claude-runner"
#define ZERO_ID "0000000000000000000000000000000000000000"
#define WORDS_MAX (64u << 10)
#define REASON_SIZE 200
#define TOLD_AT_ONCE 20 /* refusals that are explained; further ones are only counted */

struct receive {
    const struct receive_job *job;
    struct remote remote;
    struct wishes wishes;
    char (*reasons)[REASON_SIZE]; /* for each wish: why it is refused; "" when it is not */
    char unpacked[REASON_SIZE];   /* "ok", or why the pack could not be taken */
    struct buf words;             /* messages for people */
};

static int run(const struct receive *receive, const char *const words[], struct buf *out,
               struct buf *said, struct err *err)
{
    AUTO(program) struct program program = {.secret_fd = -1};
    remote_program(&receive->remote, receive->job->place, &program);
    for (; *words; words++)
        strlist_add(&program.argv, *words);
    program.words = said;
    return program_run(&program, out, err);
}

/* --- what the remote has ------------------------------------------------------------------- */

/* Turns "id<TAB>ref" lines into packets; the first also lists what this server can do. */
static void print_refs(const struct buf *listed, struct buf *out)
{
    const char *line = buf_str(listed);
    bool any = false;
    for (size_t len; *line; line += len + (line[len] == '\n')) {
        len = strcspn(line, "\n");
        if (len < 43 || line[40] != '\t' || len > 41 + WISHES_REF_MAX)
            continue;
        if (any)
            pkt_addf(out, "%.40s %.*s\n", line, (int)len - 41, line + 41);
        else
            pkt_addf(out, "%.40s %.*s%c%s\n", line, (int)len - 41, line + 41, '\0', CAPABILITIES);
        any = true;
    }
    if (!any)
        pkt_addf(out, "%s capabilities^{}%c%s\n", ZERO_ID, '\0', CAPABILITIES);
    pkt_add_flush(out);
}

static int send_answer(const struct receive *receive, const char *type, const struct buf *body,
                       bool *ret_begun, struct err *err)
{
    if (buf_check(body, "the answer to a push", err) ||
        offer_head(receive->job->out_fd, 200, type, err))
        return -1;
    *ret_begun = true;
    return fd_write_all(receive->job->out_fd, buf_str(body), body->len) ? err_sys(err, "the client")
                                                                        : 0;
}

static int advertise(const struct receive *receive, bool *ret_begun, struct err *err)
{
    char git_dir[4200];
    AUTO(program) struct program program = {.secret_fd = -1};
    AUTO(buf) struct buf listed = BUF_INIT(PROGRAM_OUTPUT_MAX);
    AUTO(buf) struct buf out = BUF_INIT(2 * PROGRAM_OUTPUT_MAX);
    snprintf(git_dir, sizeof(git_dir), "%s/git", receive->job->mirror);
    remote_program(&receive->remote, git_dir, &program);
    strlist_add(&program.argv, "ls-remote");
    strlist_add(&program.argv, "--refs");
    strlist_add(&program.argv, "--end-of-options");
    strlist_add(&program.argv, receive->remote.text);
    if (program_run(&program, &listed, err))
        return -1;
    pkt_addf(&out, "# service=git-receive-pack\n");
    pkt_add_flush(&out);
    print_refs(&listed, &out);
    return send_answer(receive, REFS_TYPE, &out, ret_begun, err);
}

/* --- the rules ----------------------------------------------------------------------------- */

static const char *short_name(const char *ref)
{
    return str_starts(ref, "refs/heads/")  ? ref + 11
           : str_starts(ref, "refs/tags/") ? ref + 10
                                           : ref;
}

static void refuse(struct receive *receive, size_t index, const char *reason)
{
    if (!receive->reasons[index][0])
        snprintf(receive->reasons[index], REASON_SIZE, "%s", reason);
}

/* Prints the value of `gitPush` that would allow the ref. */
static void print_allowance(const struct receive *receive, const char *ref, bool force,
                            struct buf *out)
{
    const char *name = str_starts(ref, "refs/heads/") ? ref + 11 : ref;
    buf_adds(out, "To allow it, send the task with \"gitPush\":{\"branches\":[\"");
    str_add_json(out, name, strlen(name));
    buf_addf(out, "\"]%s}.\n", force || receive->job->rules.force ? ",\"force\":true" : "");
}

static void explain_ref(struct receive *receive, const struct wish *wish)
{
    const struct push_rules *rules = &receive->job->rules;
    buf_addf(&receive->words, "claude-runner: this task may not push to '%s'",
             short_name(wish->ref));
    if (rules->branches && rules->branches->count > 0) {
        buf_adds(&receive->words, ", only to ");
        strlist_join(rules->branches, ", ", &receive->words);
    }
    buf_adds(&receive->words, ". ");
    print_allowance(receive, wish->ref, wish_is_forced(wish), &receive->words);
}

static void explain_force(struct receive *receive, const struct wish *wish)
{
    buf_addf(&receive->words, "claude-runner: this would %s '%s', which takes \"force\". ",
             wish_deletes(wish)                    ? "delete"
             : str_starts(wish->ref, "refs/tags/") ? "move the tag"
                                                   : "throw away commits of",
             short_name(wish->ref));
    print_allowance(receive, wish->ref, true, &receive->words);
}

/* Checks names and kinds of changes, before the pack is read. */
static void check_names(struct receive *receive)
{
    const struct push_rules *rules = &receive->job->rules;
    size_t told = 0, more = 0;
    for (size_t i = 0; i < receive->wishes.count; i++) {
        const struct wish *wish = &receive->wishes.items[i];
        bool allowed = push_rules_allow(rules, wish->ref);
        bool forced = allowed && wish_is_forced(wish) && !rules->force;
        if (allowed && !forced)
            continue;
        refuse(receive, i, allowed ? "force is not allowed by gitPush" : "not allowed by gitPush");
        if (told++ >= TOLD_AT_ONCE)
            more++;
        else if (allowed)
            explain_force(receive, wish);
        else
            explain_ref(receive, wish);
    }
    if (more > 0)
        buf_addf(&receive->words, "claude-runner: and %zu more refs.\n", more);
}

/* Refuses changes that would drop commits which the remote has and the client lacks. */
static void check_forward(struct receive *receive)
{
    for (size_t i = 0; i < receive->wishes.count; i++) {
        const struct wish *wish = &receive->wishes.items[i];
        struct err ignored;
        AUTO(buf) struct buf out = BUF_INIT(4096);
        const char *const words[] = {"merge-base", "--is-ancestor", wish->old_id, wish->new_id,
                                     NULL};
        if (receive->job->rules.force || receive->reasons[i][0] || wish_creates(wish) ||
            wish_is_forced(wish) || run(receive, words, &out, NULL, &ignored) == 0)
            continue;
        refuse(receive, i, "non-fast-forward, and force is not allowed by gitPush");
        explain_force(receive, wish);
    }
}

/* In an atomic push one refusal refuses all. */
static void check_atomic(struct receive *receive)
{
    bool any = false;
    for (size_t i = 0; i < receive->wishes.count; i++)
        any |= receive->reasons[i][0] != '\0';
    for (size_t i = 0; any && receive->wishes.atomic && i < receive->wishes.count; i++)
        refuse(receive, i, "atomic push failed");
}

static size_t count_fine(const struct receive *receive, bool with_deletes)
{
    size_t count = 0;
    for (size_t i = 0; i < receive->wishes.count; i++)
        count +=
            !receive->reasons[i][0] && (with_deletes || !wish_deletes(&receive->wishes.items[i]));
    return count;
}

/* --- the pack ------------------------------------------------------------------------------ */

/* Fetches what the remote has now: the pack may build on commits that are newer than the mirror. */
static int learn_theirs(const struct receive *receive, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(PROGRAM_OUTPUT_MAX);
    const char *const words[] = {"fetch",
                                 "--quiet",
                                 "--no-tags",
                                 "--no-write-fetch-head",
                                 "--no-recurse-submodules",
                                 "--no-auto-maintenance",
                                 "--end-of-options",
                                 receive->remote.text,
                                 "+refs/heads/*:refs/theirs/heads/*",
                                 "+refs/tags/*:refs/theirs/tags/*",
                                 NULL};
    return run(receive, words, &out, NULL, err);
}

static int take_pack(const struct receive *receive, struct err *err)
{
    AUTO(program) struct program program = {.secret_fd = -1};
    AUTO(buf) struct buf out = BUF_INIT(65536);
    const char *const words[] = {
        "-c", "core.bigFileThreshold=16m", "index-pack", "--stdin", "--fix-thin", NULL};
    remote_program(&receive->remote, receive->job->place, &program);
    for (size_t i = 0; words[i]; i++)
        strlist_add(&program.argv, words[i]);
    program.input_fd = receive->job->body_fd;
    return program_run(&program, &out, err);
}

/* Checks that everything the new commits need is there. */
static int check_whole(struct receive *receive, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(65536);
    AUTO(program) struct program program = {.secret_fd = -1};
    remote_program(&receive->remote, receive->job->place, &program);
    static const char *const words[] = {"rev-list", "--objects", "--quiet", NULL};
    for (size_t i = 0; words[i]; i++)
        strlist_add(&program.argv, words[i]);
    for (size_t i = 0; i < receive->wishes.count; i++)
        if (!receive->reasons[i][0] && !wish_deletes(&receive->wishes.items[i]))
            strlist_add(&program.argv, receive->wishes.items[i].new_id);
    strlist_add(&program.argv, "--not");
    strlist_add(&program.argv, "--all");
    return program_run(&program, &out, err);
}

static void fail_unpack(struct receive *receive, const char *why)
{
    snprintf(receive->unpacked, REASON_SIZE, "%.*s", (int)strcspn(why, "\n"), why);
    for (size_t i = 0; i < receive->wishes.count; i++)
        refuse(receive, i, "unpacker error");
}

static void unpack(struct receive *receive)
{
    struct err err = ERR_INIT;
    const struct receive_job *job = receive->job;
    if (job->cut) {
        buf_addf(&receive->words,
                 "claude-runner: the push is larger than %lld MiB. The runner's owner can allow "
                 "more with GIT_PUSH_MAX_MB.\n",
                 (long long)job->most_mb);
        fail_unpack(receive, "the pack is too large");
    } else if (push_make_place(job->mirror, job->place, &err) || learn_theirs(receive, &err) ||
               (count_fine(receive, false) > 0 &&
                (take_pack(receive, &err) || check_whole(receive, &err)))) {
        fail_unpack(receive, err.msg);
    }
}

/* --- passing on ---------------------------------------------------------------------------- */

static void add_refs(const struct receive *receive, struct strlist *argv)
{
    for (size_t i = 0; i < receive->wishes.count; i++) {
        const struct wish *wish = &receive->wishes.items[i];
        if (!receive->reasons[i][0])
            strlist_addf(argv, "--force-with-lease=%s:%s", wish->ref,
                         wish_creates(wish) ? "" : wish->old_id);
    }
    strlist_add(argv, "--end-of-options");
    strlist_add(argv, receive->remote.text);
    for (size_t i = 0; i < receive->wishes.count; i++) {
        const struct wish *wish = &receive->wishes.items[i];
        if (!receive->reasons[i][0])
            strlist_addf(argv, "%s:%s", wish_deletes(wish) ? "" : wish->new_id, wish->ref);
    }
}

/* Passes on the remote's own messages, as lines "remote: …". */
static void pass_words(struct receive *receive, const struct buf *said)
{
    static const char mark[] = "remote: ";
    for (const char *line = buf_str(said); *line;) {
        size_t len = strcspn(line, "\r\n");
        if (len >= sizeof(mark) - 1 && memcmp(line, mark, sizeof(mark) - 1) == 0 &&
            receive->words.len + len < receive->words.max) {
            while (len > sizeof(mark) - 1 && line[len - 1] == ' ')
                len--;
            buf_add(&receive->words, line + sizeof(mark) - 1, len - (sizeof(mark) - 1));
            buf_addc(&receive->words, '\n');
        }
        line += strcspn(line, "\r\n");
        line += strspn(line, "\r\n");
    }
}

/* Reads a line of --porcelain output about the ref: "<flag>\t<from>:<to>\t<summary> (<reason>)".
 * False when it is about another ref. */
static bool judge_line(const char *line, size_t len, const struct wish *wish,
                       char reason[REASON_SIZE])
{
    const char *to = memchr(line, ':', len), *end = line + len;
    size_t n = strlen(wish->ref);
    if (len < 3 || line[1] != '\t' || !to || (size_t)(end - to) < n + 2 ||
        memcmp(to + 1, wish->ref, n) != 0 || to[1 + n] != '\t')
        return false;
    const char *summary = to + n + 2, *open = memchr(summary, '(', (size_t)(end - summary));
    reason[0] = '\0';
    if (line[0] != '!')
        return true;
    if (open && end[-1] == ')')
        snprintf(reason, REASON_SIZE, "%.*s", (int)(end - open - 2), open + 1);
    else
        snprintf(reason, REASON_SIZE, "%.*s", (int)(end - summary), summary);
    if (strcmp(reason, "stale info") == 0)
        snprintf(reason, REASON_SIZE, "%s", "fetch first: the remote has moved on");
    return true;
}

static void judge_push(struct receive *receive, const struct buf *out, const char *otherwise)
{
    for (size_t i = 0; i < receive->wishes.count; i++) {
        bool found = false;
        const char *line = buf_str(out);
        if (receive->reasons[i][0])
            continue;
        for (size_t len; *line && !found; line += len + (line[len] == '\n')) {
            len = strcspn(line, "\n");
            found = judge_line(line, len, &receive->wishes.items[i], receive->reasons[i]);
        }
        if (!found)
            refuse(receive, i, otherwise);
    }
}

static void pass_on(struct receive *receive)
{
    struct err err = ERR_INIT;
    AUTO(program) struct program program = {.secret_fd = -1};
    AUTO(buf) struct buf out = BUF_INIT(PROGRAM_OUTPUT_MAX);
    AUTO(buf) struct buf said = BUF_INIT(WORDS_MAX);
    static const char *const words[] = {
        "push", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no", NULL};
    remote_program(&receive->remote, receive->job->place, &program);
    for (size_t i = 0; words[i]; i++)
        strlist_add(&program.argv, words[i]);
    if (receive->wishes.atomic)
        strlist_add(&program.argv, "--atomic");
    add_refs(receive, &program.argv);
    program.words = &said;
    program_run(&program, &out, &err);
    pass_words(receive, &said);
    judge_push(receive, &out, err.msg[0] ? err.msg : "the remote said nothing of it");
}

/* --- the answer ---------------------------------------------------------------------------- */

static void tell(const struct receive *receive)
{
    struct json_writer w;
    for (size_t i = 0; i < receive->wishes.count; i++) {
        const struct wish *wish = &receive->wishes.items[i];
        const char *reason = receive->reasons[i];
        json_write(&w, receive->job->told);
        json_open_object(&w, NULL);
        json_add_text(&w, "ref", wish->ref);
        json_add_text(&w, "old", wish_creates(wish) ? NULL : wish->old_id);
        json_add_text(&w, "new", wish_deletes(wish) ? NULL : wish->new_id);
        json_add_bool(&w, "pushed", !reason[0]);
        if (reason[0])
            json_add_text(&w, "reason", reason);
        json_close(&w);
        buf_addc(receive->job->told, '\n');
    }
}

static void print_report(const struct receive *receive, struct buf *out)
{
    pkt_addf(out, "unpack %s\n", receive->unpacked);
    for (size_t i = 0; i < receive->wishes.count; i++) {
        const char *ref = receive->wishes.items[i].ref, *reason = receive->reasons[i];
        if (reason[0])
            pkt_addf(out, "ng %s %s\n", ref, reason);
        else
            pkt_addf(out, "ok %s\n", ref);
    }
    pkt_add_flush(out);
}

static int answer(const struct receive *receive, bool *ret_begun, struct err *err)
{
    const struct wishes *wishes = &receive->wishes;
    AUTO(buf) struct buf report = BUF_INIT(8u << 20);
    AUTO(buf) struct buf out = BUF_INIT(16u << 20);
    if (wishes->wants_report)
        print_report(receive, &report);
    if (wishes->takes_bands) {
        pkt_add_band(&out, 2, buf_str(&receive->words), receive->words.len);
        pkt_add_band(&out, 1, buf_str(&report), report.len);
        pkt_add_flush(&out);
    } else {
        buf_add(&out, buf_str(&report), report.len);
    }
    out.failed |= !buf_ok(&report);
    return send_answer(receive, REPORT_TYPE, &out, ret_begun, err);
}

static int read_wishes(struct receive *receive, struct err *err)
{
    size_t used;
    AUTO(buf) struct buf list = BUF_INIT(WISHES_BYTES_MAX + 1);
    char *room = buf_room(&list, WISHES_BYTES_MAX);
    ssize_t n = room ? fd_pread_full(receive->job->body_fd, room, WISHES_BYTES_MAX, 0) : -1;
    if (n < 0)
        return err_sys(err, "push");
    if (wishes_read(room, (size_t)n, &receive->wishes, &used, err))
        return -1;
    if (lseek(receive->job->body_fd, (off_t)used, SEEK_SET) < 0)
        return err_sys(err, "push");
    receive->reasons = calloc(receive->wishes.count + 1, REASON_SIZE);
    return receive->reasons ? 0 : err_sys(err, "push");
}

static int serve_push(struct receive *receive, bool *ret_begun, struct err *err)
{
    const struct buf nothing = BUF_INIT(1);
    if (read_wishes(receive, err))
        return -1;
    if (receive->wishes.count == 0) /* The client only tests whether it may push. */
        return send_answer(receive, REPORT_TYPE, &nothing, ret_begun, err);
    check_names(receive);
    check_atomic(receive);
    if (count_fine(receive, true) > 0) {
        unpack(receive);
        check_forward(receive);
        check_atomic(receive);
    }
    if (count_fine(receive, true) > 0)
        pass_on(receive);
    tell(receive);
    return answer(receive, ret_begun, err);
}

int receive_run(const struct receive_job *job, bool *ret_begun, struct err *err)
{
    REQUIRE(job->mirror && job->place && job->out_fd >= 0);
    struct err ignored;
    struct receive receive = {.job = job, .remote = REMOTE_INIT, .unpacked = "ok"};
    buf_init(&receive.words, WORDS_MAX);
    int rc = lib_start(err) || remote_open(&receive.remote, &job->remote, err) ? -1 : 0;
    if (rc == 0)
        rc = job->body_fd < 0 ? advertise(&receive, ret_begun, err)
                              : serve_push(&receive, ret_begun, err);
    remote_close(&receive.remote);
    wishes_done(&receive.wishes);
    free(receive.reasons);
    buf_done(&receive.words);
    if (job->body_fd >= 0)
        path_remove_tree(job->place, &ignored);
    return rc;
}
