#include "git/refs.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "git/lib.h"
#include "git/mirror.h"
#include "git/program.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- listing ------------------------------------------------------------------------------- */

int refs_list(const char *git_dir, int64_t deadline_ms, struct buf *out, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(REFS_BYTES_MAX);
    AUTO(program) struct program program = {.secret_fd = -1, .deadline_ms = deadline_ms};
    strlist_add(&program.argv, "git");
    strlist_addf(&program.argv, "--git-dir=%s", git_dir);
    strlist_add(&program.argv, "for-each-ref");
    strlist_add(&program.argv, "--format=%(objectname) %(refname)"
                               "%(if)%(*objectname)%(then) ^%(*objecttype) %(*objectname)%(end)");
    strlist_add(&program.argv, "refs/heads");
    strlist_add(&program.argv, "refs/tags");
    program_add_environment(&program.env);
    if (program_run(&program, &text, err))
        return -1;
    buf_adds(out, "# pack-refs with: sorted \n");
    for (char *rest = text.data, *line; rest && (line = strsep(&rest, "\n")) && *line;) {
        char *peeled = strstr(line, " ^");
        if (peeled)
            *peeled = '\0';
        const char *name = strchr(line, ' ');
        if (!name)
            continue;
        if (str_starts(name + 1, "refs/heads/"))
            buf_addf(out, "%.*s refs/remotes/origin/%s\n", (int)(name - line), line,
                     name + 1 + strlen("refs/heads/"));
        else
            buf_addf(out, "%s\n", line);
        if (peeled && str_starts(peeled + 2, "commit "))
            buf_addf(out, "^%s\n", peeled + 2 + strlen("commit "));
    }
    return buf_check(out, "the refs", err);
}

/* --- for a workspace ----------------------------------------------------------------------- */

void refs_print_head(const struct buf *refs, const char *head, struct buf *out)
{
    char line[512];
    int n = snprintf(line, sizeof(line), " refs/remotes/origin/%s\n", head);
    if (*head && n < (int)sizeof(line) && strstr(buf_str(refs), line))
        buf_addf(out, "ref:%s", line);
}

static int write_file(const char *git_dir, const char *name, const struct buf *text, uid_t uid,
                      gid_t gid, struct err *err)
{
    AUTO(str) char *path = path_join(git_dir, name);
    if (!path)
        return err_sys(err, "refs");
    return file_replace(path, buf_str(text), text->len, 0644, err) || path_own(path, uid, gid, err)
               ? -1
               : 0;
}

int refs_write(const char *git_dir, const struct buf *refs, const char *head, uid_t uid, gid_t gid,
               struct err *err)
{
    static const char *const places[] = {"refs", "refs/remotes", REFS_ORIGIN};
    AUTO(buf) struct buf text = BUF_INIT(512);
    if (write_file(git_dir, "packed-refs", refs, uid, gid, err))
        return -1;
    refs_print_head(refs, head, &text);
    for (size_t i = 0; text.len > 0 && i < COUNT_OF(places); i++) {
        AUTO(str) char *place = path_join(git_dir, places[i]);
        if (!place || path_make_dirs(place, 0755, err) || path_own(place, uid, gid, err))
            return place ? -1 : err_sys(err, "refs");
    }
    return text.len > 0 ? write_file(git_dir, REFS_ORIGIN "/HEAD", &text, uid, gid, err) : 0;
}

/* --- where a shallow history ends ---------------------------------------------------------- */

bool refs_are_shallow(const char *git_dir)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/shallow", git_dir);
    return access(path, F_OK) == 0;
}

int refs_copy_shallow(const char *from, const char *to, uid_t uid, gid_t gid, struct err *err)
{
    char path[4400];
    AUTO(buf) struct buf text = BUF_INIT(REFS_BYTES_MAX);
    if (!refs_are_shallow(from))
        return 0;
    snprintf(path, sizeof(path), "%s/shallow", from);
    if (file_read(path, &text, err))
        return -1;
    snprintf(path, sizeof(path), "%s/shallow", to);
    return file_replace(path, buf_str(&text), text.len, 0644, err) || path_own(path, uid, gid, err)
               ? -1
               : 0;
}

/* --- from a repository --------------------------------------------------------------------- */

static int peel(git_repository *repo, const char *name, char commit[65])
{
    git_oid oid;
    AUTO(git_reference) git_reference *ref = NULL;
    AUTO(git_object) git_object *object = NULL;
    if (git_reference_name_to_id(&oid, repo, name) || git_reference_lookup(&ref, repo, name) ||
        git_reference_peel(&object, ref, GIT_OBJECT_COMMIT))
        return -1;
    git_oid_tostr(commit, 65, git_object_id(object));
    return 0;
}

bool refs_head_is(const char *git_dir, const char *branch)
{
    char name[512], ours[65], theirs[65];
    AUTO(git_repository) git_repository *repo = NULL;
    snprintf(name, sizeof(name), "refs/heads/%s", branch);
    return git_repository_open_bare(&repo, git_dir) == 0 && peel(repo, name, ours) == 0 &&
           peel(repo, "refs/runner/HEAD", theirs) == 0 && strcmp(ours, theirs) == 0;
}

static bool is_hex(const char *text)
{
    size_t len = strlen(text);
    return len >= 7 && len <= 40 && strspn(text, "0123456789abcdefABCDEF") == len;
}

bool refs_is_id(const char *text)
{
    return strlen(text) == 40 && is_hex(text);
}

static int peel_id(git_repository *repo, const char *text, char commit[65])
{
    AUTO(git_object) git_object *object = NULL;
    AUTO(git_object) git_object *peeled = NULL;
    if (!is_hex(text) || git_revparse_single(&object, repo, text) ||
        git_object_peel(&peeled, object, GIT_OBJECT_COMMIT))
        return -1;
    git_oid_tostr(commit, 65, git_object_id(peeled));
    return 0;
}

static int resolve_ref(git_repository *repo, const char *ref, const char *branch, char commit[65],
                       char ret_branch[256], struct err *err)
{
    char name[512];
    snprintf(ret_branch, 256, "%s", branch ? branch : "");
    if (refs_is_id(ref) && peel_id(repo, ref, commit) == 0)
        return 0;
    snprintf(name, sizeof(name), "refs/heads/%s",
             str_starts(ref, "refs/heads/") ? ref + strlen("refs/heads/") : ref);
    if (peel(repo, name, commit) == 0) {
        if (!branch)
            snprintf(ret_branch, 256, "%s", name + strlen("refs/heads/"));
        return 0;
    }
    snprintf(name, sizeof(name), "refs/tags/%s",
             str_starts(ref, "refs/tags/") ? ref + strlen("refs/tags/") : ref);
    if (peel(repo, name, commit) == 0 || peel_id(repo, ref, commit) == 0)
        return 0;
    return err_set(err, ERR_NOT_FOUND, "the repository has no branch, tag or commit '%.100s'", ref);
}

int refs_resolve(const char *git_dir, const char *head, const char *branch, const char *ref,
                 char ret_commit[65], char ret_branch[256], struct err *err)
{
    char name[512];
    AUTO(git_repository) git_repository *repo = NULL;
    const char *wanted = branch ? branch : head;
    if (git_repository_open_bare(&repo, git_dir))
        return lib_err(err, "the mirror cannot be opened");
    ret_commit[0] = ret_branch[0] = '\0';
    if (ref)
        return resolve_ref(repo, ref, branch, ret_commit, ret_branch, err);
    if (!branch && !head[0])
        return peel(repo, "refs/runner/HEAD", ret_commit) ? lib_err(err, "HEAD") : 0;
    snprintf(name, sizeof(name), "refs/heads/%s", wanted);
    snprintf(ret_branch, 256, "%s", wanted);
    if (peel(repo, name, ret_commit) == 0)
        return 0;
    git_oid oid;
    if (git_reference_name_to_id(&oid, repo, name) == 0)
        return err_set(err, ERR_MISMATCH, "the commit of '%.100s' is missing", wanted);
    if (!branch)
        return 0; /* There is no commit yet. */
    return err_set(err, ERR_NOT_FOUND, "the repository has no branch '%.100s'", branch);
}

/* --- from a packed-refs file --------------------------------------------------------------- */

/* The commit of a line; for an annotated tag it is on the next line. */
static int find_line(const char *text, const char *name, char commit[65])
{
    char line[512];
    int n = snprintf(line, sizeof(line), " %s\n", name);
    const char *at = n < (int)sizeof(line) ? strstr(text, line) : NULL;
    if (!at || at - text < 40)
        return -1;
    const char *next = at + n;
    snprintf(commit, 65, "%.40s", *next == '^' ? next + 1 : at - 40);
    return 0;
}

int mirror_resolve(const char *dir, const struct mirror_state *state, const char *branch,
                   const char *ref, char ret_commit[65], char ret_branch[256], struct err *err)
{
    char path[4200], name[512];
    AUTO(buf) struct buf text = BUF_INIT(REFS_BYTES_MAX);
    snprintf(path, sizeof(path), "%s/refs-%s/.git/packed-refs", dir, state->generation);
    if (file_read(path, &text, err))
        return -1;
    const char *wanted = ref ? ref : branch ? branch : state->head;
    if (refs_is_id(wanted))
        return err_set(err, ERR_NOT_FOUND, "a commit");
    snprintf(name, sizeof(name), "refs/remotes/origin/%s", wanted);
    snprintf(ret_branch, 256, "%s", branch ? branch : wanted);
    if (*wanted && find_line(buf_str(&text), name, ret_commit) == 0)
        return 0;
    /* An annotated tag without its peeled line would give the tag's own id; the helper finds the
     * commit. */
    return err_set(err, ERR_NOT_FOUND, "not among the branches");
}
